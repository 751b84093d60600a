"""One self-contained HTML page out of a store: the answer, how it was measured, and every sample to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.data import Samples
from thinice.errors import InputError
from thinice.files import temporary_folder, writable
from thinice.plots import TRANSITIONS, UNITS
from thinice.report.facts import Axis, ComparisonFacts, Data, MeasurementFacts, read_facts
from thinice.report.figures import SvgFigure, draw_figures
from thinice.report.groups import class_table, population_section
from thinice.report.inline import csp_hash, palette, source
from thinice.report.pictures import (
    CloseUps,
    Pictures,
    SpriteSheet,
    amplification,
    close_ups,
    find_pictures,
    pack_all,
    pack_close,
)
from thinice.report.sections import (
    closest,
    comparison_part,
    comparison_row,
    escaped,
    headline,
    measured_section,
    nearest,
    overview,
    predictor_table,
    statistics,
    transition_table,
    warnings,
)
from thinice.results.comparison_text import answer
from thinice.store import Store, open_store
from thinice.types import Norm, Outcome, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ShownSamples", "SvgFigure", "draw_figures", "payload", "save_report", "script_json"]

DIGITS, EPSILON_DIGITS = 4, 6
"""Significant digits of numbers in the page: epsilons keep their order; the store has all digits."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownSamples:
    """What one measurement shows: its samples' pictures, and the nearest with their adversarials; with their sheets.

    `rows` are those of the data that stand on the page, in order, the same for all measurements of the data.
    """

    rows: NDArray[np.int64]
    pictures: Pictures
    sheet: SpriteSheet | None
    close: CloseUps | None
    close_sheet: SpriteSheet | None


def payload(
    comparisons: Sequence[ComparisonFacts], seen: Mapping[int, ShownSamples], sheets: Sequence[SpriteSheet]
) -> str:
    """Return all that the script needs, as JSON: data and measurements that comparisons share stand there once."""
    measured = list({id(compared.measured): compared.measured for compared in comparisons}.values())
    data = list({id(measurement.data): measurement.data for measurement in measured}.values())
    of_data = {id(compared.measured.data): seen[id(compared.measured)] for compared in comparisons}
    words = [{"name": name, "word": TRANSITIONS[name].word} for name in Transition]
    return script_json(
        {
            "transitions": words,
            "data": [
                {
                    "name": part.row["name"],
                    "classes": list(part.classes),
                    "n": len(part.sample_ids),
                    "ids": part.sample_ids[of_data[id(part)].rows].tolist(),
                    "labels": part.labels[of_data[id(part)].rows].tolist(),
                    "sources": part.sources and [part.sources[row] for row in of_data[id(part)].rows.tolist()],
                    "sheet": _sheet(of_data[id(part)].sheet, sheets),
                    "cells": _cells(of_data[id(part)]),
                }
                for part in data
            ],
            "measured": [
                _measured(measurement, data.index(measurement.data), seen[id(measurement)], sheets)
                for measurement in measured
            ],
            "comparisons": [
                _compared(compared, measured.index(compared.measured), seen[id(compared.measured)].rows)
                for compared in comparisons
            ],
        }
    )


def script_json(value: object) -> str:
    r"""Return JSON in ASCII that ends no script element and starts no comment in one, whatever the texts in it.

    Examples
    --------
    >>> script_json({"name": "</script>\u2028"})
    '{"name":"\\u003c/script\\u003e\\u2028"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _measured(
    measured: MeasurementFacts, data: int, seen: ShownSamples, sheets: Sequence[SpriteSheet]
) -> dict[str, Any]:
    unit = UNITS[measured.norm]
    close, rows = seen.close, seen.rows
    return {
        "data": data,
        "dense": measured.dense["name"],
        "norm": measured.norm,
        "label": unit.label,
        "suffix": unit.suffix,
        "epsilon": _numbers(measured.epsilon[rows] * unit.scale, EPSILON_DIGITS),
        "lower": None
        if measured.epsilon_lower is None
        else _numbers(_rounded_down(measured.epsilon_lower[rows] * unit.scale, EPSILON_DIGITS), EPSILON_DIGITS),
        "outcomes": measured.outcomes[rows].tolist(),
        "far": measured.far_predictions[rows].tolist(),
        "predictions": measured.predictions[rows].tolist(),
        "axes": [_axis(axis, measured.norm, rows) for axis in measured.axes],
        "close": _sheet(seen.close_sheet, sheets),
        "closeRows": [] if close is None else np.searchsorted(rows, close.rows).tolist(),
        "amplification": [] if close is None or close.inputs is None else _numbers(amplification(close)),
    }


def _compared(compared: ComparisonFacts, measured: int, rows: NDArray[np.int64]) -> dict[str, Any]:
    codes = {"": "-"} | {name: str(k) for k, name in enumerate(Transition)}
    return {
        "measured": measured,
        "pruned": compared.pruned["name"],
        "transitions": "".join(codes[name] for name in compared.transitions[rows].tolist()),
        "predictions": compared.pruned_predictions[rows].tolist(),
        "axes": [_axis(axis, compared.measured.norm, rows) for axis in compared.axes],
    }


def _axis(axis: Axis, norm: Norm, rows: NDArray[np.int64]) -> dict[str, Any]:
    scale, suffix = (UNITS[norm].scale, UNITS[norm].suffix) if axis.is_epsilon else (1.0, "")
    values = axis.values[rows] * scale
    if axis.is_proved:
        values = _rounded_down(values, DIGITS)
    return {"name": axis.name, "meaning": axis.meaning, "suffix": suffix, "values": _numbers(values)}


def _sheet(sheet: SpriteSheet | None, sheets: Sequence[SpriteSheet]) -> dict[str, Any] | None:
    if sheet is None:
        return None
    index = next(k for k, other in enumerate(sheets) if other is sheet)
    return {
        "image": f"sheet-{index}",
        "columns": sheet.columns,
        "width": sheet.width,
        "height": sheet.height,
        "parts": sheet.parts,
    }


def _cells(seen: ShownSamples) -> list[int] | None:
    """Return the cell of each sample, -1 where it has none; None where the n-th sample is in the n-th cell."""
    has_picture = seen.pictures.positions[seen.rows] >= 0
    return None if has_picture.all() else np.where(has_picture, np.cumsum(has_picture) - 1, -1).tolist()


def _rounded_down(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Return values of at least 0 with so many digits, and no larger: what is proved stays true.

    >>> _rounded_down(np.array([0.0, 2.99999, 0.0123456]), 4).round(9).tolist()
    [0.0, 2.999, 0.01234]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        step = 10 ** (np.floor(np.log10(values)) - digits + 1)
        return np.where(values > 0, np.floor(values / step) * step, values)


def _numbers(values: NDArray[Any], digits: int = DIGITS) -> list[float | int | None]:
    """Return values with few digits, whole ones without a point, None where there is none."""
    numbers: list[float | int | None] = []
    for value in values.tolist():
        if not np.isfinite(value):
            numbers.append(None)
            continue
        short = float(f"{value:.{digits}g}")
        numbers.append(int(short) if short.is_integer() else short)
    return numbers


SHOWN = 50_000
"""Of more samples than this the nearest stand on the page one by one; tables and figures rest on all."""
VALUES, LEAST = 200_000, 250
"""Samples times comparisons and measurements: of many comparisons fewer samples are shown, but so many at least."""
MANY = 50
"""Of more comparisons and measurements than this, whose tables weigh too, all samples together are fewer."""

DRAWN = 8
"""Of more comparisons than this the first have figures, which weigh up to 0.5 MB each and take seconds to draw, and say
what each statistic means; of more than MANY, half as many."""

CAPTIONS = {
    "training-dense": "What the training of the dense network reached, epoch by epoch.",
    "training-pruned": "What the training of the pruned network reached, epoch by epoch.",
    "distribution": "How far samples lay from the dense boundary, by what pruning did to them.",
    "survival": "The share of each transition that lies farther than ε.",
    "security": "The accuracy that remains under perturbations of size ε.",
    "intervals": "The share of samples that is proved, and that is found, to lie farther than ε.",
    "roc": "How well a small ε predicts that pruning loses a sample.",
    "risk": "The chance that pruning loses a sample, by its distance to the dense boundary.",
    "pairs": "How far each sample lay before pruning, and lies after it.",
    "predictors": "What predicts best which samples pruning loses.",
    "classes": "Which classes lose the most.",
    "gallery": "The nearest samples, lost ones first, the change that fools the dense network, and what it then sees.",
}


def save_report(
    store: Store | str | Path,
    path: str | Path = "report.html",
    *,
    samples: Samples | str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write all comparisons of a store as one HTML page that needs no other file and no network; return its path.

    The page tells the question and the answer, shows tables, figures and every sample (of very many
    those nearest to the boundary), and says how it was measured.
    Pictures of the samples come from the data set that the store names. They are shown only where every one is, by
    its content, the sample that was measured; where they are not to be had the page says why. Nothing is downloaded.
    The same store gives the same page.

    Parameters
    ----------
    store : Store or path
        What to report.
    path : path
        The file to write, whole or not at all; an older report that is there is replaced.
    samples : Samples or str, optional
        The images, or the name or path of their data set, where they are not found under the recorded name.

    overwrite : bool
        Replace a file that is no report; never a store.

    Raises
    ------
    InputError
        When the store holds no comparison, or the file must not, or cannot, be written.
    StoreError
        When there is no store.

    Examples
    --------
    >>> import tempfile
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/thinice.duckdb"
    ...     options = {"attack": "fmn", "steps": 20, "store": store, "progress": False}
    ...     result = thinice.compare(paths["dense"], paths["pruned-95"], samples, **options)
    ...     save_report(store, f"{folder}/report.html").name
    'report.html'

    """
    opened = store if isinstance(store, Store) else open_store(store)
    target = writable(
        path, argument="path", like=_is_report, kind="a report of thinice", overwrite=overwrite, store=opened.path
    )
    page = _page(opened, samples)
    try:
        with temporary_folder(target.parent) as unfinished:
            temporary_path = unfinished / target.name
            temporary_path.write_text(page, encoding="utf-8", newline="\n")
            temporary_path.replace(target)
    except OSError as error:
        raise InputError(f"`path` {target} cannot be written: {error.strerror or error}") from None
    return target


def _is_report(head: bytes) -> bool:
    return head.startswith(b"<!doctype html>") and b"<title>Thin ice: " in head


def _page(store: Store, samples: Samples | str | None) -> str:
    facts = read_facts(store)
    drawn = _most_drawn(len(facts.comparisons))
    seen, sheets = _look(store, facts.comparisons, samples)
    sections = [
        _section(compared, index, facts.meanings if index < drawn else {}, seen[id(compared.measured)], drawn)
        for index, compared in enumerate(facts.comparisons)
    ]
    notes = {
        note for compared in facts.comparisons for note in _notes(compared.measured.data, seen[id(compared.measured)])
    }
    style, script = source("report.css").replace("/*palette*/", palette()), source("report.js")
    names = [f"{compared.measured.dense['name']} → {compared.pruned['name']}" for compared in facts.comparisons]
    return Template(source("report.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=escaped(f"Thin ice: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")),
        style=style,
        script=script,
        options="".join(
            f'<option value="{index}">{escaped(_choice(compared))}</option>'
            for index, compared in enumerate(facts.comparisons)
        ),
        several="" if len(names) > 1 else "hidden",
        overview=overview(facts.comparisons),
        above="".join(above for above, _ in sections),
        below="".join(below for _, below in sections),
        measured=measured_section(facts.comparisons) + population_section(facts.populations),
        closest="".join(
            closest(compared, index, seen[id(compared.measured)].rows)
            for index, compared in enumerate(facts.comparisons)
        ),
        shown="Every sample"
        if all(len(seen[id(compared.measured)].rows) == len(compared.known) for compared in facts.comparisons)
        else "Samples near the boundary",
        legend=_legend(),
        notes="".join(f"<p>{escaped(note)}</p>" for note in sorted(notes) if note),
        sheets="".join(f'<img id="sheet-{k}" src="{sheet.uri}" alt="">' for k, sheet in enumerate(sheets)),
        data=payload(facts.comparisons, seen, sheets),
        version=escaped(version("thinice")),
    )


def _look(
    store: Store, comparisons: Sequence[ComparisonFacts], given: Samples | str | None
) -> tuple[dict[int, ShownSamples], list[SpriteSheet]]:
    """Return what each measurement shows, by its id, and all sheets; pictures of the same data are packed once."""
    sheets: list[SpriteSheet] = []
    seen: dict[int, ShownSamples] = {}
    columns = len(comparisons) + len({id(compared.measured) for compared in comparisons})
    most = _most_shown(columns)
    for data in {id(compared.measured.data): compared.measured.data for compared in comparisons}.values():
        same = [compared for compared in comparisons if compared.measured.data is data]
        order = _nearest_first(same, data)
        pictures = find_pictures(data, order, given)
        measurements = {id(compared.measured): compared.measured for compared in same}
        close = {
            key: close_ups(store, measured, [compared for compared in same if compared.measured is measured], pictures)
            for key, measured in measurements.items()
        }
        needed = [
            *(nearest(compared) for compared in same),
            *(close_up.rows for close_up in close.values() if close_up),
        ]
        rows = np.unique(np.concatenate([order[:most], *needed]))
        sheet = pack_all(pictures, rows)
        sheets += [sheet] if sheet else []
        for key, close_up in close.items():
            seen[key] = ShownSamples(rows, pictures, sheet, close_up, pack_close(close_up) if close_up else None)
            sheets += [packed for packed in (seen[key].close_sheet,) if packed]
    return seen, sheets


def _most_shown(columns: int) -> int:
    """Return how many samples stand on the page, by the number of comparisons and measurements.

    >>> [_most_shown(columns) for columns in (2, 50, 100, 201)]
    [50000, 4000, 1000, 250]
    """
    return min(SHOWN, max(LEAST, VALUES * min(columns, MANY) // columns**2))


def _nearest_first(comparisons: Sequence[ComparisonFacts], data: Data) -> NDArray[np.int64]:
    """Return the rows of the data: the nearest to any boundary and the nearest lost ones in turn, then all others."""
    turn = np.full(len(data.sample_ids), np.inf)
    for comparison in comparisons:
        rows = np.flatnonzero(comparison.measured.outcomes == Outcome.FOUND)
        rows = rows[np.argsort(comparison.measured.epsilon[rows], kind="stable")]
        for group in (rows, rows[comparison.transitions[rows] == Transition.LOST]):
            turn[group] = np.minimum(turn[group], np.arange(len(group)))
    return np.argsort(turn, kind="stable")


def _notes(data: Data, seen: ShownSamples) -> tuple[str, ...]:
    """Return what must be said of the samples and their pictures."""
    whole, shown = len(data.sample_ids), len(seen.rows)
    few = (
        f"Of {whole:,} samples the {shown:,} nearest to the boundary stand here one by one; all tables and figures "
        "rest on all of them."
    )
    return (few, seen.pictures.note) if shown < whole else (seen.pictures.note,)


def _most_drawn(comparisons: int) -> int:
    """Return how many of so many comparisons have figures.

    >>> [_most_drawn(comparisons) for comparisons in (2, 50, 200)]
    [2, 8, 4]
    """
    return min(comparisons, DRAWN if comparisons <= MANY else DRAWN // 2)


def _section(
    compared: ComparisonFacts, index: int, meanings: dict[str, str], seen: ShownSamples, drawn: int
) -> tuple[str, str]:
    """Return what stands above the samples of one comparison, and what stands below; the first `drawn` have figures."""
    figures = _figures(compared, seen) if index < drawn else f"<p>{escaped(_not_drawn(compared, drawn))}</p>"
    part = comparison_part(index)
    above = (
        f'<section {part} aria-label="Answer"><p class="question">{escaped(headline(compared))}</p>'
        f'<p class="answer">{escaped(answer(comparison_row(compared)))}</p>'
        f"{warnings(compared)}{transition_table(compared)}</section>"
    )
    below = (
        f"<section {part}><h2>Figures</h2>{figures}<h2>Statistics</h2>{statistics(compared, meanings)}"
        f"{predictor_table(compared)}{class_table(compared)}</section>"
    )
    return above, below


def _figures(compared: ComparisonFacts, seen: ShownSamples) -> str:
    """Return the figures of a comparison, each with what it shows."""
    figures = "".join(
        f'<figure class="{name}"><img src="{escaped(drawing.uri)}" alt="{escaped(CAPTIONS.get(name, name))}" '
        f'width="{drawing.width}" height="{drawing.height}" loading="lazy">'
        f"<figcaption>{escaped(CAPTIONS.get(name, name))}</figcaption></figure>"
        for name, drawing in draw_figures(compared, seen.close).items()
    )
    return f'<div class="figures">{figures}</div>'


def _not_drawn(compared: ComparisonFacts, drawn: int) -> str:
    """Return why a comparison has no figures here, and how to have them."""
    return (
        f"The first {drawn} comparisons have their figures here: a page with those of all would be too heavy. "
        f"The command thinice compare draws those of {compared.measured.dense['name']} and {compared.pruned['name']} "
        "into a folder, out of what the store holds."
    )


def _choice(compared: ComparisonFacts) -> str:
    """Return what the list of comparisons calls this one."""
    measured, basis = compared.measured, "" if compared.budget is None else f", {compared.basis}"
    return (
        f"{compared.comparison_id}: {measured.dense['name']} → {compared.pruned['name']} "
        f"on {measured.data.row['name']}, {measured.norm}, {measured.attack['name']}{basis}"
    )


def _legend() -> str:
    return "".join(
        f'<label><input type="checkbox" name="transition" value="{k}" checked><span class="mark {name.name.lower()}">'
        f'</span>{name} {TRANSITIONS[name].word} <output id="count-{k}"></output></label>'
        for k, name in enumerate(Transition)
    )
