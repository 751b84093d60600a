"""Checkpoints and data, as the shared options name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thinice.cli.options import normalization_value
from thinice.cli.output import Messages
from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice import Classifier, Samples

__all__ = ["load"]


def load(
    paths: Sequence[Path],
    *,
    data: str | None,
    split: str,
    limit: int | None,
    image_size: int | None,
    architecture: str | None,
    normalization: str | None,
    density: float | None,
    trust_pickle: bool,
    say: Messages,
) -> tuple[list[Classifier], Samples]:
    """Return the networks in the files and the samples to measure them on; say what was found out on the way."""
    from thinice import load_classifier, load_samples
    from thinice.analysis.comparison import named_data
    from thinice.analysis.measurement import prepare_classifiers
    from thinice.models.loading import unused_density

    found = [
        load_classifier(
            path,
            architecture=architecture,
            normalization=normalization_value(normalization),
            density=density,
            trust_pickle=trust_pickle,
        )
        for path in paths
    ]
    if density is not None and all(unused_density(density) in one.notes for one in found):
        files = "the checkpoint holds none" if len(found) == 1 else "no checkpoint holds any"
        raise InputError(
            f"`--density` {density:g} says how many weights pruning scores keep, and {files}: leave it out"
        )
    samples = load_samples(data or named_data(found[0]), split=split, limit=limit, image_size=image_size)
    classifiers = prepare_classifiers(found, samples)
    for classifier in classifiers:
        say.notes(classifier.name, classifier.notes)
    say.notes(samples.name, samples.notes)
    return classifiers, samples
