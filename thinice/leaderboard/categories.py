"""In which category of the leaderboards a pruned network is: by what is measured of it, not by what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinice.errors import InputError
from thinice.leaderboard.model_keys import SPARSITIES, Category, ModelKey
from thinice.models import Masks
from thinice.models.architectures.variants import base_and_variant
from thinice.models.weights import grouped, spread

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.models import Classifier

__all__ = ["category_of", "check_key", "removed_share", "structure_of_zeros"]

FAMILIES = {"resnet18": "R18", "resnet18_rst": "R18", "preact_resnet18_cifar": "R18"}
VGG = "vgg16_bn"
FULL_WIDTH = 10_000_000
"""Prunable weights that a dense network of the leaderboards has at least: narrower ones of the same name are others."""
DATA_SETS = {"cifar10": "CIFAR10", "svhn": "SVHN"}
NEAR = 1.0
"""Points by which a sparsity may differ from the one that a category names."""
STRUCTURED = 0.9
"""Share of the zeros of convolutions that lie in whole filters or channels, from which pruning counts as structured."""


def removed_share(pruned: Classifier, dense: Classifier) -> float:
    """Return the share of the dense network's prunable weights that are zero, or gone, in the pruned one.

    Where nothing is gone that is the sparsity, but for zeros that the dense network has itself.
    """
    kept = pruned.weights * (1 - pruned.sparsity)
    return max(0.0, 1 - kept / dense.weights) if dense.weights else 0.0


def structure_of_zeros(pruned: Classifier, dense: Classifier) -> str:
    """Return ``"S"`` where whole filters or channels are zero or gone, ``"US"`` where single weights are zero.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> dense, pruned = (thinice.load_classifier(paths[name]) for name in ("dense", "pruned-95"))
    >>> structure_of_zeros(pruned, dense)
    'US'
    """
    if pruned.weights < dense.weights:
        return "S"
    zeros = within = 0
    for mask in Masks.of(pruned.module).convolutions().kept.values():
        shape = tuple(mask.shape)
        filters, channels = (spread(grouped(mask, unit).any(-1), shape, unit) for unit in ("filter", "channel"))
        zeros += int((~mask).sum())
        within += int((~(filters & channels)).sum())  # what is in a unit that keeps nothing is zero itself
    return "S" if zeros and within >= STRUCTURED * zeros else "US"


def category_of(pruned: Classifier, dense: Classifier, samples: Samples) -> Category | None:
    """Return the category of the leaderboards that a network is in; None where they have none like it."""
    architecture, data = _architecture(dense), DATA_SETS.get(samples.name)
    structure, percent = structure_of_zeros(pruned, dense), 100 * removed_share(pruned, dense)
    nearest = min(SPARSITIES[structure], key=lambda sparsity: abs(sparsity - percent))
    if architecture is None or data is None or abs(nearest - percent) > NEAR:
        return None
    return Category(architecture, data, structure, nearest)


def _architecture(dense: Classifier) -> str | None:
    base, _ = base_and_variant(dense.architecture)
    if dense.weights < FULL_WIDTH:
        return None
    return "V16" if base.startswith(VGG) else FAMILIES.get(base)


def check_key(key: ModelKey, pruned: Classifier, dense: Classifier, samples: Samples) -> None:
    """Raise `InputError` where a key says of a network what is not so: structure, sparsity, architecture or data."""
    wanted, percent = key.category, 100 * removed_share(pruned, dense)
    structure, architecture, data = structure_of_zeros(pruned, dense), _architecture(dense), DATA_SETS.get(samples.name)
    if abs(wanted.sparsity - percent) > NEAR:
        raise InputError(
            f"`model_key` {key} says {wanted.sparsity} %, and of the weights of {pruned.name} {percent:.1f} % are zero "
            "or gone: give the key of its own sparsity"
        )
    for name, said, seen in (
        ("structure", wanted.structure, structure),
        ("architecture", wanted.architecture, architecture),
        ("data", wanted.data, data),
    ):
        if seen is not None and said != seen:
            raise InputError(f"`model_key` {key} says {name} {said}, and {pruned.name} is {seen}: give its own key")
    if architecture is None:
        raise InputError(
            f"`model_key` {key} is of a {wanted.architecture}, and {dense.name} is {dense.architecture} with "
            f"{dense.weights} prunable weights: leave the key out"
        )
    if data is None:
        raise InputError(
            f"`model_key` {key} is of {wanted.data}, and the samples are of {samples.name!r}: measure on "
            f"{' or '.join(DATA_SETS)}, or leave the key out"
        )
