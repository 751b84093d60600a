"""Masks that a user gives beside a checkpoint: a file, an entry of the checkpoint, or values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from thinice.errors import CheckpointError, InputError
from thinice.files import expanded
from thinice.models.files import Container, detect_format, read_safetensors, read_torch
from thinice.models.weights import Masks

if TYPE_CHECKING:
    import os

__all__ = ["GivenMasks", "MasksLike", "read_masks"]

MasksLike: TypeAlias = "str | os.PathLike[str] | Masks | Mapping[str, Any] | Sequence[Any]"
"""A file with masks, the name of an entry of the checkpoint, "none", or the masks themselves."""
GivenMasks: TypeAlias = "tuple[Mapping[Any, Any] | Sequence[Any] | None, str]"
"""The masks (None: an entry of the checkpoint), and where they come from."""


def read_masks(masks: MasksLike) -> GivenMasks:
    """Return the masks in a file, or those given, and where they come from; for another text, the text alone.

    Raises
    ------
    CheckpointError
        A file that cannot be read, or is of no kind that holds masks.
    InputError
        Something that cannot be masks.

    Examples
    --------
    >>> read_masks({"conv1.weight": torch.ones(2)})[1], read_masks("none")
    ('masks', (None, 'none'))
    """
    if isinstance(masks, Masks):
        return dict(masks.kept), "masks"
    if isinstance(masks, Mapping) or (isinstance(masks, Sequence) and not isinstance(masks, str)):
        return _tensors(masks), "masks"
    path = expanded(masks, "masks")
    if isinstance(masks, str) and not path.exists():
        return None, masks
    container = detect_format(path)
    if container is Container.TORCH:
        content = read_torch(path)
    elif container is Container.SAFETENSORS:
        content = read_safetensors(path)[0]
    else:
        raise CheckpointError(f"{path}: is a whole program, which holds no masks: give a file of torch or safetensors")
    if not isinstance(content, Mapping | list | tuple):
        raise CheckpointError(
            f"{path}: holds no masks, but {type(content).__name__}: give a mask for each layer by name"
        )
    return content, path.name


def _tensors(masks: Any) -> Any:  # noqa: ANN401 - the same containers
    """Return the same with tensors for arrays."""
    if isinstance(masks, Mapping):
        return {name: _tensors(value) for name, value in masks.items()}
    if isinstance(masks, list | tuple):
        return [_tensors(value) for value in masks]
    if masks is None or isinstance(masks, Tensor):
        return masks
    try:
        return torch.as_tensor(masks)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"`masks` must hold tensors or arrays, got {type(masks).__name__}") from None
