"""Scores that rank the weights of each layer: HYDRA, HARP and robust scratch tickets (RST).

HYDRA is Sehwag et al. 2020, RST Fu et al. 2021, HARP Zhao and Wressnegger 2023. The files do not say how many of the
weights are kept: the user does, as ``density``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.torch_masks import masked

__all__ = ["apply_harp_scores", "apply_hydra_scores", "apply_rst_scores", "highest"]

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
        mask = highest(scores, scores.numel() - int((1 - density) * scores.numel()))
        weights[f"{layer}weight"] = masked(checkpoint, layer, weight, mask)
    checkpoint.note(f"{method} scores of {len(layers)} layers applied with a density of {density:g} in each layer")


def apply_harp_scores(checkpoint: RawCheckpoint) -> None:
    """Keep the weights, or input channels, with the highest scores; each layer's density is learned (``k_score``)."""
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers("popup_scores") if f"{layer}k_score" in weights]
    if not layers:
        return
    density = _density(checkpoint, "HARP", f"{layers[0]}k_score")
    smallest = HARP_ALPHA * density
    alive = total = 0
    for layer in layers:
        weight = weights[f"{layer}weight"]
        scores = weights.pop(f"{layer}popup_scores").abs()
        # in float32, as the original does
        rate = torch.sigmoid(weights.pop(f"{layer}k_score").float()) * (1 - smallest) + smallest
        if scores.shape == weight.shape:
            mask = highest(scores, scores.numel() - int((1 - rate) * scores.numel()))
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


def highest(scores: Tensor, count: int) -> Tensor:
    """Return a mask in the shape of the scores, True for the `count` highest; of equal scores the first go."""
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().argsort(stable=True)[: scores.numel() - count]] = False
    return mask.view(scores.shape)


def _density(checkpoint: RawCheckpoint, method: str, key: str) -> float:
    if checkpoint.density is None:
        raise checkpoint.fail(
            f"{key}: holds {method} scores, but the file does not say which fraction of the weights they keep: give "
            "density=0.1 (--density 0.1) for a sparsity of 90 %"
        )
    return checkpoint.density
