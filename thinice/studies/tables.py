"""Tables of a study, for people: as text, Markdown and HTML, the best in bold."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinice.errors import InputError
from thinice.files import temporary_folder
from thinice.printable import escaped
from thinice.studies.results import Point, Result, StudyResults, measures_of

__all__ = ["Table", "clean_table", "html_page", "robust_table", "save_tables"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

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
        """Return head and rows for a terminal, a star after what is the best."""
        return [list(self.head), *self._marked("{}*", str)]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [list(map(_in_markdown, self.head)), ["---"] * len(self.head), *self._marked("**{}**", _in_markdown)]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"### {_in_markdown(self.title)}\n\n{body}\n" + (f"\n{_in_markdown(self.note)}\n" if self.note else "")

    def html(self) -> str:
        """Return the table in HTML; every text is escaped."""
        head = "".join(f"<th>{_in_html(text)}</th>" for text in self.head)
        lines = ["".join(f"<td>{text}</td>" for text in line) for line in self._marked("<b>{}</b>", _in_html)]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        note = f"<p>{_in_html(self.note)}</p>" if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
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
tbody tr:nth-child(even) { background: #f4f4f4 } p { color: #555 } h2 { font-size: 1.1em; margin-top: 2em }
"""


def save_tables(name: str, tables: Sequence[Table], folder: Path) -> tuple[Path, Path]:
    """Write tables as ``FOLDER/NAME/study.md`` and ``study.html``, and return the paths.

    Raises
    ------
    InputError
        Where the folder cannot be written.

    """
    place = folder / folder_name(name)
    texts = {
        "study.md": f"# {_in_markdown(name)}\n\n" + "\n".join(table.markdown() for table in tables),
        "study.html": html_page(name, [table.html() for table in tables]),
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        with temporary_folder(place) as unfinished:
            for file, text in texts.items():
                (unfinished / file).write_text(text, encoding="utf-8")
                (unfinished / file).replace(place / file)
    except OSError as error:
        raise InputError(f"`figures` {place} cannot be written: {error.strerror or error}") from None
    return place / "study.md", place / "study.html"


def html_page(title: str, parts: Sequence[str]) -> str:
    """Return a page of HTML that needs no other file, of parts that are HTML already."""
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{_in_html(title)}</title><style>{STYLE}</style>'
    content = f"<h1>{_in_html(title)}</h1>\n{body}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{content}\n</body></html>\n'


LETTERS = 80
"""Of the name of a study, in the name of its folder."""


def folder_name(name: str) -> str:
    """Return a safe name for the folder of a study, whatever it is called.

    >>> folder_name("../my study")
    'my_study'
    """
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:LETTERS] or "study"


def _in_html(text: str) -> str:
    return html.escape(escaped(text))


def _in_markdown(text: str) -> str:
    return escaped(text).replace("|", "\\|")
