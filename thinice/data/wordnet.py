"""The ten classes of Imagenette by WordNet id: which of ImageNet's 1000 classes each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from thinice.data.samples import build_samples

if TYPE_CHECKING:
    from thinice.data.samples import Samples

__all__ = ["IMAGENETTE", "IMAGENET_CLASSES", "as_imagenet"]

IMAGENET_CLASSES = 1000
IMAGENETTE = (
    ("n01440764", "tench", 0),
    ("n02102040", "English springer", 217),
    ("n02979186", "cassette player", 482),
    ("n03000684", "chain saw", 491),
    ("n03028079", "church", 497),
    ("n03394916", "French horn", 566),
    ("n03417042", "garbage truck", 569),
    ("n03425413", "gas pump", 571),
    ("n03445777", "golf ball", 574),
    ("n03888257", "parachute", 701),
)
"""WordNet id, which is the name of the folder; name; class of a network of ImageNet's 1000."""


def as_imagenet(samples: Samples) -> Samples:
    """Return samples of Imagenette with the labels that networks of ImageNet's 1000 classes give; others as they are.

    Examples
    --------
    >>> from thinice.data import as_samples
    >>> fish = as_samples(torch.zeros(2, 3, 8, 8), [0, 1], classes=["n01440764", "n03888257"])
    >>> as_imagenet(fish).labels.tolist()
    [0, 701]
    """
    index = {key: number for wordnet_id, name, number in IMAGENETTE for key in (wordnet_id, name)}
    if not set(samples.classes) <= index.keys():
        return samples
    numbers = [index[name] for name in samples.classes]
    classes = [str(number) for number in range(IMAGENET_CLASSES)]
    for name, number in zip(samples.classes, numbers, strict=True):
        classes[number] = name
    mapped = ", ".join(f"{name} is {number}" for name, number in zip(samples.classes, numbers, strict=True))
    return build_samples(
        samples.inputs,
        torch.tensor(numbers)[samples.labels],
        sample_ids=samples.sample_ids,
        classes=tuple(classes),
        name=samples.name,
        split=samples.split,
        sources=samples.sources,
        notes=(*samples.notes, f"labels are those of a network of ImageNet's {IMAGENET_CLASSES} classes: {mapped}"),
        digests=samples.digests,
    )
