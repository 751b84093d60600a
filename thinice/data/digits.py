"""What needs no network: the 1797 handwritten digits of scikit-learn, and the example networks trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from thinice.data.samples import Samples, build_samples
from thinice.errors import DataError

if TYPE_CHECKING:
    from thinice.data import Request

__all__ = ["example_checkpoints", "load_digits"]

EXAMPLES = ("dense", "pruned-90", "pruned-95")
PACKAGE = Path(__file__).resolve().parent.parent


def load_digits(request: Request) -> Samples:
    """Return 8x8 grey images, 16 grey levels divided by 16; sample ids are indices in scikit-learn's order.

    The split has no randomness: within each class, in scikit-learn's order, every second sample is for
    testing, starting with the first (901 samples); the others are for training (896). Half,
    because few samples are lost and each one counts. Source: the test part of Alpaydin and Kaynak, Optical
    Recognition of Handwritten Digits, UCI Repository, 1998.
    """
    from sklearn import datasets  # noqa: PLC0415 (takes a second)

    split = request.split_among(("test", "train", "all"))
    raw = datasets.load_digits()
    images = torch.from_numpy(raw.images).to(torch.float32).div(16).unsqueeze(1)
    labels = torch.from_numpy(raw.target).to(torch.int64)
    request.refuse_image_size(images.shape)

    rank_in_class = torch.nn.functional.one_hot(labels, 10).cumsum(0).gather(1, labels[:, None]).flatten() - 1
    testing = rank_in_class % 2 == 0
    in_split = {"test": testing, "train": ~testing, "all": torch.ones_like(testing)}[split]
    ids = in_split.nonzero().flatten()
    positions, notes = request.choose(labels[ids], ids)
    chosen = ids[positions]
    return build_samples(
        images[chosen],
        labels[chosen],
        sample_ids=chosen,
        classes=tuple("0123456789"),
        name=request.name,
        split=split,
        notes=notes,
    )


def example_checkpoints() -> dict[str, Path]:
    """Return the paths of the example's checkpoints: ``dense``, ``pruned-90`` and ``pruned-95``.

    Raises
    ------
    DataError
        The package was installed without them.

    Examples
    --------
    >>> sorted(example_checkpoints())
    ['dense', 'pruned-90', 'pruned-95']

    """
    for folder in (PACKAGE / "_data" / "digits", PACKAGE.parent / "data" / "digits"):
        paths = {name: folder / f"{name}.pt" for name in EXAMPLES}
        if all(path.is_file() for path in paths.values()):
            return paths
    raise DataError(f"the embedded example is not in {PACKAGE}: install thinice again, or run data/digits/make.py")
