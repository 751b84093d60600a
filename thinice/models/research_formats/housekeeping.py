"""What files hold beside what their network computes with: copies, layers without use, counters, constant scales."""

from __future__ import annotations

import re
from hashlib import sha256

import torch
from torch import Tensor

from thinice.models.research_formats import RawCheckpoint

__all__ = ["complete_batch_norm", "drop_copies", "drop_unused"]


COPIES = ("attacker.", "model.")
"""Where second copies stand: in the attacker of Madry's robustness library, in the Sequential of Li et al. 2020."""


def drop_copies(checkpoint: RawCheckpoint) -> None:
    """Drop second copies: some files hold every tensor by its name, and again in another module."""
    for prefix in COPIES:
        copies = [name for name in checkpoint.weights if name.startswith(prefix)]
        named = {name: value for name, value in checkpoint.weights.items() if not name.startswith(prefix)}
        if not copies or not named:
            continue
        ends = {
            (name[dot.end() :], _content(value)) for name, value in named.items() for dot in re.finditer(r"\.", name)
        }
        if not all((name.split(".", 2)[-1], _content(checkpoint.weights[name])) in ends for name in copies):
            continue
        checkpoint.weights = named
        checkpoint.note(f"{len(copies)} copies under {prefix} dropped; they equal the parameters beside them")


def _content(values: Tensor) -> tuple[object, ...]:
    """Return what equal tensors have in common, to be looked up."""
    return (
        values.dtype,
        values.shape,
        sha256(values.contiguous().flatten().view(torch.uint8).numpy().tobytes()).digest(),
    )


def drop_unused(checkpoint: RawCheckpoint) -> None:
    """Drop the block of TRADES' and HYDRA's WideResNets that no input passes, and the counters of profilers."""
    weights = checkpoint.weights
    expected = checkpoint.expected or ()
    unused = [name for name in weights if name.startswith("sub_block1.") and name not in expected]
    if not any(name.startswith("block1.") for name in weights):
        unused = []
    if unused:
        checkpoint.note(f"{len(unused)} parameters of sub_block1 dropped; the network never uses them")
    counters = [name for name in weights if name.rpartition(".")[2] in {"total_ops", "total_params"}]
    if counters:
        checkpoint.note(f"{len(counters)} counters of a profiler dropped (total_ops, total_params)")
    for name in unused + counters:
        del weights[name]


def complete_batch_norm(checkpoint: RawCheckpoint) -> None:
    """Give batch norms ones and zeros for scale and shift where none has any (RST): they compute the same."""
    weights = checkpoint.weights
    layers = checkpoint.layers("running_mean")
    if not layers or any(layer + leaf in weights for layer in layers for leaf in ("weight", "bias")):
        return
    for layer in layers:
        mean = weights[f"{layer}running_mean"]
        weights[f"{layer}weight"], weights[f"{layer}bias"] = (
            torch.ones_like(mean),
            torch.zeros_like(mean),
        )
    checkpoint.note(f"{len(layers)} batch norms without scale and shift given ones and zeros, which compute the same")
