"""Factored weights of ATMC (Gui et al. 2019): W = (B + I) A + C."""

from __future__ import annotations

from thinice.models.research_formats import RawCheckpoint

__all__ = ["multiply_atmc_factors"]


def multiply_atmc_factors(checkpoint: RawCheckpoint) -> None:
    """Multiply ``weightA`` (rank, in, k, k) and ``weightB`` (out, rank), and add ``weightC`` where there is one."""
    weights = checkpoint.weights
    layers = [layer for layer in checkpoint.layers("weightA") if f"{layer}weightB" in weights]
    zeros = total = dense = 0
    for layer in layers:
        inner, outer = weights.pop(f"{layer}weightA"), weights.pop(f"{layer}weightB")
        eye = weights.pop(f"{layer}eye_const", None)
        rest = weights.pop(f"{layer}weightC", None)
        # W = (B + I) A + C; where the rank is that of the inputs, W = B (A + I) + C
        flat_inner, flat_outer = inner.flatten(1), outer.flatten(1)
        if eye is None:
            product = flat_outer @ flat_inner
        elif eye.shape == flat_inner.shape:
            product = flat_outer @ (flat_inner + eye)
        elif eye.shape == flat_outer.shape:
            product = (flat_outer + eye) @ flat_inner
        else:
            raise checkpoint.fail(f"{layer}eye_const: shape {tuple(eye.shape)} fits neither weightA nor weightB")
        weight = product.reshape(outer.shape[0], *inner.shape[1:])
        weights[f"{layer}weight"] = checkpoint.product(weight if rest is None else weight + rest.reshape(weight.shape))
        factors = [factor for factor in (inner, outer, rest) if factor is not None]
        zeros += sum(int((factor == 0).sum()) for factor in factors)
        total += sum(factor.numel() for factor in factors)
        dense += weight.numel()
    if layers:
        checkpoint.of_factors = 1 - (total - zeros) / dense
        checkpoint.note(
            f"ATMC factors of {len(layers)} layers multiplied; {total - zeros} non-zero factors stand for {dense} "
            f"weights, a sparsity of {checkpoint.of_factors:.4f} that the product does not show"
        )
