"""Scores that rank the weights of each layer: HYDRA, HARP and robust scratch tickets (RST).

HYDRA is Sehwag et al. 2020, RST Fu et al. 2021, HARP Zhao and Wressnegger 2023. The files do not say how many of the
weights are kept: the user does, as ``density``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.torch_masks import masked

__all__ = ["apply_harp_scores", "apply_hydra_scores", "apply_rst_scores", "harp_rate", "highest", "number_kept"]

HARP_ALPHA = 0.1
"""HARP's smallest density of a layer, as a part of the global one."""


def apply_hydra_scores(checkpoint: RawCheckpoint) -> None:
    """Keep the weights with the highest ``popup_scores`` of each layer."""
    _apply_scores(checkpoint, "HYDRA", "popup_scores")


def apply_rst_scores(checkpoint: RawCheckpoint) -> None:
    """Keep the weights with the highest ``scores`` of each layer."""
    _apply_scores(checkpoint, "RST", "scores")


def _apply_scores(checkpoint: RawCheckpoint, method: str, leaf: str) -> None:
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers(leaf) if f"{layer}weight" in weights]
    if not layers:
        return
    density = _density(checkpoint, method, f"{layers[0]}{leaf}")
    for layer in layers:
        weight, scores = weights[f"{layer}weight"], weights.pop(f"{layer}{leaf}").abs()
        if scores.shape != weight.shape:
            raise checkpoint.fail(
                f"{layer}{leaf}: scores of shape {tuple(scores.shape)} for a weight of shape {tuple(weight.shape)} are "
                f"not a {method} checkpoint that can be converted: save the masked weights instead"
            )
        mask = highest(scores, number_kept(density, scores.numel()))
        weights[f"{layer}weight"] = masked(checkpoint, layer, weight, mask)
    checkpoint.note(f"{method} scores of {len(layers)} layers applied with a density of {density:g} in each layer")


def apply_harp_scores(checkpoint: RawCheckpoint) -> None:
    """Keep the weights, or input channels, with the highest scores; each layer's density is learned (``k_score``)."""
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers("popup_scores") if f"{layer}k_score" in weights]
    if not layers:
        return
    density = _density(checkpoint, "HARP", f"{layers[0]}k_score")
    alive = total = 0
    for layer in layers:
        weight = weights[f"{layer}weight"]
        scores = weights.pop(f"{layer}popup_scores").abs()
        rate = harp_rate(weights.pop(f"{layer}k_score"), density)
        if scores.shape == weight.shape:
            mask = highest(scores, number_kept(rate, scores.numel()))
        elif scores.numel() == weight.shape[1] == scores.shape[1]:
            mask = highest(scores, int(torch.round(rate * scores.numel())))
        else:
            raise checkpoint.fail(
                f"{layer}popup_scores: HARP scores of shape {tuple(scores.shape)} do not rank the input channels of a "
                f"weight of shape {tuple(weight.shape)}: take the checkpoint after fine-tuning"
            )
        mask = mask.expand_as(weight)
        weights[f"{layer}weight"] = masked(checkpoint, layer, weight, mask)
        alive, total = alive + int(mask.sum()), total + mask.numel()
    checkpoint.note(
        f"HARP scores of {len(layers)} layers applied with a global density of {density:g}: "
        f"{alive / total:.4f} of the weights are kept"
        + (
            ""
            if abs(alive / total - density) < 0.02 * density + 0.001
            else "; these should be equal: check `density` (--density)"
        )
    )


def number_kept(density: float | Tensor, count: int) -> int:
    """Return how many of `count` weights HYDRA and HARP keep at a density, by their own expression.

    Examples
    --------
    >>> number_kept(0.05, 25), number_kept(1 - 0.95, 25), number_kept(0.29, 100)
    (2, 2, 29)
    """
    return count - int((1 - density) * count)


def harp_rate(score: Tensor, density: float) -> Tensor:
    """Return the density of a layer, learned as `score`, in a network of a global density; in float32, as HARP does."""
    smallest = HARP_ALPHA * density
    return torch.sigmoid(score.float()) * (1 - smallest) + smallest


def highest(scores: Tensor, count: int) -> Tensor:
    """Return a mask in the shape of the scores, True for the `count` highest; of equal scores the first go.

    What is not a number counts as infinite.

    Examples
    --------
    >>> highest(torch.tensor([0.5, 2.0, 0.5, 0.5, 0.1]), 2)
    tensor([False,  True, False,  True, False])
    """
    flat = scores.flatten() if scores.dtype in {torch.float32, torch.float64} else scores.flatten().double()
    dropped = flat.numel() - count
    mask = torch.ones_like(flat, dtype=torch.bool)
    if dropped > 0:  # faster than to sort all of them
        flat = flat.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        highest_dropped = flat.kthvalue(dropped).values
        below = flat < highest_dropped
        equal = (flat == highest_dropped).nonzero()[:, 0]
        mask[below] = False
        mask[equal[: dropped - int(below.sum())]] = False
    return mask.view(scores.shape)


def _density(checkpoint: RawCheckpoint, method: str, key: str) -> float:
    if checkpoint.density is not None:
        return checkpoint.density
    stored = stored_density(checkpoint, method)
    named = density_in_name(Path(checkpoint.where).name)
    if stored is not None and named is not None and abs(stored[1] - named[1]) > 1e-9:
        raise checkpoint.fail(
            f"{key}: holds {method} scores; {stored[0]} in the file says density {stored[1]:g}, its name density "
            f"{named[1]:g} ({named[0]}): give the right one as density= (--density)"
        )
    if (said := stored or named) is None:
        raise checkpoint.fail(
            f"{key}: holds {method} scores, but the file does not say which fraction of the weights they keep: give "
            "density=0.1 (--density 0.1) for a sparsity of 90 %"
        )
    where = f"as {said[0]} in the file says" if stored else f"read from {said[0]} in the name of the file"
    checkpoint.note(f"density {said[1]:g}, {where}; density= (--density) says otherwise")
    return said[1]


def stored_density(checkpoint: RawCheckpoint, method: str) -> tuple[str, float] | None:
    """Return which entry beside the weights says the density, itself or among the options, and its value."""
    names = {"density", "k", "keep_ratio", *({"prune_rate"} if method == "RST" else ())}
    for path, value in checkpoint.outer.items():
        options = value if isinstance(value, Mapping) and OPTIONS.search(path.lower()) else {path: value}
        for name, number in options.items():
            pruned = name == "sparsity"
            if (name not in names and not pruned) or isinstance(number, bool) or not isinstance(number, int | float):
                continue
            density = 1 - number if pruned else number
            if 0 < density <= 1:
                return (path if name == path else f"{path}.{name}"), float(density)
    return None


OPTIONS = re.compile(r"arg|conf|opt|param|cfg")
"""In the names of entries that hold the options of a program."""
KEPT = re.compile(r"(?<![a-z])(?:k|kept|keep(?:_?ratio)?|density|dens|remain(?:ing)?)[_=-]?(?P<part>0?\.\d+)")
PRUNED = re.compile(
    r"(?:sparsity|sparse|pruned)[_=-]?(?P<part>0?\.\d+|[5-9]\d(?:\.\d+)?(?!\d))"
    r"|(?<![\d.a-z])(?P<before>0?\.\d+(?=[_=-]?(?:sparsity|sparse|pruned))|\d\d(?:\.\d+)?(?=%|percent))"
)
"""Whole numbers are percentages; before a word (resnet_50_pruned) they may be anything else."""


def density_in_name(name: str) -> tuple[str, float] | None:
    """Return which part of a file's name says the density, and its value; ``None`` where none does, or two differ.

    Examples
    --------
    >>> density_in_name("hydra_k0.1.pth.tar"), density_in_name("wrn_sparsity_90.pt"), density_in_name("resnet18.pt")
    (('k0.1', 0.1), ('sparsity_90', 0.1), None)
    """
    said: dict[float, str] = {}
    for pattern in (KEPT, PRUNED):
        for match in pattern.finditer(name.lower()):
            number = float(match["part"] or match["before"])
            density = number if pattern is KEPT else round(1 - (number if number < 1 else number / 100), 9)
            if 0 < density < 1:
                said.setdefault(density, match[0])
    return next(((text, density) for density, text in said.items()), None) if len(said) == 1 else None
