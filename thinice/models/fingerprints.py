"""What tells networks apart: a hash of architecture, weights and normalisation, and the structure of a module."""

from __future__ import annotations

import hashlib
import inspect
import json
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thinice.models.normalization import Normalization

__all__ = ["fingerprint_of", "hashed_identity", "structure_of"]


def fingerprint_of(
    architecture: str,
    arguments: Mapping[str, object],
    weights: Mapping[str, Tensor],
    normalization: Normalization | None,
    *,
    one_by_one: bool = False,
) -> str:
    """Return 32 hex digits of SHA-256 over architecture, arguments, weights and normalisation.

    Counters of batch norm are left out and -0.0 counts as 0.0: neither changes a logit. `one_by_one` counts, for the
    logits of a sample alone are others where they depend on its batch.

    Examples
    --------
    >>> a = fingerprint_of("net", {}, {"w": torch.zeros(2)}, None)
    >>> a == fingerprint_of("net", {}, {"w": -torch.zeros(2)}, None), len(a)
    (True, 32)
    """
    digest = hashlib.sha256()
    header = {
        "architecture": architecture,
        "arguments": dict(arguments),
        "normalization": None
        if normalization is None
        else [torch.tensor(part, dtype=torch.float32).tolist() for part in normalization],
        **({"one_by_one": True} if one_by_one else {}),
    }
    digest.update(json.dumps(header, sort_keys=True, default=repr).encode())
    for name in sorted(weights):
        if name.rpartition(".")[2] == "num_batches_tracked":
            continue
        value = weights[name].detach().cpu().contiguous()
        if value.is_floating_point():
            value = value + 0.0  # turns -0.0 into 0.0
        array = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        digest.update(f"{name}|{array.dtype.name}|{tuple(array.shape)}|".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()[:32]


def hashed_identity(architecture: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return what the fingerprint takes as architecture and arguments: of the user's code, what it computes.

    So a network has one fingerprint wherever its code lies, and also where the module itself is given.
    """
    if "class" in arguments:
        return f"module:{arguments['class']}", {"structure": arguments["structure"]}
    return architecture, arguments


def structure_of(module: nn.Module) -> str:
    """Return text that tells modules apart which have the same weights but compute something else.

    The printed structure, the plain attributes of every layer and the byte code of every ``forward`` that is
    not torch's own. What a ``forward`` reads from globals or closures is not seen.

    Examples
    --------
    >>> structure_of(nn.ReLU()) == structure_of(nn.GELU())
    False
    """
    parts = [repr(module)]
    for name, layer in module.named_modules():
        kind = type(layer)
        if not kind.__module__.startswith("torch."):
            plain = {
                key: value
                for key, value in sorted(vars(layer).items())
                if not key.startswith("_") and key != "training" and _is_plain(value)
            }
            parts.append(f"{name}|{kind.__qualname__}|{plain}")
            forward = inspect.unwrap(kind.forward)
            parts.append(repr(_code(forward.__code__)) if hasattr(forward, "__code__") else repr(forward.__qualname__))
    return "\n".join(parts)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _code(code: CodeType) -> tuple[object, ...]:
    constants = tuple(
        _code(constant)
        if isinstance(constant, CodeType)
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    )
    return code.co_code.hex(), code.co_names, constants
