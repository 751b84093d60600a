"""A data set, or a part of one: pixels in [0, 1], labels, lasting ids, and a fingerprint of all of it."""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thinice.datasets.checks import as_classes, as_ids, as_index, as_labels, as_tensor, refuse_repeats
from thinice.datasets.draw import check_limit, draw, draw_note
from thinice.datasets.inputs import LazyInputs, as_pixels, pixel_digests, shape_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinice.datasets.checks import Index, Numbers
    from thinice.datasets.inputs import Digests

__all__ = ["LazyInputs", "Samples", "as_samples", "build_samples"]


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
        where = as_index(index, len(self))
        sample_ids = self.sample_ids[where]
        refuse_repeats(sample_ids)
        inputs = self.inputs[where] if isinstance(self.inputs, Tensor) else self.inputs.select(where)
        places = range(len(self))[where] if isinstance(where, slice) else where.tolist()
        return build_samples(
            inputs,
            self.labels[where],
            sample_ids=sample_ids,
            classes=self.classes,
            name=self.name,
            split=self.split,
            sources=None if self.sources is None else tuple(self.sources[place] for place in places),
            notes=self.notes,
            digests=self.digests[where if isinstance(where, slice) else where.numpy()],
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
