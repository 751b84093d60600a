"""What the page's script draws from: compact JSON, safe inside a script element."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.plots import TRANSITIONS, UNITS
from thinice.report.facts import Axis, Compared, Measured
from thinice.report.pictures import Close, Pictures, Sheet, amplification
from thinice.types import Norm, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Seen", "payload", "script_json"]

DIGITS, EPSILON_DIGITS = 4, 6
"""Significant digits of numbers in the page: epsilons keep their order; the store has all digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one measurement shows: its samples' pictures, and the nearest with their adversarials; with their sheets.

    `rows` are those of the data that stand on the page, in order, the same for all measurements of the data.
    """

    rows: NDArray[np.int64]
    pictures: Pictures
    sheet: Sheet | None
    close: Close | None
    close_sheet: Sheet | None


def payload(comparisons: Sequence[Compared], seen: Mapping[int, Seen], sheets: Sequence[Sheet]) -> str:
    """Return all that the script needs, as JSON: data and measurements that comparisons share stand there once."""
    measured = list({id(one.measured): one.measured for one in comparisons}.values())
    data = list({id(one.data): one.data for one in measured}.values())
    of_data = {id(one.measured.data): seen[id(one.measured)] for one in comparisons}
    words = [{"name": name, "word": TRANSITIONS[name].word} for name in Transition]
    return script_json(
        {
            "transitions": words,
            "data": [
                {
                    "name": one.row["name"],
                    "classes": list(one.classes),
                    "n": len(one.sample_ids),
                    "ids": one.sample_ids[of_data[id(one)].rows].tolist(),
                    "labels": one.labels[of_data[id(one)].rows].tolist(),
                    "sources": one.sources and [one.sources[row] for row in of_data[id(one)].rows.tolist()],
                    "sheet": _sheet(of_data[id(one)].sheet, sheets),
                    "cells": _cells(of_data[id(one)]),
                }
                for one in data
            ],
            "measured": [_measured(one, data.index(one.data), seen[id(one)], sheets) for one in measured],
            "comparisons": [
                _compared(one, measured.index(one.measured), seen[id(one.measured)].rows) for one in comparisons
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


def _measured(one: Measured, data: int, seen: Seen, sheets: Sequence[Sheet]) -> dict[str, Any]:
    unit = UNITS[one.norm]
    close, rows = seen.close, seen.rows
    return {
        "data": data,
        "dense": one.dense["name"],
        "norm": one.norm,
        "label": unit.label,
        "suffix": unit.suffix,
        "epsilon": _numbers(one.epsilon[rows] * unit.scale, EPSILON_DIGITS),
        "outcomes": one.outcomes[rows].tolist(),
        "far": one.far_predictions[rows].tolist(),
        "predictions": one.predictions[rows].tolist(),
        "axes": [_axis(axis, one.norm, rows) for axis in one.axes],
        "close": _sheet(seen.close_sheet, sheets),
        "closeRows": [] if close is None else np.searchsorted(rows, close.rows).tolist(),
        "amplification": [] if close is None or close.inputs is None else _numbers(amplification(close)),
    }


def _compared(one: Compared, measured: int, rows: NDArray[np.int64]) -> dict[str, Any]:
    codes = {"": "-"} | {name: str(k) for k, name in enumerate(Transition)}
    return {
        "measured": measured,
        "pruned": one.pruned["name"],
        "transitions": "".join(codes[name] for name in one.transitions[rows].tolist()),
        "predictions": one.pruned_predictions[rows].tolist(),
        "axes": [_axis(axis, one.measured.norm, rows) for axis in one.axes],
    }


def _axis(axis: Axis, norm: Norm, rows: NDArray[np.int64]) -> dict[str, Any]:
    scale, suffix = (UNITS[norm].scale, UNITS[norm].suffix) if axis.is_epsilon else (1.0, "")
    return {"name": axis.name, "meaning": axis.meaning, "suffix": suffix, "values": _numbers(axis.values[rows] * scale)}


def _sheet(sheet: Sheet | None, sheets: Sequence[Sheet]) -> dict[str, Any] | None:
    if sheet is None:
        return None
    place = next(k for k, one in enumerate(sheets) if one is sheet)
    return {
        "image": f"sheet-{place}",
        "columns": sheet.columns,
        "width": sheet.width,
        "height": sheet.height,
        "parts": sheet.parts,
    }


def _cells(seen: Seen) -> list[int] | None:
    """Return the cell of each sample, -1 where it has none; None where the n-th sample is in the n-th cell."""
    cells = seen.pictures.positions[seen.rows]
    return None if np.array_equal(cells, np.arange(len(cells))) else cells.tolist()


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
