"""Robust accuracies that publications report: read from a small file, and compared with what was measured."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinice.errors import InputError, MissingExtraError
from thinice.files import expanded, read_whole
from thinice.results import Robustness
from thinice.studies.safe_yaml import parse_yaml

__all__ = ["Reported", "match_reported", "read_reported", "reported_vs_measured"]

FORM = "a list of `checkpoint` and `reported` (54.3% or 0.543), as CSV, JSON or YAML"
LARGEST = 1_000_000
"""Bytes of such a file; each line is one network."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a publication says of one checkpoint.

    Attributes
    ----------
    checkpoint : Path
        Its file; a relative path in the list counts from the list's own folder.
    accuracy : float
        The reported robust accuracy, a share.

    """

    checkpoint: Path
    accuracy: float


def read_reported(path: Path) -> list[Reported]:
    r"""Return the reported robust accuracies in a file: columns or keys ``checkpoint`` and ``reported``.

    Values are shares where all lie in [0, 1], percent elsewhere, also with a sign: ``54.3%``. YAML needs the extra
    ``yaml`` and is read without running anything.

    Parameters
    ----------
    path : Path
        A CSV file with a header; JSON or YAML with a list of objects, or an object of accuracies by checkpoint.

    Raises
    ------
    InputError
        For what cannot be read so, naming the file and the line or entry.
    MissingExtraError
        For YAML where PyYAML is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "reported.csv"
    ...     _ = path.write_text("checkpoint,reported\ndense.pt,54.3%\npruned.pt,51\n")
    ...     [(reported.checkpoint.name, reported.accuracy) for reported in read_reported(path)]
    [('dense.pt', 0.543), ('pruned.pt', 0.51)]

    """
    path = expanded(path, "reported")
    try:
        text = read_whole(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`reported` {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    entries = _entries(path, text)
    if not entries:
        raise InputError(f"`reported` {path} is empty: it must be {FORM}")
    pairs = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping) or not {"checkpoint", "reported"} <= set(entry):
            raise InputError(f"`reported` {path}, entry {number}: it must be {FORM}")
        if isinstance(entry["checkpoint"], list | Mapping):
            raise InputError(f"`reported` {path}, entry {number}: `checkpoint` must be one file")
        if None in entry:  # 54,3 is two columns
            raise InputError(
                f"`reported` {path}, entry {number} has more columns than the header: write 54.3, not 54,3"
            )
        pairs.append((str(entry["checkpoint"]).strip(), *_value(path, number, entry["reported"])))
    twice = [name for name, count in Counter(name for name, _, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(f"`reported` {path} names {twice[0]} more than once: leave one entry")
    percent = any(value > 1 for _, value, marked in pairs if not marked)
    accuracies = []
    for number, (checkpoint, value, marked) in enumerate(pairs, 1):
        accuracy = round(value / 100, 12) if marked or percent else value  # 54.3 / 100 is 0.543
        if not 0 <= accuracy <= 1:
            raise InputError(f"`reported` {path}, entry {number}: {value:g} is no accuracy, of 0 to 100 %")
        accuracies.append(Reported(path.parent / expanded(checkpoint, "checkpoint"), accuracy))
    return accuracies


def match_reported(path: Path, reported: Sequence[Reported]) -> Reported:
    """Return what a list says of a checkpoint: the entry with its path, else the only one with its name.

    Raises
    ------
    InputError
        Where the list names it not at all, or by its name more than once.

    """
    for entry in reported:
        if entry.checkpoint.resolve() == path.resolve():
            return entry
    named = [entry for entry in reported if entry.checkpoint.stem == path.stem]
    if len(named) != 1:
        raise InputError(f"`--reported` says {'nothing' if not named else 'more than one thing'} of {path}")
    return named[0]


def reported_vs_measured(result: Robustness) -> dict[str, Any]:
    """Return one row of the table of reported and measured accuracies, as shares; `drop` is in percentage points.

    `above` says whether the reported value lies above the measured one's interval, so that the drop is more than the
    chance of the samples.

    Raises
    ------
    InputError
        Where no reported accuracy was given to `thinice.evaluate_all`.

    """
    if result.reported is None:
        raise InputError(f"`reported` is missing: no accuracy of {result.network} was given to evaluate_all")
    return {
        "network": result.network,
        "sparsity": result.sparsity,
        "data": result.data,
        "split": result.split,
        "samples": len(result),
        "norm": result.norm,
        "budget": result.budget,
        "clean_accuracy": result.clean_accuracy,
        "reported": result.reported,
        "attack": result.attack,
        "measured": result.robust_accuracy,
        "low": result.interval.low,
        "high": result.interval.high,
        "drop": round(100 * (result.reported - result.robust_accuracy), 6),
        "above": result.reported > result.interval.high,
    }


def _entries(path: Path, text: str) -> Sequence[Any]:
    """Return the entries of a file, in the form that its ending names."""
    kind = path.suffix.lower()
    if kind == ".csv":
        try:
            rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
            _refuse_twice(path, rows.fieldnames or (), ", line 1")
            return list(rows)
        except csv.Error as error:
            raise InputError(f"`reported` {path} is no CSV: {error}") from None
    if kind == ".json":
        try:
            return _listed(json.loads(text, parse_int=str, object_pairs_hook=lambda pairs: _once(path, pairs)))
        except RecursionError:
            raise InputError(f"`reported` {path} is nested too deeply: it must be {FORM}") from None
        except json.JSONDecodeError as error:
            raise InputError(f"`reported` {path} is no JSON: {error}") from None
    if kind in {".yaml", ".yml"}:
        try:
            return _listed(parse_yaml(text, f"`reported` {path}", FORM).plain())
        except MissingExtraError:
            raise MissingExtraError(f"reading {path} (or write it as CSV)", "yaml") from None
    raise InputError(f"`reported` {path}: the name must end in .csv, .json, .yaml or .yml")


def _refuse_twice(path: Path, keys: Sequence[str], line: str) -> None:
    """Raise `InputError` where a key stands twice, naming it and its line: the last value would win silently."""
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise InputError(f"`reported` {path}{line}: {twice[0]} stands there more than once: leave one")


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose keys stand there once."""
    _refuse_twice(path, [key for key, _ in pairs], "")
    return dict(pairs)


def _listed(content: object) -> Sequence[Any]:
    """Return a list of entries, also of an object of accuracies by checkpoint."""
    if isinstance(content, Mapping):
        return [{"checkpoint": key, "reported": value} for key, value in content.items()]
    return content if isinstance(content, list) else []


def _value(path: Path, number: int, value: object) -> tuple[float, bool]:
    """Return a number, and whether it was marked as percent."""
    text = "" if isinstance(value, bool) else str(value).strip()  # YAML takes yes and no for booleans
    try:
        return float(text.removesuffix("%")), text.endswith("%")
    except ValueError:
        raise InputError(
            f"`reported` {path}, entry {number}: {value!r} is no accuracy such as 54.3% or 0.543"
        ) from None
