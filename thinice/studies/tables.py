"""Tables of a study, for people: as text, Markdown and HTML, the best in bold."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from thinice.errors import InputError
from thinice.files import temporary_folder
from thinice.printable import escaped
from thinice.results.comparison_text import distance_text
from thinice.stats import seed_spread
from thinice.studies.lost_samples import Loss, LostSample, Overlap, losses, lost_samples, overlaps
from thinice.studies.per_sample import samples_of
from thinice.studies.results import Point, Result, StudyResults, measures_of
from thinice.studies.sweet_spots import SweetSpot, sweet_spots
from thinice.types import Norm

if TYPE_CHECKING:
    from thinice.studies.definition import Study

__all__ = ["Table", "clean_table", "html_page", "robust_table", "save_tables", "study_tables"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; without rows, its title and its note alone are shown.

    Attributes
    ----------
    title : str
        What it shows.
    head : tuple of str
        Names of the columns.
    rows : tuple of tuple of str
        As many texts as columns each.
    bold : frozenset of (int, int)
        Row and column, from 0, of what is the best.
    note : str
        How it is to be read.

    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    note: str = ""

    def lines(self) -> list[list[str]]:
        """Return head and rows for a terminal, a star after what is the best; nothing where there are no rows."""
        return [list(self.head), *self._marked("{}*", str)] if self.rows else []

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [list(map(_in_markdown, self.head)), ["---"] * len(self.head), *self._marked("**{}**", _in_markdown)]
        body = "".join("| " + " | ".join(line) + " |\n" for line in lines) if self.rows else ""
        parts = [f"### {_in_markdown(self.title)}\n", body, f"{_in_markdown(self.note)}\n" if self.note else ""]
        return "\n".join(part for part in parts if part)

    def html(self) -> str:
        """Return the table in HTML; every text is escaped."""
        head = "".join(f"<th>{_in_html(text)}</th>" for text in self.head)
        lines = ["".join(f"<td>{text}</td>" for text in line) for line in self._marked("<b>{}</b>", _in_html)]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        note = f"<p>{_in_html(self.note)}</p>" if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>" if self.rows else ""
        return f"<h2>{_in_html(self.title)}</h2>\n{table}\n{note}"

    def _marked(self, mark: str, safe: Callable[[str], str]) -> list[list[str]]:
        def shown(row: int, column: int, text: str) -> str:
            return mark.format(safe(text)) if (row, column) in self.bold else safe(text)

        return [[shown(k, column, text) for column, text in enumerate(row)] for k, row in enumerate(self.rows)]


def clean_table(results: StudyResults, setup: str) -> Table:
    """Return the clean accuracies of a setup: a row a method, a column a rate, the best of each rate in bold."""
    study = results.study
    points = [[Point(setup, method.name, rate) for rate in study.rates] for method in study.methods]
    columns = list(zip(*points, strict=True))
    bold = {
        (row, column + 1)
        for column, each in enumerate(columns)
        for row in _best([results.points[point] for point in each])
        if study.rates[column] != 1  # the dense network is the same in all rows
    }
    return Table(
        title=f"{setup}: clean accuracy in %",
        head=("method", *(f"{rate:g}" for rate in study.rates)),
        rows=tuple((row[0].method, *(accuracy_text(results.points[point]) for point in row)) for row in points),
        bold=frozenset(bold),
        note=f"Columns: compression rate. {_reading(results, setup)} The best of each rate is marked.",
    )


def robust_table(results: StudyResults, setup: str) -> Table:
    """Return all accuracies of a setup with their margins to the dense network: the best rate of each row in bold."""
    study = results.study
    rows: list[tuple[str, ...]] = []
    bold: set[tuple[int, int]] = set()
    (measures,) = [measures_of(each) for each in study.setups if each.name == setup]
    for method in study.methods:
        for measure in measures:
            points = [Point(setup, method.name, rate, measure) for rate in study.rates]
            each = [results.points[point] for point in points]
            bold |= {(len(rows), column + 2) for column in _best(each)}
            texts = [
                accuracy_text(result) + ("" if point.rate == 1 else _margin_text(result))
                for point, result in zip(points, each, strict=True)
            ]
            rows.append((method.name, measure.label, *texts))
    return Table(
        title=f"{setup}: accuracy under attack in %",
        head=("method", "attack", *(f"{rate:g}" for rate in study.rates)),
        rows=tuple(rows),
        bold=frozenset(bold),
        note=f"Columns: compression rate. {_reading(results, setup)} In parentheses: points above or below the dense "
        "network of the same seed. The best of each row is marked.",
    )


def sweet_spot_table(spots: Sequence[SweetSpot]) -> Table:
    """Return the networks that are better than dense under every attack on these samples, the most certain first."""
    better = sorted((spot for spot in spots if spot.better), key=lambda spot: (spot.adjusted, -spot.difference.mean))
    certain = sum(spot.certain for spot in better)
    return Table(
        title="Sweet spots: more robust than the dense network under every attack",
        head=("setup", "method", "rate", "smallest gain", "95 % interval", "under", "clean", "p", "p (Holm)"),
        rows=tuple(
            (
                *(spot.setup, spot.method, f"{spot.rate:g}", _points(spot.difference.mean)),
                f"{_points(spot.difference.interval.low)} to {_points(spot.difference.interval.high)}",
                *(spot.measure.label, _points(spot.clean), f"{spot.p_value:.2g}", f"{spot.adjusted:.2g}"),
            )
            for spot in better
        ),
        bold=frozenset((row, 3) for row, spot in enumerate(better) if spot.certain),
        note=f"{len(better)} of {len(spots)} pruned networks (means over seeds) are better than dense under every "
        f"attack and budget, {certain} of them beyond chance: the largest p-value of all attacks, paired by sample and "
        "seed, is at most 0.05 after Holm's correction for all networks. Gains in points.",
    )


def loss_table(study: Study, rows: Sequence[Loss], setup: str) -> Table:
    """Return how many samples pruning loses in a setup, and how near they lay: means over seeds."""
    attacks = list(dict.fromkeys((row.attack, row.norm) for row in rows))
    lines = []
    for method in study.methods:
        for rate in study.rates[1:]:
            each = [row for row in rows if (row.method, row.rate) == (method.name, rate)]
            if not each:
                continue
            of_first = [row for row in each if (row.attack, row.norm) == attacks[0]]
            counts = (
                _spread_text([row.lost for row in of_first], 1),
                _spread_text([row.gained for row in of_first], 1),
            )
            distances = []
            for attack in attacks:
                own = [row for row in each if (row.attack, row.norm) == attack]
                medians = ([row.median_lost for row in own], [row.median_kept for row in own])
                lost, kept = (distance_text(seed_spread(np.array(each, float)).mean, attack[1]) for each in medians)
                distances += [_spread_text([row.auc for row in own], 3), f"{lost} / {kept}"]
            lines.append((method.name, f"{rate:g}", *counts, *distances))
    columns = [f"{what} {attack} {norm}" for attack, norm in attacks for what in ("AUC", "median")]
    return Table(
        title=f"{setup}: which samples are lost, and how near they lay",
        head=("method", "rate", "lost", "gained", *columns),
        rows=tuple(lines),
        note="Of the samples that the dense network of the same seed has right. AUC: chance that a kept sample lies "
        "farther from the dense boundary than a lost one. Medians: of lost / of kept samples' distances. "
        "± is the standard deviation over seeds.",
    )


def overlap_table(study: Study, rows: Sequence[Overlap], setup: str) -> Table:
    """Return whether the methods of a setup lose the same samples: a row a rate, over all pairs of methods."""
    lines = []
    for rate in study.rates[1:]:
        each = [row for row in rows if row.rate == rate and row.first_lost and row.second_lost]
        if not each:
            continue
        common, expected = sum(row.common for row in each), sum(row.expected for row in each)
        near = [row.expected_near for row in each if row.expected_near is not None]
        jaccards = [row.jaccard for row in each if row.jaccard is not None]
        lines.append(
            (
                *(f"{rate:g}", str(len(each)), f"{sum(jaccards) / len(jaccards):.2f}", str(common), f"{expected:.1f}"),
                f"{common / expected:.2f}",
                f"{sum(near):.1f}" if near else "-",
                f"{common / sum(near):.2f}" if sum(near) else "-",
                f"{sum(row.log10_p < BEYOND_CHANCE for row in each)}",
            )
        )
    return Table(
        title=f"{setup}: do the methods lose the same samples?",
        head=("rate", "pairs", "Jaccard", "common", "by chance", "ratio", "by nearness", "ratio", "beyond chance"),
        rows=tuple(lines),
        note="Over all pairs of methods that both lose samples, seeds together. By chance: common ones, if each method "
        "lost as many samples at random; by nearness: if at random among samples that lie about equally near, in "
        f"tenths. Beyond chance: pairs with p below 10^{BEYOND_CHANCE}.",
    )


def lost_sample_table(study: Study, rows: Sequence[LostSample], setup: str) -> Table:
    """Return the samples of a setup that most networks lose at the smallest rates, ten at most."""
    by_rate = {(row.rate, row.sample_id): row for row in rows}
    ids = list(dict.fromkeys(row.sample_id for row in rows))[:SHOWN]
    lines = []
    for sample_id in ids:
        each = [by_rate.get((rate, sample_id)) for rate in study.rates[1:]]
        first = next(row for row in each if row is not None)
        norm: Norm = "linf" if (first.measured_by or "").endswith(" linf") else "l2"
        epsilon = distance_text(first.epsilon, norm)
        counts = ["0" if row is None else f"{row.networks} of {row.of}" for row in each]
        lines.append((str(sample_id), str(first.label), epsilon, *counts))
    return Table(
        title=f"{setup}: the samples that most networks lose at the lowest rates",
        head=(
            "sample",
            "class",
            f"epsilon ({rows[0].measured_by})" if rows else "epsilon",
            *(f"rate {rate:g}" for rate in study.rates[1:]),
        ),
        rows=tuple(lines),
        note="How many networks, of all methods and seeds, lose the sample; epsilon: its distance to the dense "
        "boundary. All of them: --table lost-samples --format json.",
    )


SHOWN = 10
"""Samples of `lost_sample_table`."""
BEYOND_CHANCE = -3
"""Decimal logarithm of the chance below which two methods are said to lose the same samples."""


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _spread_text(values: Sequence[float | None], digits: int) -> str:
    spread = seed_spread(np.array(values, np.float64))
    if spread.mean is None:
        return "-"
    return f"{spread.mean:.{digits}f}" + (f" ± {spread.sd:.{digits}f}" if spread.sd is not None else "")


def accuracy_text(result: Result) -> str:
    """Return an accuracy as tables show it: percent, its spread, and what is published.

    >>> accuracy_text(Result(2, 0.981, 0.002, None, ((0.9894, ""),)))
    '98.1 ± 0.2 / 98.9'
    """
    if result.accuracy is None:
        text = "-"
    else:
        spread = "" if result.sd is None else f" ± {100 * result.sd:.1f}"
        text = f"{100 * result.accuracy:.1f}{spread}"
    said = [f"{100 * share:.1f}" + (f" {source}" if source else "") for share, source in result.published]
    return " / ".join([text, *said])


def _margin_text(result: Result) -> str:
    return "" if result.margin is None else f" ({100 * result.margin:+.1f})"


def _best(results: Sequence[Result]) -> list[int]:
    """Return the positions of the highest accuracy, as it is shown; none where there is nothing to compare."""
    shown = [None if result.accuracy is None else round(100 * result.accuracy, 1) for result in results]
    known = [value for value in shown if value is not None]
    if len(known) < 2 or len(set(known)) == 1:
        return []
    return [position for position, value in enumerate(shown) if value == max(known)]


def _reading(results: StudyResults, setup: str) -> str:
    seeds = len(results.study.seeds)
    spread = f"Mean ± standard deviation over {seeds} seeds." if seeds > 1 else "One seed."
    said = any(result.published for point, result in results.points.items() if point.setup == setup)
    return spread + (" After a slash: published." if said else "")


STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #222; margin: 2em auto; max-width: 80em; padding: 0 1em }
table { border-collapse: collapse; display: block; overflow-x: auto } th, td { padding: .2em .7em; text-align: right }
th:first-child, td:first-child { text-align: left } thead { border-bottom: 1px solid #222 }
figure { margin: 1em 0 } svg { max-width: 100%; height: auto }
tbody tr:nth-child(even) { background: #f4f4f4 } p { color: #555 } h2 { font-size: 1.1em; margin-top: 2em }
"""


def save_tables(name: str, tables: Sequence[Table], pictures: Sequence[Path], folder: Path) -> tuple[Path, Path]:
    """Write tables as ``study.md`` and ``study.html`` into a folder, and return the paths.

    Parameters
    ----------
    name : str
        Of the study.
    tables : sequence of Table
        In this order.
    pictures : sequence of Path
        Figures in the same folder; the SVG files among them are shown before the tables, in the page inside it.
    folder : Path
        Made where it is not there.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    drawn = [picture for picture in pictures if picture.suffix == ".svg"]
    inside = [f"<figure>{_svg(picture.read_text(encoding='utf-8'))}</figure>" for picture in drawn]
    beside = "\n".join(f"![{_in_markdown(picture.stem)}]({quote(picture.name)})\n" for picture in drawn)
    texts = {
        "study.md": f"# {_in_markdown(name)}\n\n{beside}\n" + "\n".join(table.markdown() for table in tables),
        "study.html": html_page(name, [*inside, *(table.html() for table in tables)]),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as unfinished:
            for file, text in texts.items():
                (unfinished / file).write_text(text, encoding="utf-8")
                (unfinished / file).replace(folder / file)
    except OSError as error:
        raise InputError(f"`figures` {folder} cannot be written: {error.strerror or error}") from None
    return folder / "study.md", folder / "study.html"


def _svg(text: str) -> str:
    """Return the element of an SVG file, without what stands before it."""
    return text[text.index("<svg") :]


def study_tables(results: StudyResults) -> list[Table]:
    """Return all tables of a study that have anything to show."""
    study = results.study
    tables, everything = [], []
    for setup in study.setups:
        samples = samples_of(study, setup, results.store)
        everything.append(samples)
        tables += [
            clean_table(results, setup.name),
            robust_table(results, setup.name),
            loss_table(study, losses(study, samples), setup.name),
            overlap_table(study, overlaps(study, samples), setup.name),
            lost_sample_table(study, lost_samples(study, samples), setup.name),
        ]
    spots = sweet_spots(study, everything)
    return [*(table for table in tables if table.rows), *([sweet_spot_table(spots)] if spots else [])]


def html_page(title: str, parts: Sequence[str]) -> str:
    """Return a page of HTML that needs no other file, of parts that are HTML already."""
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{_in_html(title)}</title><style>{STYLE}</style>'
    content = f"<h1>{_in_html(title)}</h1>\n{body}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{content}\n</body></html>\n'


def _in_html(text: str) -> str:
    return html.escape(escaped(text))


def _in_markdown(text: str) -> str:
    return escaped(text).replace("|", "\\|")
