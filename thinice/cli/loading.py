"""Checkpoints and data, as the shared options name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thinice.cli.options import CheckpointOptions, DataOptions, normalization_value
from thinice.cli.output import Messages
from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice import Classifier, Samples

__all__ = ["load"]


def load(
    paths: Sequence[Path], reading: CheckpointOptions, selection: DataOptions, say: Messages
) -> tuple[list[Classifier], Samples]:
    """Return the networks in the files and the samples to measure them on, and tell the notes on both."""
    from thinice import load_classifier, load_samples
    from thinice.analysis.comparison import named_data
    from thinice.analysis.measurement import prepare_classifiers
    from thinice.models.loading import unused_density

    density = reading.density
    loaded = [
        load_classifier(
            path,
            architecture=reading.architecture,
            normalization=normalization_value(reading.normalization),
            density=density,
            trust_pickle=reading.trust_pickle,
        )
        for path in paths
    ]
    if density is not None and all(unused_density(density) in classifier.notes for classifier in loaded):
        files = "the checkpoint holds none" if len(loaded) == 1 else "no checkpoint holds any"
        raise InputError(
            f"`--density` {density:g} says how many weights pruning scores keep, and {files}: leave it out"
        )
    samples = load_samples(
        selection.data or named_data(loaded[0]),
        split=selection.split,
        limit=selection.limit,
        image_size=selection.image_size,
    )
    classifiers = prepare_classifiers(loaded, samples)
    for classifier in classifiers:
        say.notes(classifier.name, classifier.notes)
    say.notes(samples.name, samples.notes)
    return classifiers, samples
