"""`load` returns the networks and the samples that the options of checkpoints and data name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinice.cli.options import CheckpointOptions, DataOptions, normalization_value
from thinice.cli.output import Messages
from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice import Classifier, Samples

__all__ = ["load"]

AUTO = "auto"
"""The architecture that the file itself says."""


def load(
    paths: Sequence[Path], reading: CheckpointOptions, selection: DataOptions, say: Messages
) -> tuple[list[Classifier], Samples]:
    """Return the networks in the files and the samples to measure them on, and tell the notes on both."""
    from thinice import load_samples
    from thinice.analysis.comparison import named_data
    from thinice.analysis.measurement import in_network_classes, prepare_classifiers
    from thinice.models.loading import read_classifier, unused_density

    densities = densities_value(reading.density, len(paths))
    architectures = for_each(reading.architecture, len(paths), "--architecture")
    arguments = for_each(reading.architecture_args, len(paths), "--architecture-args")
    weights = for_each(reading.weights, len(paths), "--weights")
    masks = for_pruned(reading.masks, len(paths), "--masks")
    with redirect_stdout(sys.stderr):  # what the user's own code prints is no number
        loaded = [
            read_classifier(
                path,
                architecture=None if name == AUTO else name,
                architecture_args=arguments_value(text),
                normalization=normalization_value(reading.normalization),
                density=density,
                masks=None if mask == AUTO else mask,
                weights=None if entry == AUTO else entry,
                trust_pickle=reading.trust_pickle,
            )
            for path, name, text, density, mask, entry in zip(
                paths, architectures, arguments, densities, masks, weights, strict=True
            )
        ]
    given = [
        (density, classifier) for density, classifier in zip(densities, loaded, strict=True) if density is not None
    ]
    if given and all(unused_density(density) in classifier.notes for density, classifier in given):
        files = "the checkpoint holds none" if len(loaded) == 1 else "no checkpoint holds any"
        raise InputError(
            f"`--density` {reading.density} says how many weights pruning scores keep, and {files}: leave it out"
        )
    samples = load_samples(
        selection.data or named_data(loaded[0]),
        split=selection.split,
        limit=selection.limit,
        image_size=selection.image_size,
    )
    samples = in_network_classes(samples, loaded)
    classifiers = prepare_classifiers(loaded, samples)
    for classifier in classifiers:
        say.notes(classifier.name, classifier.notes)
    say.notes(samples.name, samples.notes)
    return classifiers, samples


def for_each(values: Sequence[str] | None, checkpoints: int, option: str) -> Sequence[str | None]:
    """Return an option's value for each checkpoint, where it was given never, once for all, or once for each."""
    if not values:
        return [None] * checkpoints
    if len(values) == 1:
        return [*values] * checkpoints
    if len(values) != checkpoints:
        raise InputError(
            f"`{option}` is given {len(values)} times for {checkpoints} checkpoints: give it once for all, or once for "
            "each"
        )
    return values


def for_pruned(values: Sequence[str] | None, checkpoints: int, option: str) -> Sequence[str | None]:
    """Return an option's value for each checkpoint, where it was given never, once for each, or not for the first."""
    if not values:
        return [None] * checkpoints
    if len(values) == checkpoints - 1:
        return [None, *values]
    if len(values) != checkpoints:
        raise InputError(
            f"`{option}` is given {len(values)} times for {checkpoints} checkpoints: give it once for each, or once "
            "for each after the first"
        )
    return values


def densities_value(text: str | None, checkpoints: int) -> Sequence[float | None]:
    """Return the value of ``--density`` for each checkpoint: one for all, for each, or for each after the first."""
    if text is None:
        return [None] * checkpoints
    try:
        densities = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"`--density` must be fractions such as 0.1 or 0.1,0.01, got {text!r}") from None
    if len(densities) == 1:
        return densities * checkpoints
    return [None if value is None else float(value) for value in for_pruned(text.split(","), checkpoints, "--density")]


def arguments_value(text: str | None) -> dict[str, Any] | None:
    """Return the value of ``--architecture-args``: a JSON object."""
    if text is None:
        return None
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        way_out = """a JSON object such as '{"width": 16}'"""
        raise InputError(f"`--architecture-args` must be {way_out}, got {text!r}")
    return arguments
