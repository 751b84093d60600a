"""Formats that are known and cannot be read: each is refused in a sentence that says what would be."""

from __future__ import annotations

import re

from thinice.models.research_formats.raw_checkpoint import RawCheckpoint

__all__ = ["refuse_unreadable"]

UNREADABLE = (
    (
        re.compile(r"(.*\.)?(fake_quant_enabled|observer_enabled|activation_post_process\..*|weight_fake_quant\..*)"),
        (
            "belongs to a network prepared for quantisation, whose rounding is no part of the weights: save the "
            "float32 network before it is prepared"
        ),
    ),
    (
        re.compile(r"(.*\.)?(_packed_params\.\w+|weight_absmax|absmax|quant_map|SCB|qweight|qzeros|weight_scale)"),
        (
            "belongs to quantised weights, which have no gradients to follow: save the network in float32, before it "
            "is quantised"
        ),
    ),
    (
        re.compile(r"(.*\.)?(weight_u|parametrizations\.\w+\.\d+\._[uv])"),
        (
            "belongs to a spectral norm, by which weights are divided: save the network after "
            "torch.nn.utils.remove_spectral_norm or parametrize.remove_parametrizations"
        ),
    ),
    (
        re.compile(r"(.*\.)?weight\.(bitmask|compressed|row_offsets)|(.*\.)?weight_packed"),
        "belongs to weights that compressed-tensors packed: save the model decompressed (its dense state_dict())",
    ),
)
"""Names of parameters, and what they belong to."""


def refuse_unreadable(checkpoint: RawCheckpoint) -> None:
    """Raise CheckpointError for parameters of such a format, unless the user's own network has them."""
    for name in checkpoint.weights:
        for pattern, reason in UNREADABLE:
            if pattern.fullmatch(name) and name not in (checkpoint.expected or ()):
                raise checkpoint.fail(f"{name}: {reason}")
