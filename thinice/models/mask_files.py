"""Masks in files of their own, and those that a user gives beside a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from thinice.errors import CheckpointError, InputError, MissingExtraError
from thinice.files import expanded, temporary_folder, writable
from thinice.models.files import (
    FORMAT,
    MASKS,
    Container,
    detect_format,
    is_checkpoint,
    read_safetensors,
    read_torch,
)
from thinice.models.pickles import plain
from thinice.models.weights import Masks

if TYPE_CHECKING:
    import os

__all__ = ["GivenMasks", "MasksLike", "load_masks", "masks_of", "read_masks", "save_masks"]

KEY = "masks"
"""Under which the masks lie in a file of torch's, also in a checkpoint."""
MasksLike: TypeAlias = "str | os.PathLike[str] | Masks | Mapping[str, Any] | Sequence[Any]"
"""A file with masks, the name of an entry of the checkpoint, "none", or the masks themselves."""
GivenMasks: TypeAlias = "tuple[Mapping[Any, Any] | Sequence[Any] | None, str]"
"""The masks (None: an entry of the checkpoint), and where they come from."""


def save_masks(masks: Masks, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the path of the file written: ``.safetensors``, or for any other suffix torch's own format.

    It holds one boolean tensor for each weight, by its name, and can be read without thinice. It is written beside its
    place and renamed; a file that is there already is replaced only with ``overwrite``.

    Raises
    ------
    InputError
        The file must not be written.
    MissingExtraError
        ``.safetensors`` without the extra.

    Examples
    --------
    >>> import tempfile
    >>> masks = Masks({"weight": torch.tensor([[True, False]])})
    >>> path = save_masks(masks, Path(tempfile.mkdtemp()) / "masks.pt")
    >>> load_masks(path)
    <Masks 1 layers, 1 of 2 weights kept, sparsity 0.5000>
    """
    path = expanded(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writable(path, argument="path", like=is_checkpoint if overwrite else None, overwrite=overwrite)
    tensors = {name: mask.cpu().contiguous() for name, mask in masks.kept.items()}
    with temporary_folder(path.parent) as unfinished:
        temporary = unfinished / path.name
        if path.suffix == ".safetensors":
            try:
                from safetensors.torch import save_file  # noqa: PLC0415 - an extra
            except ImportError:
                raise MissingExtraError("writing .safetensors", "safetensors") from None
            save_file(tensors, temporary)
        else:
            with temporary.open("wb") as file:
                torch.save({KEY: tensors}, file)
        temporary.replace(path)
    return path


def load_masks(path: str | os.PathLike[str]) -> Masks:
    """Return the masks in a file of `save_masks`, in a checkpoint, or in any file of one 0-1 tensor for each weight.

    Nothing in the file can run. Whether they fit a network is found out by `Masks.apply_`.

    Raises
    ------
    CheckpointError
        Not such a file, damaged, or with values that are neither 0 nor 1.
    MissingExtraError
        ``.safetensors`` without the extra.
    """
    path = expanded(path)
    content, metadata = _content(path)
    if isinstance(content, Mapping):
        inside = {str(name).removeprefix(MASKS): mask for name, mask in content.items() if str(name).startswith(MASKS)}
        if FORMAT in metadata or content.get("format") == FORMAT:  # a checkpoint, perhaps without masks
            content = content.get(KEY) or inside
        elif isinstance(content.get(KEY), Mapping):
            content = content[KEY]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no masks: give a file of one tensor of zeros and ones for each weight")
    return masks_of(content, str(path))


def masks_of(tensors: Mapping[Any, Any], where: str) -> Masks:
    """Return masks out of tensors by name, boolean or of zeros and ones.

    Raises
    ------
    CheckpointError
        What is no such tensor.
    """
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or not value.ndim or value.is_complex() or value.is_quantized:
            raise CheckpointError(f"{where}: {plain(name)} is no mask: give one tensor of zeros and ones a weight")
        mask = value != 0
        if value.dtype != torch.bool and not bool(((value == 1) | ~mask).all()):
            raise CheckpointError(
                f"{where}: {plain(name)} has values that are neither 0 nor 1: masks keep (1) or drop (0) weights"
            )
        kept[str(name)] = mask
    return Masks(kept)


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
    content, _ = _content(path)
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


def _content(path: Path) -> tuple[Any, Mapping[str, str]]:
    """Return what a file holds, and what one of safetensors says of it."""
    container = detect_format(path)
    if container is Container.ONNX:
        raise CheckpointError(f"{path}: is a whole program, which holds no masks: give a file of torch or safetensors")
    return read_safetensors(path) if container is Container.SAFETENSORS else (read_torch(path), {})
