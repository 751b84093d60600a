"""Masks of NNCF: buffers of hooks beside plain weights, in its two layouts of names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from thinice.models.research_formats import RawCheckpoint
from thinice.models.research_formats.torch_masks import masked

__all__ = ["apply_nncf_masks"]

HOOK = re.compile(r"(?P<before>.*)__nncf_hooks\.\w+\.(?P<operation>.+)__\d+\.\d+\.(?P<leaf>\w+)")
"""NNCF 3: ``__nncf_hooks.post_hooks.conv1:weight__0.0.binary_mask``, with colons for the dots of the weight."""
OPERATION = re.compile(r"(?P<layer>.*\.)pre_ops\.\d+\.op\.(?P<leaf>\w+)")
"""NNCF 2: ``conv1.pre_ops.0.op._binary_mask``."""
HARMLESS = {"uniform", "_uniform"}
"""Used in training alone."""


def apply_nncf_masks(checkpoint: RawCheckpoint) -> None:
    """Multiply weights by ``binary_mask``, and by ``mask`` where its sigmoid is above a half (movement sparsity)."""
    weights = checkpoint.weights
    masks: dict[str, tuple[str, Tensor]] = {}
    for name in list(weights):
        hook = HOOK.fullmatch(name) or OPERATION.fullmatch(name)
        if hook is None or name in (checkpoint.expected or ()):
            continue
        parts = hook.groupdict()
        target = (
            f"{parts['layer']}weight" if "layer" in parts else parts["before"] + parts["operation"].replace(":", ".")
        )
        leaf, value = parts["leaf"].lstrip("_"), weights.pop(name)
        if leaf == "binary_mask":
            mask = value
        elif leaf == "mask":
            mask = value if value.dtype == torch.bool else torch.sigmoid(value.float()) > 0.5
        elif leaf in HARMLESS:
            continue
        else:
            raise checkpoint.fail(
                f"{name}: is an operation of NNCF that changes weights, other than a mask: save the network after "
                "nncf.strip, or export it to ONNX"
            )
        target = target if target in weights else target.removeprefix("nncf_module.")
        if target not in weights:
            raise checkpoint.fail(f"{name}: is a mask for no parameter of the network")
        masks[target] = (name, mask)
    for target, (name, mask) in masks.items():
        weights[target] = masked(checkpoint, name, weights[target], mask)
    if masks:
        checkpoint.note(f"NNCF: {len(masks)} masks applied")
