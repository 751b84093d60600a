"""Checkpoints as found in the wild: nesting, prefixes and parametrisations become plain weights with zeros.

Each reader looks for the names that one family of programs writes, turns what it finds into plain weights, and
says so in a note. The facts are those of the published code of each method.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from thinice.errors import CheckpointError
from thinice.models.files import MOST_TENSORS
from thinice.models.pickles import plain

if TYPE_CHECKING:
    from thinice.models.normalization import Normalization

__all__ = ["Found", "find_weights", "plain_weights"]

NESTS = ("state_dict", "net", "model", "model_state_dict", "weights", "state_dict_ema", "ema", "params")
PREFIXES = (
    "module.basic_model.",
    "basic_model.",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "0.",
    "1.",
)
LONGEST_NAME = 500
"""Letters in the name of a parameter."""
HARP_ALPHA = 0.1
"""HARP's smallest density of a layer, as a part of the global one."""


@dataclass(slots=True)
class Found:
    """What one file turned out to hold: weights on the way to plain ones, and what was done to them."""

    where: str
    weights: dict[str, Tensor]
    outer: Mapping[str, Any]
    density: float | None = None
    normalization: Normalization | None = None
    notes: list[str] = field(default_factory=list)

    def layers(self, leaf: str) -> list[str]:
        """Return the layers that have a tensor of this name, as prefixes that end in a dot (or are empty)."""
        return [name[: -len(leaf)] for name in self.weights if name == leaf or name.endswith(f".{leaf}")]

    def fail(self, message: str) -> CheckpointError:
        """Return an error that names the file."""
        return CheckpointError(f"{self.where}: {message}")

    def note(self, message: str) -> None:
        """Keep a sentence for the user."""
        self.notes.append(message)


def find_weights(held: object, where: str, *, density: float | None = None) -> Found:
    """Return the state dict inside what a file holds: itself, or nested under a usual name.

    Raises
    ------
    CheckpointError
        Nothing there, naming the entries that are.

    Examples
    --------
    >>> found = find_weights({"epoch": 3, "state_dict": {"weight": torch.zeros(2)}}, "a.pt")
    >>> list(found.weights), found.notes
    (['weight'], ['weights found under state_dict'])
    """
    outer: Mapping[str, Any] = {}
    path: list[str] = []
    seen: dict[int, bool] = {}
    while isinstance(held, Mapping):
        tensors = {name: value for name, value in held.items() if isinstance(value, Tensor) and isinstance(name, str)}
        nest = next((key for key in NESTS if _holds_tensors(held.get(key), seen)), None)
        if tensors and nest is None:
            _check_names(tensors, where)
            found = Found(where, {name: value.detach() for name, value in tensors.items()}, outer, density)
            if path:
                found.note(f"weights found under {'.'.join(path)}")
            if others := sorted(plain(name) for name in held.keys() - tensors.keys()):
                found.note(f"entries beside the weights were not used: {', '.join(others[:5])}")
            return found
        if nest is None:
            break
        outer = dict(outer) | {key: value for key, value in held.items() if key != nest}
        path.append(nest)
        held = held[nest]
    entries = ", ".join(plain(name) for name in list(held)[:8]) if isinstance(held, Mapping) else type(held).__name__
    raise CheckpointError(f"{where}: holds no weights, only {entries or 'nothing'}: save the network's state_dict()")


def _check_names(weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse what is no state dict of a network: too many tensors, and names that no program writes."""
    if len(weights) > MOST_TENSORS:
        raise CheckpointError(f"{where}: holds more than {MOST_TENSORS} tensors: save the network's state_dict()")
    for name in weights:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CheckpointError(f"{where}: {plain(name)} is no name of a parameter: save the network's state_dict()")


def _holds_tensors(held: object, seen: dict[int, bool]) -> bool:
    """Return whether something is a mapping with tensors in it, or in one under a usual name; each is visited once."""
    if not isinstance(held, Mapping):
        return False
    if id(held) not in seen:
        seen[id(held)] = False  # until it is known: what contains itself holds no more for that
        seen[id(held)] = any(isinstance(value, Tensor) for value in held.values()) or any(
            _holds_tensors(held.get(key), seen) for key in NESTS
        )
    return seen[id(held)]


def plain_weights(found: Found) -> Found:
    """Return the same find with plain weights: conversions done, prefixes gone, normalisation taken out.

    Raises
    ------
    CheckpointError
        A format that is recognised but cannot be converted, naming the key and the way out.
    """
    _strip(found)
    for convert in CONVERSIONS:
        convert(found)
    _strip(found)  # folding may leave a prefix that all share
    return found


def _strip(found: Found) -> None:
    while True:
        if _take_normalization(found):
            continue
        prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in found.weights)), None)
        if prefix is None or not found.weights:
            return
        found.weights = {name[len(prefix) :]: value for name, value in found.weights.items()}
        found.note(f"prefix {prefix} removed from all parameters")


def _take_normalization(found: Found) -> bool:
    """Move a layer that holds nothing but ``mean`` and ``std`` out of the weights; tell whether there was one."""
    inside = Counter(name[: dot.end()] for name in found.weights for dot in re.finditer(r"\.", name))
    for layer in found.layers("mean"):
        mean, std = found.weights[f"{layer}mean"], found.weights.get(f"{layer}std")
        if std is None or mean.shape != std.shape or mean.numel() > 4 or (layer and inside[layer] > 2):
            continue
        if found.normalization is not None:
            raise found.fail(f"has two normalisation layers, one of them {layer}mean: save the inner network alone")
        found.normalization = _decimals(mean), _decimals(std)
        del found.weights[f"{layer}mean"], found.weights[f"{layer}std"]
        found.note(f"normalisation found inside, as {layer}mean and {layer}std")
        return True
    return False


def _decimals(values: Tensor) -> tuple[float, ...]:
    # the shortest decimal that float32 reads back exactly
    return tuple(float(str(value)) for value in values.float().flatten().numpy())


def _drop_copies(found: Found) -> None:
    """Li et al. 2020 hold every tensor twice: by its name, and again inside a Sequential called ``model``."""
    copies = [name for name in found.weights if name.startswith("model.")]
    named = {name: value for name, value in found.weights.items() if not name.startswith("model.")}
    if not copies or not named:
        return
    ends = {(name[dot.end() :], _content(value)) for name, value in named.items() for dot in re.finditer(r"\.", name)}
    if not all((name.split(".", 2)[-1], _content(found.weights[name])) in ends for name in copies):
        return
    found.weights = named
    found.note(f"{len(copies)} copies under model. dropped; they equal the parameters beside them")


def _content(values: Tensor) -> tuple[object, ...]:
    """Return what equal tensors have in common, to be looked up."""
    return (
        values.dtype,
        values.shape,
        sha256(values.contiguous().flatten().view(torch.uint8).numpy().tobytes()).digest(),
    )


def _drop_unused(found: Found) -> None:
    """WideResNets of TRADES and HYDRA carry a block that no input ever passes; profilers leave counters behind."""
    if any(name.startswith("block1.") for name in found.weights):
        unused = [name for name in found.weights if name.startswith("sub_block1.")]
        if unused:
            found.note(f"{len(unused)} parameters of sub_block1 dropped; the network never uses them")
    else:
        unused = []
    counters = [name for name in found.weights if name.rpartition(".")[2] in {"total_ops", "total_params"}]
    if counters:
        found.note(f"{len(counters)} counters of a profiler dropped (total_ops, total_params)")
    for name in unused + counters:
        del found.weights[name]


def _pruned_by_torch(found: Found) -> None:
    names = [
        name[: -len("_orig")]
        for name in found.weights
        if name.endswith("_orig") and f"{name[:-5]}_mask" in found.weights
    ]
    for name in names:
        mask = found.weights.pop(f"{name}_mask")
        found.weights[name] = _masked(found, name, found.weights.pop(f"{name}_orig"), mask)
    if names:
        found.note(f"torch.nn.utils.prune: {len(names)} masks applied")


def _parametrized_by_torch(found: Found) -> None:
    done = 0
    for key in [name for name in found.weights if ".parametrizations." in f".{name}" and name.endswith(".original")]:
        base = key[: -len(".original")]
        target = f".{base}".replace(".parametrizations.", ".", 1)[1:]
        value = found.weights.pop(key)
        for part in [name for name in found.weights if name.startswith(f"{base}.")]:
            if part.rpartition(".")[2] != "mask":
                raise found.fail(f"{part}: is a parametrisation other than a mask: save the network after folding it")
            value = _masked(found, part, value, found.weights.pop(part))
        found.weights[target] = value
        done += 1
    left = next((name for name in found.weights if ".parametrizations." in f".{name}"), None)
    if left is not None:
        raise found.fail(f"{left}: is a parametrisation other than a mask: save the network after folding it")
    if done:
        found.note(f"torch.nn.utils.parametrize: {done} masks applied")


def _scored_by_harp(found: Found) -> None:
    layers = [layer for layer in found.layers("popup_scores") if f"{layer}k_score" in found.weights]
    if not layers:
        return
    density = _density(found, "HARP", f"{layers[0]}k_score")
    smallest = HARP_ALPHA * density
    alive = total = 0
    for layer in layers:
        weight = found.weights[f"{layer}weight"]
        scores = found.weights.pop(f"{layer}popup_scores").abs()
        # in float32, as the original does
        rate = torch.sigmoid(found.weights.pop(f"{layer}k_score").float()) * (1 - smallest) + smallest
        if scores.shape == weight.shape:
            mask = _highest(scores, scores.numel() - int((1 - rate) * scores.numel()))
        elif scores.numel() == weight.shape[1] == scores.shape[1]:
            mask = _highest(scores, int(torch.round(rate * scores.numel())))
        else:
            raise found.fail(
                f"{layer}popup_scores: HARP scores of shape {tuple(scores.shape)} do not rank the input channels of a "
                f"weight of shape {tuple(weight.shape)}: take the checkpoint after fine-tuning"
            )
        mask = mask.expand_as(weight)
        found.weights[f"{layer}weight"] = _masked(found, layer, weight, mask)
        alive, total = alive + int(mask.sum()), total + mask.numel()
    found.note(
        f"HARP scores of {len(layers)} layers applied with a global density of {density:g}: "
        f"{alive / total:.4f} of the weights are kept"
        + (
            ""
            if abs(alive / total - density) < 0.02 * density + 0.001
            else "; these should be equal: check `density` (--density)"
        )
    )


def _scored_by_hydra(found: Found) -> None:
    _scored(found, "HYDRA", "popup_scores")


def _scored_by_rst(found: Found) -> None:
    _scored(found, "RST", "scores")


def _scored(found: Found, method: str, leaf: str) -> None:
    layers = [layer for layer in found.layers(leaf) if f"{layer}weight" in found.weights]
    if not layers:
        return
    density = _density(found, method, f"{layers[0]}{leaf}")
    for layer in layers:
        weight, scores = found.weights[f"{layer}weight"], found.weights.pop(f"{layer}{leaf}").abs()
        if scores.shape != weight.shape:
            raise found.fail(
                f"{layer}{leaf}: scores of shape {tuple(scores.shape)} for a weight of shape {tuple(weight.shape)} are "
                f"not a {method} checkpoint that can be converted: save the masked weights instead"
            )
        mask = _highest(scores, scores.numel() - int((1 - density) * scores.numel()))
        found.weights[f"{layer}weight"] = _masked(found, layer, weight, mask)
    found.note(f"{method} scores of {len(layers)} layers applied with a density of {density:g} in each layer")


def _highest(scores: Tensor, count: int) -> Tensor:
    """Return True for the `count` highest scores; equal scores fall by position, the first go."""
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().argsort(stable=True)[: scores.numel() - count]] = False
    return mask.view(scores.shape)


def _density(found: Found, method: str, key: str) -> float:
    if found.density is None:
        raise found.fail(
            f"{key}: holds {method} scores, but the file does not say which fraction of the weights they keep: give "
            "density=0.1 (--density 0.1) for a sparsity of 90 %"
        )
    return found.density


def _masked_by_mad(found: Found) -> None:
    layers = [layer for layer in found.layers("mask_weight") if f"{layer}weight" in found.weights]
    for layer in layers:
        for leaf in ("weight", "bias"):
            strength = found.weights.pop(f"{layer}mask_{leaf}", None)
            if strength is not None:
                found.weights[layer + leaf] = found.weights[layer + leaf] * functional.softplus(strength)
    if layers:
        found.note(f"MAD masks of {len(layers)} layers applied (weight times softplus of the mask)")


def _reparametrised_by_twinrep(found: Found) -> None:
    layers = [layer for layer in found.layers("aux_weight") if f"{layer}weight" in found.weights]
    # one form a file: in the channel form, a square linear layer has a twin of its own shape as well
    twins = all(found.weights[f"{layer}aux_weight"].shape == found.weights[f"{layer}weight"].shape for layer in layers)
    for layer in layers:
        weight, twin = found.weights[f"{layer}weight"], found.weights.pop(f"{layer}aux_weight")
        if twins:
            weight = weight * twin
        elif twin.shape == (weight.shape[0], weight.shape[0]):
            weight = (twin @ weight.flatten(1)).view_as(weight)
        else:
            raise found.fail(
                f"{layer}aux_weight: shape {tuple(twin.shape)} fits no weight of shape {tuple(weight.shape)}"
            )
        mask = found.weights.pop(f"{layer}mask", None)
        found.weights[f"{layer}weight"] = weight if mask is None else _masked(found, f"{layer}mask", weight, mask)
    if layers:
        found.note(f"TwinRep: {len(layers)} pairs of weights multiplied")


def _factored_by_atmc(found: Found) -> None:
    layers = [layer for layer in found.layers("weightA") if f"{layer}weightB" in found.weights]
    zeros = total = dense = 0
    for layer in layers:
        inner, outer = found.weights.pop(f"{layer}weightA"), found.weights.pop(f"{layer}weightB")
        eye = found.weights.pop(f"{layer}eye_const", None)
        rest = found.weights.pop(f"{layer}weightC", None)
        # W = (B + I) A + C; where the rank is that of the inputs, W = B (A + I) + C
        flat_inner, flat_outer = inner.flatten(1), outer.flatten(1)
        if eye is None:
            product = flat_outer @ flat_inner
        elif eye.shape == flat_inner.shape:
            product = flat_outer @ (flat_inner + eye)
        elif eye.shape == flat_outer.shape:
            product = (flat_outer + eye) @ flat_inner
        else:
            raise found.fail(f"{layer}eye_const: shape {tuple(eye.shape)} fits neither weightA nor weightB")
        weight = product.reshape(outer.shape[0], *inner.shape[1:])
        found.weights[f"{layer}weight"] = weight if rest is None else weight + rest.reshape(weight.shape)
        factors = [factor for factor in (inner, outer, rest) if factor is not None]
        zeros += sum(int((factor == 0).sum()) for factor in factors)
        total += sum(factor.numel() for factor in factors)
        dense += weight.numel()
    if layers:
        found.note(
            f"ATMC factors of {len(layers)} layers multiplied; {total - zeros} non-zero factors stand for {dense} "
            f"weights, a sparsity of {1 - (total - zeros) / dense:.4f} that the product does not show"
        )


def _masks_beside(found: Found) -> None:
    """Masks of unknown origin: ``X.mask`` beside ``X.weight``, ``X.weight_mask``, and dicts of masks outside."""
    done = 0
    for key in [name for name in found.weights if name.rpartition(".")[2] in {"mask", "weight_mask"}]:
        layer = key.rpartition(".")[0]
        target = f"{layer}.weight" if layer else "weight"
        if target in found.weights:
            found.weights[target] = _masked(found, key, found.weights[target], found.weights.pop(key))
            done += 1
    for key in [name for name in found.weights if name.endswith("_mask") and name[: -len("_mask")] in found.weights]:
        target = key[: -len("_mask")]
        found.weights[target] = _masked(found, key, found.weights[target], found.weights.pop(key))
        done += 1
    for key, target, mask in _outer_masks(found):
        found.weights[target] = _masked(found, key, found.weights[target], mask)
        done += 1
    if done:
        found.note(f"{done} masks beside the weights applied")


def _outer_masks(found: Found) -> Iterator[tuple[str, str, Tensor]]:
    """Yield key, parameter and mask of dicts of masks outside the state dict, such as FlyingBird's ``mask_info``."""
    info = found.outer.get("mask_info")
    inside = info.get("masks") if isinstance(info, Mapping) else None
    for where, masks in (
        ("mask_info.masks", inside),
        ("masks", found.outer.get("masks")),
        ("mask", found.outer.get("mask")),
    ):
        if not isinstance(masks, Mapping):
            continue
        for name, mask in masks.items():
            if not isinstance(mask, Tensor):
                continue
            plain = str(name)
            for prefix in PREFIXES:
                plain = plain.removeprefix(prefix) if plain not in found.weights else plain
            stem, _, number = plain.rpartition("_")
            choices = (plain, f"{plain}.weight", stem if number.isdigit() else plain)
            target = next((choice for choice in choices if choice in found.weights), None)
            if target is None:
                raise found.fail(f"{where}.{name}: is a mask for no parameter of the network")
            yield f"{where}.{name}", target, mask


def _masked(found: Found, key: str, weight: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise found.fail(f"{key}: is no mask of zeros and ones")
    try:
        kept = mask.to(torch.bool).expand_as(weight)
    except RuntimeError:
        raise found.fail(
            f"{key}: shape {tuple(mask.shape)} does not fit a weight of shape {tuple(weight.shape)}"
        ) from None
    return torch.where(kept, weight, torch.zeros_like(weight))


def _affine_batch_norm(found: Found) -> None:
    """Where no batch norm has scale and shift (RST), they get ones and zeros, which compute the same."""
    layers = found.layers("running_mean")
    if not layers or any(layer + leaf in found.weights for layer in layers for leaf in ("weight", "bias")):
        return
    for layer in layers:
        mean = found.weights[f"{layer}running_mean"]
        found.weights[f"{layer}weight"], found.weights[f"{layer}bias"] = torch.ones_like(mean), torch.zeros_like(mean)
    found.note(f"{len(layers)} batch norms without scale and shift given ones and zeros, which compute the same")


CONVERSIONS: tuple[Callable[[Found], None], ...] = (
    _drop_copies,
    _drop_unused,
    _pruned_by_torch,
    _parametrized_by_torch,
    _scored_by_harp,
    _scored_by_hydra,
    _scored_by_rst,
    _masked_by_mad,
    _reparametrised_by_twinrep,
    _factored_by_atmc,
    _masks_beside,
    _affine_batch_norm,
)
"""In this order; each leaves plain files as they are."""
