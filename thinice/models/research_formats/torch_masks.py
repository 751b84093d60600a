"""Masks of zeros and ones that a file holds beside its weights: those of torch itself, and of other programs."""

from __future__ import annotations

import re
from contextlib import suppress

import torch
from torch import Tensor

from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.entries import is_zero_one

__all__ = [
    "apply_masks_beside",
    "apply_parametrized_masks",
    "apply_pruning_masks",
    "fitted_mask",
    "masked",
    "refuse_left_masks",
]


SCORES = {"popup_scores", "clean_scores", "scores", "score", "mask_scores", "mask_logits", "log_alpha", "z_loga"}
"""How methods call what ranks weights or opens their gates."""


def apply_pruning_masks(checkpoint: RawCheckpoint) -> None:
    """Multiply each ``X_orig`` by its ``X_mask`` (`torch.nn.utils.prune`) to ``X``."""
    weights = checkpoint.weights
    names = [name[: -len("_orig")] for name in weights if name.endswith("_orig") and f"{name[:-5]}_mask" in weights]
    for name in names:
        mask = weights.pop(f"{name}_mask")
        weights[name] = masked(checkpoint, name, weights.pop(f"{name}_orig"), mask)
    if names:
        checkpoint.note(f"torch.nn.utils.prune: {len(names)} masks applied")
    alone = [name[: -len("_orig")] for name in weights if name.endswith("_orig")]
    for name in alone:
        if name not in weights and f"{name}_u" not in weights:  # spectral normalisation has one of its own
            weights[name] = weights.pop(f"{name}_orig")
            checkpoint.without_masks.add(name)


def apply_parametrized_masks(checkpoint: RawCheckpoint) -> None:
    """Apply masks registered with `torch.nn.utils.parametrize`; any other parametrisation is refused."""
    weights = checkpoint.weights
    done = 0
    for key in [name for name in weights if ".parametrizations." in f".{name}" and name.endswith(".original")]:
        base = key[: -len(".original")]
        target = f".{base}".replace(".parametrizations.", ".", 1)[1:]
        value = weights.pop(key)
        parts = [name for name in weights if name.startswith(f"{base}.")]
        if not parts:
            checkpoint.without_masks.add(target)
        for part in parts:
            if part.rpartition(".")[2] != "mask":
                raise checkpoint.fail(
                    f"{part}: is a parametrisation other than a mask: save the network after folding it"
                )
            value = masked(checkpoint, part, value, weights.pop(part))
        weights[target] = value
        done += len(parts)
    left = next((name for name in weights if ".parametrizations." in f".{name}"), None)
    if left is not None:
        raise checkpoint.fail(f"{left}: is a parametrisation other than a mask: save the network after folding it")
    if done:
        checkpoint.note(f"torch.nn.utils.parametrize: {done} masks applied")


def _move_biases(checkpoint: RawCheckpoint) -> None:
    """Give the biases that torch's structured pruning calls ``_bias`` their name; those of pruned filters are zero."""
    weights = checkpoint.weights
    for layer in checkpoint.layers("_bias"):
        weight = weights.get(f"{layer}weight")
        if weight is None or f"{layer}bias" in weights or f"{layer}_bias" in (checkpoint.expected or ()):
            continue
        bias = weights.pop(f"{layer}_bias")
        if bool((bias[~weight.flatten(1).any(1)] != 0).any()):
            raise checkpoint.fail(
                f"{layer}_bias: is not zero for filters that are pruned, and the file does not say whether it is "
                "added: save the network after squash_mask()"
            )
        weights[f"{layer}bias"] = bias


def apply_masks_beside(checkpoint: RawCheckpoint) -> None:
    """Apply masks of unknown origin beside their weights.

    These are ``X.mask``, ``X._mask``, ``X.weight_mask`` and ``X.weight.mask`` at ``X.weight``, ``X_mask`` at ``X``,
    and ``X.__weight_mma_mask`` (NVIDIA's apex) at ``X.weight``.
    """
    weights = checkpoint.weights
    targets: dict[str, str] = {}
    for key in weights:
        layer, _, leaf = key.rpartition(".")
        if leaf == "mask" and layer in weights:
            targets[key] = layer
        elif leaf in {"mask", "_mask", "masks", "weight_mask", "_weight_mask"}:
            targets[key] = f"{layer}.weight" if layer else "weight"
        elif apex := re.fullmatch(r"__(\w+)_mma_mask", leaf):
            targets[key] = f"{layer}.{apex[1]}"
        elif key.endswith("_mask"):
            targets[key] = key.removesuffix("_mask")
    done = [(key, target) for key, target in targets.items() if target in weights]
    for key, target in done:
        weights[target] = masked(checkpoint, key, weights[target], weights.pop(key))
    if done:
        checkpoint.note(f"{len(done)} masks beside the weights applied")


def refuse_left_masks(checkpoint: RawCheckpoint) -> None:
    """Raise CheckpointError for masks that are not in the file, and for tensors called masks that no reader applied.

    Tensors that the user's own network has are left alone.
    """
    _move_biases(checkpoint)
    if checkpoint.without_masks:
        name = min(checkpoint.without_masks)
        raise checkpoint.fail(
            f"{name}: has a mask that is not in the file (torch.ao.pruning keeps them in the sparsifier): save the "
            "network after sparsifier.squash_mask(), or give the masks, or the sparsifier's state_dict(), as "
            "masks= (--masks); masks='none' takes the weights as they are"
        )
    for name, value in checkpoint.weights.items():
        leaf = name.rpartition(".")[2]
        if leaf in SCORES and name not in (checkpoint.expected or ()):
            raise checkpoint.fail(
                f"{name}: holds scores of a method that thinice does not know: save the masked weights instead"
            )
        if "mask" in leaf.lower() and name not in (checkpoint.expected or ()) and value.ndim > 0:
            raise checkpoint.fail(
                f"{name}: is called a mask, but no weight is where it belongs: save the masked weights instead, or "
                "give the code of the network (--architecture FILE.py:CLASS)"
            )


def masked(checkpoint: RawCheckpoint, key: str, weight: Tensor, mask: Tensor) -> Tensor:
    """Return the weight with zeros where its mask has zeros or False; `key` names the mask in errors."""
    return checkpoint.masked(weight, fitted_mask(checkpoint, key, weight, mask))


def fitted_mask(checkpoint: RawCheckpoint, key: str, weight: Tensor, mask: Tensor) -> Tensor:
    """Return a mask of zeros and ones in the shape of its weight, True where it is kept.

    One number a filter, or a kernel, is laid on these (FakeStructuredSparsity) where it does not fit the other side.

    Raises
    ------
    CheckpointError
        Other numbers, or a shape that fits no way, or two ways.
    """
    if mask.dtype != torch.bool and not is_zero_one(mask):
        raise checkpoint.fail(f"{key}: is no mask of zeros and ones")
    shape, keeps = tuple(mask.shape), mask.to(torch.bool)
    ways: list[Tensor] = []
    if mask.ndim < weight.ndim and shape == tuple(weight.shape[: mask.ndim]):
        ways.append(keeps.view(*shape, *[1] * (weight.ndim - mask.ndim)).expand_as(weight))
    with suppress(RuntimeError):
        ways.append(keeps.expand_as(weight))
    if not ways:
        raise checkpoint.fail(f"{key}: shape {shape} does not fit a weight of shape {tuple(weight.shape)}")
    if not torch.equal(ways[0], ways[-1]):
        raise checkpoint.fail(
            f"{key}: shape {shape} fits both sides of a weight of shape {tuple(weight.shape)}: save the masked weights "
            "instead"
        )
    return ways[0]
