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

__all__ = ["load", "load_networks", "readings"]

AUTO = "auto"
"""What the file itself says."""


def load(
    paths: Sequence[Path], reading: CheckpointOptions, selection: DataOptions, say: Messages
) -> tuple[list[Classifier], Samples]:
    """Return the networks in the files and the samples to measure them on, and tell the notes on both."""
    from thinice import as_classifier, load_samples
    from thinice.analysis.comparison import named_data
    from thinice.analysis.measurement import in_network_classes, prepare_classifiers

    loaded = load_networks(paths, reading)
    samples = load_samples(
        selection.data or named_data(loaded[0]),
        split=selection.split,
        limit=selection.limit,
        image_size=selection.image_size,
    )
    if selection.one_by_one:
        loaded = [as_classifier(classifier, one_by_one=True) for classifier in loaded]
    samples = in_network_classes(samples, loaded)
    with say.doubts() as said:
        classifiers = prepare_classifiers(loaded, samples)
    for classifier in classifiers:
        say.notes(classifier.name, tuple(note for note in classifier.notes if note not in said))
    say.notes(samples.name, samples.notes)
    return classifiers, samples


def load_networks(paths: Sequence[Path], reading: CheckpointOptions) -> list[Classifier]:
    """Return the networks in the files, as they are before anybody has seen samples."""
    from thinice.models.loading import read_classifier, unused_density

    each = readings(reading, len(paths))
    with redirect_stdout(sys.stderr):  # what the user's own code prints is no number
        loaded = [read_classifier(path, **arguments) for path, arguments in zip(paths, each, strict=True)]
    given = [
        (arguments["density"], classifier)
        for arguments, classifier in zip(each, loaded, strict=True)
        if arguments["density"] is not None
    ]
    if given and all(unused_density(density) in classifier.notes for density, classifier in given):
        files = "the checkpoint holds none" if len(loaded) == 1 else "no checkpoint holds any"
        raise InputError(
            f"`--density` {reading.density} says how many weights pruning scores keep, and {files}: leave it out"
        )
    return loaded


def readings(reading: CheckpointOptions, checkpoints: int) -> list[dict[str, Any]]:
    """Return what the options say of each checkpoint, as keyword arguments of what reads one."""
    columns = zip(
        for_each(reading.architecture, checkpoints, "--architecture"),
        for_each(reading.architecture_args, checkpoints, "--architecture-args"),
        densities_value(reading.density, checkpoints),
        for_pruned(reading.masks, checkpoints, "--masks"),
        for_each(reading.weights, checkpoints, "--weights"),
        strict=True,
    )
    return [
        {
            "architecture": None if architecture == AUTO else architecture,
            "architecture_args": arguments_value(arguments),
            "normalization": normalization_value(reading.normalization),
            "density": density,
            "masks": None if masks == AUTO else masks,
            "weights": None if weights == AUTO else weights,
            "trust_pickle": reading.trust_pickle,
        }
        for architecture, arguments, density, masks, weights in columns
    ]


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
