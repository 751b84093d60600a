"""Masks of zeros and ones that a file holds beside its weights: those of torch itself, and of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from thinice.models.research_formats import PREFIXES, RawCheckpoint

__all__ = ["apply_masks_beside", "apply_outer_masks", "apply_parametrized_masks", "apply_pruning_masks", "masked"]


def apply_pruning_masks(checkpoint: RawCheckpoint) -> None:
    """Multiply each ``X_orig`` by its ``X_mask`` (`torch.nn.utils.prune`) to ``X``."""
    weights = checkpoint.weights
    names = [name[: -len("_orig")] for name in weights if name.endswith("_orig") and f"{name[:-5]}_mask" in weights]
    for name in names:
        mask = weights.pop(f"{name}_mask")
        weights[name] = masked(checkpoint, name, weights.pop(f"{name}_orig"), mask)
    if names:
        checkpoint.note(f"torch.nn.utils.prune: {len(names)} masks applied")


def apply_parametrized_masks(checkpoint: RawCheckpoint) -> None:
    """Apply masks registered with `torch.nn.utils.parametrize`; any other parametrisation is refused."""
    weights = checkpoint.weights
    done = 0
    for key in [name for name in weights if ".parametrizations." in f".{name}" and name.endswith(".original")]:
        base = key[: -len(".original")]
        target = f".{base}".replace(".parametrizations.", ".", 1)[1:]
        value = weights.pop(key)
        for part in [name for name in weights if name.startswith(f"{base}.")]:
            if part.rpartition(".")[2] != "mask":
                raise checkpoint.fail(
                    f"{part}: is a parametrisation other than a mask: save the network after folding it"
                )
            value = masked(checkpoint, part, value, weights.pop(part))
        weights[target] = value
        done += 1
    left = next((name for name in weights if ".parametrizations." in f".{name}"), None)
    if left is not None:
        raise checkpoint.fail(f"{left}: is a parametrisation other than a mask: save the network after folding it")
    if done:
        checkpoint.note(f"torch.nn.utils.parametrize: {done} masks applied")


def apply_masks_beside(checkpoint: RawCheckpoint) -> None:
    """Apply masks of unknown origin beside their weights: ``X.mask`` or ``X.weight_mask`` at ``X.weight``."""
    weights = checkpoint.weights
    targets: dict[str, str] = {}
    for key in weights:
        layer, _, leaf = key.rpartition(".")
        if leaf in {"mask", "weight_mask"}:
            targets[key] = f"{layer}.weight" if layer else "weight"
        elif key.endswith("_mask"):
            targets[key] = key.removesuffix("_mask")
    done = [(key, target) for key, target in targets.items() if target in weights]
    for key, target in done:
        weights[target] = masked(checkpoint, key, weights[target], weights.pop(key))
    if done:
        checkpoint.note(f"{len(done)} masks beside the weights applied")


def apply_outer_masks(checkpoint: RawCheckpoint) -> None:
    """Apply dicts of masks that stand outside the state dict."""
    done = 0
    for key, target, mask in _outer_masks(checkpoint):
        checkpoint.weights[target] = masked(checkpoint, key, checkpoint.weights[target], mask)
        done += 1
    if done:
        checkpoint.note(f"{done} masks outside the state dict applied")


def _outer_masks(checkpoint: RawCheckpoint) -> Iterator[tuple[str, str, Tensor]]:
    """Yield key, parameter and mask of dicts of masks outside the state dict, such as FlyingBird's ``mask_info``."""
    info = checkpoint.outer.get("mask_info")
    inside = info.get("masks") if isinstance(info, Mapping) else None
    for where, masks in (
        ("mask_info.masks", inside),
        ("masks", checkpoint.outer.get("masks")),
        ("mask", checkpoint.outer.get("mask")),
    ):
        if not isinstance(masks, Mapping):
            continue
        for name, mask in masks.items():
            if not isinstance(mask, Tensor):
                continue
            bare = str(name)
            for prefix in PREFIXES:
                bare = bare.removeprefix(prefix) if bare not in checkpoint.weights else bare
            stem, _, number = bare.rpartition("_")
            choices = (bare, f"{bare}.weight", stem if number.isdigit() else bare)
            target = next((choice for choice in choices if choice in checkpoint.weights), None)
            if target is None:
                raise checkpoint.fail(f"{where}.{name}: is a mask for no parameter of the network")
            yield f"{where}.{name}", target, mask


def masked(checkpoint: RawCheckpoint, key: str, weight: Tensor, mask: Tensor) -> Tensor:
    """Return the weight with zeros where its mask has zeros or False; `key` names the mask in errors."""
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise checkpoint.fail(f"{key}: is no mask of zeros and ones")
    try:
        is_kept = mask.to(torch.bool).expand_as(weight)
    except RuntimeError:
        raise checkpoint.fail(
            f"{key}: shape {tuple(mask.shape)} does not fit a weight of shape {tuple(weight.shape)}"
        ) from None
    return torch.where(is_kept, weight, torch.zeros_like(weight))
