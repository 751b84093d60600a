"""The page of a benchmark: rankings that sort, what they leave open, lost samples, and each method's pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from thinice.attacks.fixed_budget import budget_text
from thinice.errors import InputError
from thinice.files import temporary_folder, writable
from thinice.leaderboard.published import PUBLISHED_SAMPLES, SOURCE, PublishedAccuracy, published_accuracies
from thinice.leaderboard.ranking import CAVEAT, RankedRow
from thinice.leaderboard.results import MEASURED, Benchmark, BenchmarkRow
from thinice.leaderboard.taxonomy import MethodEntry, published_methods
from thinice.plots.curves import plot_security
from thinice.report.facts import brief
from thinice.report.figures import as_svg
from thinice.report.inline import csp_hash, palette, source
from thinice.report.sections import CELL, escaped, html_table
from thinice.stats import wilson

if TYPE_CHECKING:
    from thinice.leaderboard.imported import ImportedDistances

__all__ = ["save_benchmark_page", "writable_page"]

TITLE = "Thin ice benchmark: "


class Cell(NamedTuple):
    """A cell of a table that sorts: its text, the number it sorts by, and HTML in place of the text."""

    text: str
    value: float | None = None
    html: str = ""


Row = tuple[Sequence[Cell], bool]
"""Cells, and whether the row was measured here."""


def writable_page(path: str | Path, *, store: Path | None = None) -> Path:
    """Return where a page may be written: a new file, or an older page of a benchmark.

    Raises
    ------
    InputError
        Where another file is there, or the folder takes none.

    """
    return writable(path, argument="page", like=_is_page, kind="a page of thinice benchmark", store=store)


def _is_page(head: bytes) -> bool:
    return head.startswith(b"<!doctype html>") and f"<title>{TITLE}".encode() in head


def save_benchmark_page(
    result: Benchmark, path: str | Path = "benchmark.html", *, imported: Sequence[ImportedDistances] = ()
) -> Path:
    """Write a benchmark as one HTML page that needs no other file and no network, and return its path.

    Parameters
    ----------
    result : Benchmark
        As `thinice.benchmark` returns it.
    path : path
        The file, written whole or not at all; an older page of a benchmark is replaced.
    imported : sequence of ImportedDistances
        Distance files of others, to be shown as claims.

    Raises
    ------
    InputError
        Where the file must not, or cannot, be written.

    """
    target = writable_page(path)
    page = _page(result, imported)
    try:
        with temporary_folder(target.parent) as unfinished:
            (unfinished / target.name).write_text(page, encoding="utf-8", newline="\n")
            (unfinished / target.name).replace(target)
    except OSError as error:
        raise InputError(f"`page` {target} cannot be written: {error.strerror or error}") from None
    return target


def _page(result: Benchmark, imported: Sequence[ImportedDistances]) -> str:
    style = source("report.css").replace("/*palette*/", palette()) + source("benchmark.css")
    script, names = source("benchmark.js"), ", ".join(row.network for row in result.rows)
    rankings = result.rankings()
    return Template(source("benchmark.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        title=escaped(TITLE + brief(names, CELL)),
        style=style,
        script=script,
        question=escaped(
            f"How robust are pruned networks of {result.dense.network}, where do they stand among published ones, and "
            "which samples do they lose?"
        ),
        answers="".join(f"<p>{escaped(sentence)}</p>" for sentence in _answers(result, rankings.values())),
        warnings=_warnings(result),
        rankings="".join(
            _ranking("No published leaderboard" if category is None else category.label, rows, result)
            for category, rows in rankings.items()
        ),
        figure=_figure(result),
        losses=_losses(result),
        pipelines=_pipelines(result),
        imported=_imported(imported),
        caveat=escaped(CAVEAT),
        source=escaped(f"Source: {SOURCE}."),
        published=_published(),
        protocol=_protocol(result),
        version=escaped(version("thinice")),
    )


def _answers(result: Benchmark, rankings: Iterable[Sequence[RankedRow]]) -> list[str]:
    """Return for each network what it withstands, and where it stands, in a sentence or two."""
    ranked = {row.count.name: (row, len(rows)) for rows in rankings for row in rows if row.source == MEASURED}
    answers = []
    for row in result.rows:
        values, (place, of) = row.to_dict(), ranked[row.network]
        interval = f"95 % interval {values['robust_low']:.1%} to {values['robust_high']:.1%}"
        stands = f"stand against {row.autoattack.attack} at linf {budget_text(result.protocol.budget, 'linf')}"
        rank = place.note(of) or f"It ranks {place.rank_text(of)}"
        answers.append(
            f"{row.network}: {values['robust_accuracy']:.1%} of {values['samples']} samples {stands} ({interval}), "
            f"{values['clean_accuracy']:.1%} are right. {rank}."
        )
    return answers


def _warnings(result: Benchmark) -> str:
    sentences = [*result.findings, *(f"{row.network}: {note}" for row in result.rows for note in row.notes)]
    if not sentences:
        return ""
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
    return f'<div class="warnings"><h2>To be known</h2><ul>{items}</ul></div>'


def _sortable(head: Sequence[str], rows: Iterable[Row], caption: str) -> str:
    """Return a table whose heads sort it; cells with numbers go right."""

    def cell(column: int, content: Cell) -> str:
        text = content.html or escaped(brief(content.text, CELL))
        if column == 0:
            return f'<th scope="row">{text}</th>'
        if content.value is None and content.text and content.text != "—":
            return f"<td>{text}</td>"
        value = "" if content.value is None else f"{content.value:.8g}"
        return f'<td class="number" data-value="{value}">{text}</td>'

    every = list(rows)
    numeric = {
        k for cells, _ in every for k, each in enumerate(cells) if k and each.value is not None and not each.html
    }
    heads = "".join(
        f'<th scope="col"{" class=number" if k in numeric else ""}><button type="button">{escaped(name)}</button></th>'
        for k, name in enumerate(head)
    )
    lines = "".join(
        f"<tr{' class=measured' if measured else ''}>{''.join(cell(k, each) for k, each in enumerate(cells))}</tr>"
        for cells, measured in every
    )
    body = f"<caption>{escaped(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    return f'<div class="scroll"><table class="sortable">{body}</table></div>'


def _percent(share: float | None) -> Cell:
    return Cell("—") if share is None else Cell(f"{share:.1%}", share)


def _bar(share: float, low: float, high: float) -> Cell:
    """Return a share with its interval, drawn on an axis from 0 to 1."""
    text = f"{share:.1%}, {low:.1%} to {high:.1%}"
    left, width = 2 + 146 * low, max(146 * (high - low), 1)
    picture = (
        f'<svg class="bar" viewBox="0 0 150 14" role="img" aria-label="{text}"><title>{text}</title>'
        '<line class="axis" x1="2" x2="148" y1="7" y2="7"/>'
        f'<rect class="interval" x="{left:.1f}" y="4" width="{width:.1f}" height="6" rx="2"/>'
        f'<circle cx="{2 + 146 * share:.1f}" cy="7" r="3"/></svg>'
    )
    return Cell(text, share, picture)


RANKING = (
    *("network", "rank", "robust", "0 to 100 %", "95 % interval", "samples", "clean", "area", "lost", "AUC"),
    "prunes",
)


def _ranking(label: str, rows: Sequence[RankedRow], result: Benchmark) -> str:
    """Return the table of one category."""
    measured = {row.network: row for row in result.rows}
    clean = {row.method: row.clean for row in published_accuracies() if row.category.label == label}

    def line(row: RankedRow) -> Row:
        own = measured.get(row.count.name) if row.source == MEASURED else None
        entry = own.method if own else published_methods().get(row.count.name)
        values = own.to_dict() if own else {}
        return (
            (
                Cell(f"{row.count.name} ({entry.name})" if own and entry else row.count.name),
                Cell(row.rank_text(len(rows)), row.best + row.worst / 1000),
                _percent(row.count.share),
                _bar(row.count.share, row.interval.low, row.interval.high),
                Cell(f"{row.interval.low:.1%} to {row.interval.high:.1%}", row.interval.low),
                Cell(f"{row.count.n}", row.count.n),
                _percent(values["clean_accuracy"] if own else clean.get(row.count.name)),
                Cell(f"{own.area.area:.3f}", own.area.area) if own and own.area.area is not None else Cell("—"),
                Cell(str(values["S1,0"]), values["S1,0"]) if own else Cell("—"),
                Cell(f"{values['auc']:.3f}", values["auc"]) if own and values["auc"] is not None else Cell("—"),
                Cell(entry.when.partition(":")[0] if entry else "not said"),
            ),
            own is not None,
        )

    published = [row for row in rows if row.source != MEASURED]
    caption = (
        "Ranks that each network can have: two are told apart where a test says so at 5 %, for all pairs together. "
    )
    caption += f"Marked rows were measured here. {CAVEAT if published else ''}"
    return f"<h2>{escaped(label)}</h2>{_sortable(RANKING, map(line, rows), caption)}"


def _figure(result: Benchmark) -> str:
    """Return the security curves of the dense and all pruned networks."""
    epsilons = {result.dense.network: result.rows[0].comparison.epsilon}
    epsilons |= {row.network: row.epsilon for row in result.rows}
    figure = plot_security(epsilons, norm="linf", budget=result.protocol.budget).get_figure(root=True)
    assert figure is not None
    picture = as_svg(figure)
    caption = "The accuracy that remains within each budget, by minimum norms: an upper bound."
    return (
        f'<h2>Security curves</h2><figure><img src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
        f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _losses(result: Benchmark) -> str:
    """Return transitions and separation of both bases, a row a network and basis."""
    budget = budget_text(result.protocol.budget, "linf")

    def line(row: BenchmarkRow, prefix: str) -> Row:
        values = row.to_dict()
        counts = [values[f"{prefix}{name}"] for name in ("S1,1", "S1,0", "S0,1", "S0,0")]
        auc, low, high = (values[f"{prefix}{name}"] for name in ("auc", "auc_low", "auc_high"))
        return (
            (
                Cell(row.network),
                Cell(f"robust at {budget}" if prefix else "right on the clean sample"),
                *(Cell(str(count), count) for count in counts),
                Cell("—") if auc is None else Cell(f"{auc:.3f}", auc),
                Cell("—") if low is None else Cell(f"{low:.3f} to {high:.3f}", low),
            ),
            False,
        )

    head = ("network", "correct means", "S1,1 kept", "S1,0 lost", "S0,1 gained", "S0,0 wrong", "AUC", "95 % interval")
    rows = [line(row, prefix) for row in result.rows for prefix in ("", "robust_")]
    caption = (
        f"Against {result.dense.network}. AUC: chance that a kept sample lay farther from its boundary than a lost."
    )
    return _sortable(head, rows, caption)


def _pipelines(result: Benchmark) -> str:
    """Return when and how each method prunes: those of the measured networks, then all published ones."""
    own = {row.method.key: row.method for row in result.rows if row.method is not None}

    def line(entry: MethodEntry) -> Row:
        link = f'<a href="{escaped(entry.link)}" rel="noreferrer">paper</a>'
        cells = (entry.key, entry.pipeline.letter, entry.when, entry.how)
        return ([*map(Cell, cells), Cell("paper", html=link)], entry.key in own)

    rows = [line(entry) for entry in (own | dict(published_methods())).values()]
    return _sortable(("method", "pipeline", "when", "how", "source"), rows, f"The taxonomy of {SOURCE}.")


def _published() -> str:
    def line(row: PublishedAccuracy) -> Row:
        interval = wilson(round(row.robust * PUBLISHED_SAMPLES), PUBLISHED_SAMPLES)
        bar = _bar(row.robust, interval.low, interval.high)
        return [Cell(row.method), Cell(row.category.label), _percent(row.clean), _percent(row.robust), bar], False

    head = ("method", "leaderboard", "clean", "AutoAttack", "0 to 100 %")
    table = _sortable(head, map(line, published_accuracies()), "As published.")
    return f"<details><summary>{len(published_accuracies())} rows</summary>{table}</details>"


def _imported(imported: Sequence[ImportedDistances]) -> str:
    """Return what distance files of others claim; empty where there are none."""
    if not imported:
        return ""

    def line(distances: ImportedDistances) -> Row:
        row = distances.to_dict()
        return (
            (
                Cell(row["model_key"]),
                Cell(str(row["samples"]), row["samples"]),
                Cell(str(row["zeros"]), row["zeros"]),
                _percent(row["robust_accuracy"]),
                Cell(f"{row['low']:.1%} to {row['high']:.1%}", row["low"]),
                Cell(f"{row['area']:.3f} ({row['area_low']:.3f} to {row['area_high']:.3f})", row["area"]),
                Cell(row["source"]),
            ),
            False,
        )

    head = ("network", "samples", "zeros", "robust at 8/255", "interval, either reading", "area", "file")
    caption = (
        "Claims of distance files, by their authors' HO-FMN: not verified here, not ranked. Zeros are misclassified "
        "samples or failures of the attack; the interval covers both readings."
    )
    return f"<h2>Imported distances</h2>{_sortable(head, map(line, imported), caption)}"


def _protocol(result: Benchmark) -> str:
    """Return the settings of every part, in a list."""
    protocol, row = result.protocol, result.rows[0]
    budget, end = budget_text(protocol.budget, "linf"), f"{255 * protocol.curve_end:.3g}/255"
    settings = ", ".join(f"{name} {value}" for name, value in row.autoattack.settings.items())
    facts = {
        "samples": f"{len(result.sample_ids)} of {result.data} ({result.split}), the same for all; ids in the store",
        "at the budget": f"{row.autoattack.attack} in linf at {budget}, alone, on all samples ({settings})",
        "minimum norms": f"{protocol.distance_attack}, {protocol.effort} effort",
        "area": f"mean robust accuracy over budgets from 0 to {end}",
        "HO-FMN": f"{protocol.tune_trials} settings tried for {protocol.tune_steps} steps on other samples, the best "
        f"for {protocol.steps} steps",
        "intervals": "95 %, over samples, for these networks",
    }
    return html_table(("", ""), facts.items(), caption="The protocol.")
