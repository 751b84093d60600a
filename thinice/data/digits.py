"""The embedded default: the 1797 handwritten digits that come with scikit-learn; no network needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from thinice.data.samples import Samples, build_samples

if TYPE_CHECKING:
    from thinice.data import Request

__all__ = ["load_digits"]


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
    inside = {"test": testing, "train": ~testing, "all": torch.ones_like(testing)}[split]
    ids = inside.nonzero().flatten()
    places, notes = request.choose(labels[ids], ids)
    chosen = ids[places]
    return build_samples(
        images[chosen],
        labels[chosen],
        sample_ids=chosen,
        classes=tuple("0123456789"),
        name=request.name,
        split=split,
        notes=notes,
    )
