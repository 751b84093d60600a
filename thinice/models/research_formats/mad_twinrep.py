"""Weights that a second tensor multiplies: the soft masks of MAD (Lee et al. 2022), the twins of TwinRep.

TwinRep is Li et al. 2023; of both, what the network computes with is the product.
"""

from __future__ import annotations

from torch.nn import functional

from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.entries import is_zero_one
from thinice.models.research_formats.torch_masks import masked

__all__ = ["apply_mad_masks", "multiply_twinrep_weights"]


def apply_mad_masks(checkpoint: RawCheckpoint) -> None:
    """Multiply weights and biases by the softplus of their ``mask_weight`` and ``mask_bias``.

    Where these hold zeros and ones alone they are masks: softplus of them would keep what they prune.
    """
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers("mask_weight") if f"{layer}weight" in weights]
    strengths = {
        name: weights[name]
        for layer in layers
        for name in (f"{layer}mask_weight", f"{layer}mask_bias")
        if name in weights
    }
    hard = [name for name, strength in strengths.items() if is_zero_one(strength)]
    if hard and len(hard) == len(strengths):
        for name in hard:
            layer, dot, leaf = name.rpartition(".")
            target = layer + dot + leaf.removeprefix("mask_")
            weights[target] = masked(checkpoint, name, weights[target], weights.pop(name))
        checkpoint.note(f"{len(hard)} masks beside the weights applied")
        return
    if hard:
        raise checkpoint.fail(
            f"{hard[0]}: holds zeros and ones, as masks do, and others of that name do not: save the masked weights "
            "instead"
        )
    for layer in layers:
        for leaf in ("weight", "bias"):
            strength = weights.pop(f"{layer}mask_{leaf}", None)
            if strength is not None:
                soft = weights[layer + leaf] * functional.softplus(strength)
                weights[layer + leaf] = checkpoint.product(soft) if leaf == "weight" else soft
    if layers:
        checkpoint.note(f"MAD masks of {len(layers)} layers applied (weight times softplus of the mask)")


def multiply_twinrep_weights(checkpoint: RawCheckpoint) -> None:
    """Multiply each weight by its ``aux_weight``, entry by entry, or of shape (out, out) as a matrix; then its mask."""
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers("aux_weight") if f"{layer}weight" in weights]
    # one form a file: in the channel form, a square linear layer has a twin of its own shape as well
    twins = all(weights[f"{layer}aux_weight"].shape == weights[f"{layer}weight"].shape for layer in layers)
    for layer in layers:
        weight, twin = weights[f"{layer}weight"], weights.pop(f"{layer}aux_weight")
        if twins:
            weight = weight * twin
        elif twin.shape == (weight.shape[0], weight.shape[0]):
            weight = (twin @ weight.flatten(1)).view_as(weight)
        else:
            raise checkpoint.fail(
                f"{layer}aux_weight: shape {tuple(twin.shape)} fits no weight of shape {tuple(weight.shape)}"
            )
        mask = weights.pop(f"{layer}mask", None)
        weight = checkpoint.product(weight)
        weights[f"{layer}weight"] = weight if mask is None else masked(checkpoint, f"{layer}mask", weight, mask)
    if layers:
        checkpoint.note(f"TwinRep: {len(layers)} pairs of weights multiplied")
