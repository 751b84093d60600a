"""The page: facts, figures and pictures put into the template, which asks no other machine for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from thinice.datasets import Samples
from thinice.errors import InputError
from thinice.plots import TRANSITIONS
from thinice.report.facts import Compared, Data, read_facts
from thinice.report.figures import draw_figures
from thinice.report.payload import Seen, payload
from thinice.report.pictures import Sheet, close_ups, find_pictures, pack_all, pack_close
from thinice.report.words import (
    answer,
    checks,
    escaped,
    headline,
    measurement,
    nearest,
    overview,
    rivals,
    statistics,
    thinnest,
    transition_table,
    warnings,
)
from thinice.store import Store, open_store
from thinice.types import Outcome, Transition
from thinice.writing import nest, writable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["save_report"]

SHOWN = 50_000
"""Of more samples than this the nearest stand on the page one by one; tables and figures rest on all."""
VALUES, LEAST = 200_000, 1000
"""Samples times comparisons and measurements: of many comparisons fewer samples are shown, but so many at least."""

CAPTIONS = {
    "distribution": "How far samples lay from the dense boundary, by what pruning did to them.",
    "survival": "The share of each transition that lies farther than ε.",
    "security": "The accuracy that the dense network keeps under perturbations of size ε.",
    "roc": "How well a small ε predicts that pruning loses a sample.",
    "risk": "The chance that pruning loses a sample, by its distance to the dense boundary.",
    "pairs": "How far each sample lay before pruning, and lies after it.",
    "predictors": "What foretells best which samples pruning loses.",
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
    ...     result = thinice.compare(
    ...         paths["dense"], paths["pruned-95"], samples, effort="quick", store=store, progress=False
    ...     )
    ...     save_report(store, f"{folder}/report.html").name
    'report.html'

    """
    opened = store if isinstance(store, Store) else open_store(store)
    place = writable(
        path, argument="path", like=_is_report, kind="a report of thinice", overwrite=overwrite, store=opened.path
    )
    page = _page(opened, samples)
    try:
        with nest(place.parent) as unfinished:
            unborn = unfinished / place.name
            unborn.write_text(page, encoding="utf-8", newline="\n")
            unborn.replace(place)
    except OSError as error:
        raise InputError(f"`path` {place} cannot be written: {error.strerror or error}") from None
    return place


def _is_report(head: bytes) -> bool:
    return head.startswith(b"<!doctype html>") and b"<title>Thin ice: " in head


def _page(store: Store, samples: Samples | str | None) -> str:
    facts = read_facts(store)
    seen, sheets = _look(store, facts.comparisons, samples)
    sections = [
        _section(one, place, facts.meanings, seen[id(one.measured)]) for place, one in enumerate(facts.comparisons)
    ]
    notes = {note for one in facts.comparisons for note in _notes(one.measured.data, seen[id(one.measured)])}
    style, script = _source("report.css").replace("/*palette*/", _palette()), _source("report.js")
    names = [f"{one.measured.dense['name']} → {one.pruned['name']}" for one in facts.comparisons]
    return Template(_source("report.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=escaped(f"Thin ice: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")),
        style=style,
        script=script,
        options="".join(
            f'<option value="{place}">{escaped(_choice(one))}</option>' for place, one in enumerate(facts.comparisons)
        ),
        several="" if len(names) > 1 else "hidden",
        overview=overview(facts.comparisons),
        above="".join(above for above, _ in sections),
        below="".join(below for _, below in sections),
        thinnest="".join(
            thinnest(one, place, seen[id(one.measured)].rows) for place, one in enumerate(facts.comparisons)
        ),
        shown="Every sample"
        if all(len(seen[id(one.measured)].rows) == len(one.known) for one in facts.comparisons)
        else "Samples near the boundary",
        legend=_legend(),
        notes="".join(f"<p>{escaped(note)}</p>" for note in sorted(notes) if note),
        sheets="".join(f'<img id="sheet-{k}" src="{sheet.uri}" alt="">' for k, sheet in enumerate(sheets)),
        data=payload(facts.comparisons, seen, sheets),
        version=escaped(version("thinice")),
    )


def _look(
    store: Store, comparisons: Sequence[Compared], given: Samples | str | None
) -> tuple[dict[int, Seen], list[Sheet]]:
    """Return what each measurement shows, by its id, and all sheets; pictures of the same data are packed once."""
    sheets: list[Sheet] = []
    seen: dict[int, Seen] = {}
    columns = len(comparisons) + len({id(one.measured) for one in comparisons})
    most = min(SHOWN, max(LEAST, VALUES // columns))
    for data in {id(one.measured.data): one.measured.data for one in comparisons}.values():
        same = [one for one in comparisons if one.measured.data is data]
        order = _nearest_first(same, data)
        pictures = find_pictures(data, order, given)
        sheet = pack_all(pictures)
        measurements = {id(one.measured): one.measured for one in same}
        close = {
            key: close_ups(store, measured, [one for one in same if one.measured is measured], pictures)
            for key, measured in measurements.items()
        }
        needed = [*(nearest(one) for one in same), *(found.rows for found in close.values() if found)]
        rows = np.unique(np.concatenate([order[:most], *needed]))
        sheets += [sheet] if sheet else []
        for key, found in close.items():
            seen[key] = Seen(rows, pictures, sheet, found, pack_close(found) if found else None)
            sheets += [packed for packed in (seen[key].close_sheet,) if packed]
    return seen, sheets


def _nearest_first(comparisons: Sequence[Compared], data: Data) -> NDArray[np.int64]:
    """Return the rows of the data: the nearest to any boundary and the nearest lost ones in turn, then all others."""
    place = np.full(len(data.sample_ids), np.inf)
    for one in comparisons:
        found = np.flatnonzero(one.measured.outcomes == Outcome.FOUND)
        found = found[np.argsort(one.measured.epsilon[found], kind="stable")]
        for group in (found, found[one.transitions[found] == Transition.LOST]):
            place[group] = np.minimum(place[group], np.arange(len(group)))
    return np.argsort(place, kind="stable")


def _notes(data: Data, seen: Seen) -> tuple[str, ...]:
    """Return what must be said of the samples and their pictures."""
    whole, shown = len(data.sample_ids), len(seen.rows)
    few = (
        f"Of {whole:,} samples the {shown:,} nearest to the boundary stand here one by one; all tables and figures "
        "rest on all of them."
    )
    return (few, seen.pictures.note) if shown < whole else (seen.pictures.note,)


def _section(one: Compared, place: int, meanings: dict[str, str], seen: Seen) -> tuple[str, str]:
    """Return what stands above the samples of one comparison, and what stands below."""
    figures = "".join(
        f'<figure class="{name}"><img src="{escaped(drawing.uri)}" alt="{escaped(CAPTIONS.get(name, name))}" '
        f'width="{drawing.width}" height="{drawing.height}" loading="lazy">'
        f"<figcaption>{escaped(CAPTIONS.get(name, name))}</figcaption></figure>"
        for name, drawing in draw_figures(one, seen.close).items()
    )
    above = (
        f'<section data-comparison="{place}" aria-label="Answer"><p class="question">{escaped(headline(one))}</p>'
        f'<p class="answer">{escaped(answer(one))}</p>{warnings(one)}{transition_table(one)}</section>'
    )
    below = (
        f'<section data-comparison="{place}"><h2>Figures</h2><div class="figures">{figures}</div>'
        f"<h2>Statistics</h2>{statistics(one, meanings)}{rivals(one)}"
        f'<h2>How it was measured</h2>{checks(one)}<div class="facts">{measurement(one)}</div></section>'
    )
    return above, below


def _choice(one: Compared) -> str:
    measured = one.measured
    return (
        f"{one.comparison_id}: {measured.dense['name']} → {one.pruned['name']} on {measured.data.row['name']}, "
        f"{measured.norm}, {measured.attack['name']}" + ("" if one.budget is None else f", {one.basis}")
    )


def _legend() -> str:
    return "".join(
        f'<label><input type="checkbox" name="transition" value="{k}" checked><span class="mark {name.name.lower()}">'
        f'</span>{name} {TRANSITIONS[name].word} <output id="count-{k}"></output></label>'
        for k, name in enumerate(Transition)
    )


def _palette() -> str:
    """Return the colours of the transitions as CSS: those of the figures, and lighter ones for a dark page."""

    def mixed(color: str) -> str:
        channels = (int(color[k : k + 2], 16) for k in (1, 3, 5))
        return "#" + "".join(f"{round(value + 0.35 * (255 - value)):02x}" for value in channels)

    names = {f"--{name.name.lower()}": TRANSITIONS[name].color for name in Transition}
    light = "".join(f"{name}:{color};" for name, color in names.items())
    dark = "".join(f"{name}:{mixed(color)};" for name, color in names.items())
    return f":root{{{light}}}:root[data-theme=dark]{{{dark}}}"


def _source(name: str) -> str:
    return files("thinice.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what a Content-Security-Policy knows an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
