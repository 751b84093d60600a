"""Masks in files of their own, beside weights that came from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import CheckpointError, MissingExtraError
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

__all__ = ["load_masks", "masks_of", "save_masks"]

KEY = "masks"
"""Under which the masks lie in a file of torch's, also in a checkpoint."""


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
    container = detect_format(path)
    if container is Container.ONNX:
        raise CheckpointError(f"{path}: is a program, not masks: give a file of tensors of zeros and ones")
    content: Any
    content, metadata = read_safetensors(path) if container is Container.SAFETENSORS else (read_torch(path), {})
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
