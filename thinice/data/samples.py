"""`Samples`: images in [0, 1], labels, lasting ids, and a fingerprint of all of it.

`as_samples` makes them of plain arrays, `build_samples` of parts that a loader has checked. The other functions check
one part each: labels, ids, class names, an index, pixels. Large images stay files or uint8 until they are used
(`LazyInputs`, `Pixels`).
"""

from __future__ import annotations

import hashlib
import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from thinice.data.subset import check_limit, draw, draw_note
from thinice.errors import InputError
from thinice.files import unwritable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = Tensor | NDArray[Any] | Sequence[Any]
    Index: TypeAlias = slice | Tensor | NDArray[Any] | Sequence[int] | Sequence[bool]
    Digests: TypeAlias = NDArray[np.uint64]

__all__ = [
    "LazyInputs",
    "Pixels",
    "Samples",
    "as_classes",
    "as_ids",
    "as_index",
    "as_labels",
    "as_pixels",
    "as_samples",
    "as_tensor",
    "build_samples",
    "pixel_digests",
    "refuse_repeats",
    "shape_text",
]

MOST_CLASSES = 1_000_000
"""Labels from here on are taken for a mistake: they would ask for as many class names."""
ROUNDING = 1e-6
"""How far a pixel may leave [0, 1] by rounding and is clamped; farther away it is refused."""


def as_tensor(values: Numbers, argument: str) -> Tensor:
    """Return numbers as a tensor on the CPU, without a copy where none is needed."""
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{argument}` must be an array of numbers: {' '.join(str(error).split())}") from error
    if array.dtype.kind not in "biuf" or array.itemsize > 8:
        raise InputError(f"`{argument}` must be an array of numbers, got {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=("C", "W")))


def as_labels(labels: Numbers, count: int) -> Tensor:
    """Return checked (N,) int64 labels from 0 on; of others, the message says what to make of them."""
    truth = _label_numbers(labels)
    if truth.shape != (count,):
        raise InputError(
            f"`labels` must have the shape ({count},), one for each input, got {tuple(truth.shape)}"
            f"{_cure_of_shape(labels, truth, count)}"
        )
    if not is_integer(truth):
        raise InputError(f"`labels` must be integers, got {truth.dtype}{_cure_of_type(labels, truth)}")
    truth = truth.to(torch.int64)
    if count and truth.min() < 0:
        signs = bool((truth.abs() == 1).all())
        way_out = "give (labels + 1) // 2" if signs else "leave out samples without a label, inputs[labels >= 0]"
        raise InputError(f"`labels` must not be negative, got {int(truth.min())}: classes count from 0; {way_out}")
    return truth


def _label_numbers(labels: Numbers) -> Tensor:
    """Return labels as a tensor; names of classes are told how they become numbers."""
    try:
        return as_tensor(labels, "labels")
    except InputError:
        names = labels.ravel().tolist() if isinstance(labels, np.ndarray) else labels
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise
        way_out = "classes, labels = numpy.unique(labels, return_inverse=True)"
        raise InputError(f"`labels` must be integers, got names: number them with {way_out}") from None


def _cure_of_shape(labels: Numbers, truth: Tensor, count: int) -> str:
    """Return what makes one label a sample of one-hot rows, or of shares of classes, or of a column; or nothing."""
    if truth.ndim != 2 or len(truth) != count or not truth.numel():
        return ""
    if truth.shape[1] == 1:
        return f": give {'numpy.ravel(labels)' if isinstance(labels, list | tuple) else 'labels.reshape(-1)'}"
    rows = truth.to(torch.float64)
    if not bool(((rows >= 0).all(1) & ((rows.sum(1) - 1).abs() < 1e-3)).all()):
        return ""
    kind = "one-hot" if bool(((rows == 0) | (rows == 1)).all()) else "shares of classes"
    way_out = "numpy.argmax(labels, 1)" if isinstance(labels, list | tuple) else "labels.argmax(1)"
    return f", {kind}: give {way_out}"


def _cure_of_type(labels: Numbers, truth: Tensor) -> str:
    """Return what makes integers of labels that are whole numbers in another type; else what they are."""
    if truth.is_floating_point():
        missing = int((~truth.isfinite()).sum())
        if missing:
            return f", {missing} of them NaN or infinite: leave these samples out"
        parts = truth[truth != truth.round()]
        if len(parts):
            return f" such as {parts[0].item():.6g}: classes are whole numbers"
    ways_out = {Tensor: "labels.long()", np.ndarray: "labels.astype(int)"}
    way_out = next((text for kind, text in ways_out.items() if isinstance(labels, kind)), "list(map(int, labels))")
    return f": convert them with {way_out}"


def as_ids(sample_ids: Numbers, count: int) -> Tensor:
    """Return checked (N,) distinct int64 ids from 0 on."""
    ids = as_tensor(sample_ids, "sample_ids")
    if not is_integer(ids):
        raise InputError(f"`sample_ids` must be integers, got {ids.dtype}")
    if ids.shape != (count,):
        raise InputError(f"`sample_ids` must have the shape ({count},), one for each input, got {tuple(ids.shape)}")
    ids = ids.to(torch.int64)
    if count and ids.min() < 0:
        raise InputError(f"`sample_ids` must not be negative, got {int(ids.min())}")
    refuse_repeats(ids)
    return ids


def as_classes(classes: Sequence[str] | None, labels: Tensor) -> tuple[str, ...]:
    """Return checked, distinct class names that cover the labels."""
    largest = int(labels.max())
    if classes is None:
        if largest >= MOST_CLASSES:
            raise InputError(f"`labels` must be below {MOST_CLASSES:,}, got {largest}: they count classes from 0")
        return tuple(str(label) for label in range(largest + 1))
    if isinstance(classes, str):
        raise InputError(f"`classes` must be distinct names, one for each class, got {classes!r}")
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f"`classes` must be distinct names, one for each class, got {twice[0]!r} more than once")
    unencodable = [name for name in classes if unwritable(str(name))]
    if unencodable:
        raise InputError(f"`classes` must be names in UTF-8, got {unencodable[0]!r}")
    if largest >= len(classes):
        from_one = ": they count from 1, give labels - 1" if int(labels.min()) == 1 and largest == len(classes) else ""
        raise InputError(f"`labels` must be below {len(classes)}, the number of `classes`, got {largest}{from_one}")
    return tuple(classes)


def refuse_repeats(ids: Tensor) -> None:
    """Raise `InputError` where an id stands twice."""
    values, counts = torch.unique(ids, return_counts=True)
    if bool((counts > 1).any()):
        raise InputError(f"`sample_ids` must be distinct, got {int(values[counts > 1][0])} more than once")


def as_index(index: Index, length: int) -> slice | Tensor:
    """Return a slice with a positive step, or checked int64 positions in [0, length)."""
    if isinstance(index, slice):
        if index.step is None or index.step > 0:
            return index
        return torch.tensor(range(length)[index], dtype=torch.int64)
    positions = as_tensor(index, "index")
    if positions.ndim != 1:
        raise InputError(f"an index must be a slice or one-dimensional, got {index!r}: for one sample use [i : i + 1]")
    if positions.dtype == torch.bool:
        if len(positions) != length:
            raise InputError(f"a mask must have one value for each of the {length} samples, got {len(positions)}")
        return positions.nonzero().flatten()
    if len(positions) == 0:
        return positions.to(torch.int64)
    if not is_integer(positions):
        raise InputError(f"an index must be of integers or booleans, got {positions.dtype}")
    positions = positions.to(torch.int64)
    if positions.min() < -length or positions.max() >= length:
        raise InputError(f"an index must lie between 0 and {length - 1}, got {positions.min()} to {positions.max()}")
    return positions.remainder(length)


def is_integer(values: Tensor) -> bool:
    """Return whether the type is one of integers; booleans are not."""
    return not (values.dtype == torch.bool or values.is_floating_point() or values.is_complex())


class LazyInputs(Protocol):
    """Images that need not all be in memory as floats: what an access asks for is read or converted then."""

    @property
    def shape(self) -> torch.Size:
        """``(N, C, H, W)``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> Tensor:
        """Return the chosen images, float32 in [0, 1]."""
        ...

    def select(self, index: Index, /) -> LazyInputs:
        """Return the chosen images, still unread."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pixels:
    """Images kept as uint8, a quarter of the memory; float32 in [0, 1] on access.

    Examples
    --------
    >>> import torch
    >>> pixels = Pixels(torch.full((5, 3, 32, 32), 255, dtype=torch.uint8))
    >>> pixels.shape, pixels[:2].dtype, pixels[:2].max().item()
    (torch.Size([5, 3, 32, 32]), torch.float32, 1.0)

    """

    stored: Tensor  # (N, C, H, W) uint8

    @property
    def shape(self) -> torch.Size:
        """``(N, C, H, W)``."""
        return self.stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Index, /) -> Tensor:
        return self.stored[as_index(index, len(self))].to(torch.float32).div_(255).contiguous()

    def select(self, index: Index, /) -> Pixels:
        """Return the chosen images, still uint8; a slice shares memory."""
        return Pixels(self.stored[as_index(index, len(self))])

    def __repr__(self) -> str:
        return f"<Pixels: {len(self)} x {shape_text(self.shape)} uint8>"


def as_pixels(inputs: Tensor) -> Tensor | Pixels:
    """Return checked (N, C, H, W) images, contiguous, on the CPU: float32 in [0, 1], uint8 as `Pixels`."""
    if inputs.ndim != 4:
        raise InputError(
            f"`inputs` must have the shape (N, C, H, W), got {tuple(inputs.shape)}: "
            "add a channel axis with inputs[:, None], or reshape"
        )
    if inputs.numel() == 0:
        raise InputError(f"`inputs` must not be empty, got the shape {tuple(inputs.shape)}")
    _, channels, height, width = inputs.shape
    if width in (1, 3) and channels == height > 3:
        raise InputError(
            f"`inputs` must have the shape (N, C, H, W), got {tuple(inputs.shape)}, "
            "which looks channels-last: use inputs.permute(0, 3, 1, 2), of an array inputs.transpose(…)"
        )
    inputs = inputs.contiguous()
    if inputs.dtype == torch.uint8:
        if inputs.max() == 1:
            raise InputError(
                "`inputs` are uint8 with values 0 and 1 alone, and uint8 is read as 0 to 255: "
                "give floats in [0, 1], or multiply by 255 where 1 means white"
            )
        return Pixels(inputs)
    if not inputs.is_floating_point():
        raise InputError(f"`inputs` must be floats in [0, 1] or uint8 from 0 to 255, got {inputs.dtype}")
    low, high = (value.item() for value in torch.aminmax(inputs))
    if math.isnan(low) or math.isnan(high):
        raise InputError(f"`inputs` must be numbers, got {int(inputs.isnan().sum())} NaN values: drop these images")
    if low < -ROUNDING or high > 1 + ROUNDING:
        way_out = (
            "divide by 255"
            if low >= 0 and 1.5 < high <= 255
            else "undo the normalisation: mean and std belong into the classifier (`normalization`)"
        )
        raise InputError(f"`inputs` must lie in [0, 1], got [{low:.6g}, {high:.6g}]: {way_out}")
    inputs = inputs.to(torch.float32)
    return inputs.clamp(0, 1) if low < 0 or high > 1 else inputs


def pixel_digests(inputs: Tensor | LazyInputs) -> Digests:
    """Return (N,) uint64: blake2b of each image's float32 pixels and shape; uint8 copies give the same."""
    start = hashlib.blake2b(f"pixels {shape_text(inputs.shape)}".encode(), digest_size=8)
    joined = bytearray()
    for first in range(0, len(inputs), 256):
        for image in inputs[first : first + 256].numpy().astype("<f4", copy=False):
            digest = start.copy()
            digest.update(image)
            joined += digest.digest()
    return np.frombuffer(bytes(joined), dtype="<u8").astype(np.uint64)


def shape_text(shape: Sequence[int]) -> str:
    """Return the size of one image: ``3x32x32``."""
    return "x".join(str(size) for size in shape[1:])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Samples:
    """A data set, or a part of one; a selection keeps ids, digests and sources.

    Attributes
    ----------
    inputs : Tensor or LazyInputs
        (N, C, H, W), float32 in [0, 1], on the CPU. A `LazyInputs` has ``.shape``, ``len()`` and
        ``[slice | index tensor]``, which hands out float32 tensors.
    labels : Tensor
        (N,) int64, the true classes.
    sample_ids : Tensor
        (N,) int64, distinct: the index in the untouched data set.
    classes : tuple of str
        The name of each class.
    fingerprint : str
        Content hash of digests, labels, sample ids and shape: two runs with the same fingerprint saw the same
        inputs.
    digests : ndarray
        (N,) uint64, content hash of each image alone: the same in every selection that has the image.
    name, split : str
        For example ``"digits"`` and ``"test"``.
    sources : tuple of str or None
        The relative file path of each sample, where there is one.
    notes : tuple of str
        What was found out or decided while loading, for people to read.

    Examples
    --------
    >>> import torch
    >>> samples = as_samples(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]))
    >>> samples[1:3].sample_ids.tolist(), samples[samples.labels == 0].sample_ids.tolist()
    ([1, 2], [0, 3])

    """

    inputs: Tensor | LazyInputs
    labels: Tensor
    sample_ids: Tensor
    classes: tuple[str, ...]
    fingerprint: str
    digests: Digests
    name: str
    split: str
    sources: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Index, /) -> Samples:
        """Return the samples at these positions (a slice, indices, or a mask), in the order asked for."""
        positions = as_index(index, len(self))
        sample_ids = self.sample_ids[positions]
        refuse_repeats(sample_ids)
        inputs = self.inputs[positions] if isinstance(self.inputs, Tensor) else self.inputs.select(positions)
        chosen = range(len(self))[positions] if isinstance(positions, slice) else positions.tolist()
        return build_samples(
            inputs,
            self.labels[positions],
            sample_ids=sample_ids,
            classes=self.classes,
            name=self.name,
            split=self.split,
            sources=None if self.sources is None else tuple(self.sources[position] for position in chosen),
            notes=self.notes,
            digests=self.digests[positions if isinstance(positions, slice) else positions.numpy()],
        )

    def class_counts(self) -> tuple[int, ...]:
        """Return how many samples each class has, in the order of `classes`."""
        return tuple(torch.bincount(self.labels, minlength=len(self.classes)).tolist())

    def __repr__(self) -> str:
        counts = self.class_counts()
        least, most = min(counts), max(counts)
        balance = f"{least} of each" if least == most else f"{least} to {most} of each"
        return (
            f"<Samples {self.name}/{self.split}: {len(self)} x {shape_text(self.inputs.shape)}, "
            f"{len(self.classes)} classes ({balance}), fingerprint {self.fingerprint[:12]}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "split": self.split,
            "samples": f"{len(self):,}",
            "image": shape_text(self.inputs.shape),
            "classes": str(len(self.classes)),
            "fingerprint": self.fingerprint,
            **{f"note {number}": note for number, note in enumerate(self.notes, start=1)},
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{key}</th><td style='text-align:left'>{html.escape(value)}</td></tr>"
            for key, value in facts.items()
        )
        return f"<b>{html.escape(self.name)}</b><table>{rows}</table>{self._balance_html()}"

    def _balance_html(self, most: int = 20) -> str:
        """Return one bar a class: count and share; of many classes the first ones, and how many follow."""
        counts = self.class_counts()
        largest = max((*counts, 1))
        bars = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name)}</td><td>{count:,}</td>"
            f"<td style='text-align:left'><div style='background:#4c72b0;height:0.7em;"
            f"width:{120 * count / largest:.0f}px'></div></td></tr>"
            for name, count in zip(self.classes[:most], counts[:most], strict=True)
        )
        more = f"<p>and {len(counts) - most:,} more classes</p>" if len(counts) > most else ""
        return f"<details><summary>class balance</summary><table>{bars}</table>{more}</details>"


def as_samples(
    inputs: Numbers,
    labels: Numbers,
    *,
    sample_ids: Numbers | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    name: str = "tensors",
) -> Samples:
    """Return samples out of plain tensors, after every check that a data set must pass.

    Parameters
    ----------
    inputs : Tensor or ndarray
        (N, C, H, W): floats in [0, 1] (a rounding error up to 1e-6 outside is clamped), or uint8 0 to 255.
        Memory is shared where nothing has to be converted, so do not write to it afterwards.
    labels : Tensor, ndarray or sequence of int
        (N,) classes from 0 on.
    sample_ids : Tensor, ndarray or sequence of int, optional
        (N,) distinct indices in the untouched data set; 0, 1, 2 … where not given.
    classes : sequence of str, optional
        Distinct names; ``"0"``, ``"1"`` … up to the largest label where not given.
    limit : int, optional
        So many of them, as `thinice.load_samples` takes them.
    name : str
        What to call the set.

    Raises
    ------
    InputError
        Names what is wrong: an empty set, pixels that are NaN or outside [0, 1], float labels, labels out of
        range, lengths that differ, ids that repeat.

    Examples
    --------
    >>> import torch
    >>> as_samples(torch.zeros(2, 1, 8, 8), [0, 1], classes=["cat", "dog"]).classes
    ('cat', 'dog')
    >>> as_samples(torch.full((2, 1, 8, 8), 255.0), [0, 1])
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `inputs` must lie in [0, 1], got [255, 255]: divide by 255

    """
    check_limit(limit)
    images = as_pixels(as_tensor(inputs, "inputs"))
    truth = as_labels(labels, len(images))
    ids = torch.arange(len(images)) if sample_ids is None else as_ids(sample_ids, len(images))
    names = as_classes(classes, truth)
    notes: tuple[str, ...] = ()
    if limit is not None and limit < len(images):
        drawn = draw(ids, truth, limit)
        notes = (draw_note(truth, drawn),)
        images, truth, ids = images[drawn], truth[drawn], ids[drawn]
    return build_samples(images, truth, sample_ids=ids, classes=names, name=name, split="all", notes=notes)


def build_samples(
    inputs: Tensor | LazyInputs,
    labels: Tensor,
    *,
    sample_ids: Tensor,
    classes: tuple[str, ...],
    name: str,
    split: str,
    sources: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
    digests: Digests | None = None,
) -> Samples:
    """Return samples out of parts that were checked already, with their digests and fingerprint."""
    if digests is None:
        digests = pixel_digests(inputs)
    fingerprint = hashlib.blake2b(f"samples {shape_text(inputs.shape)}".encode(), digest_size=16)
    for column in (digests.astype("<u8"), labels.numpy().astype("<i8"), sample_ids.numpy().astype("<i8")):
        fingerprint.update(column.tobytes())
    return Samples(inputs, labels, sample_ids, classes, fingerprint.hexdigest(), digests, name, split, sources, notes)
