"""The words and tables of a report: counts, statistics, warnings, and how everything was measured.

The answer and the table of a comparison are those of the command line, made of `comparison_row`.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import MAXYEAR, MINYEAR, datetime
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.errors import StoreError
from thinice.plots import TRANSITIONS, UNITS
from thinice.report.facts import ComparisonFacts, Row, brief
from thinice.results import stored_finding
from thinice.results.comparison_text import between, over_trainings, sparsity_text, table
from thinice.stats import STATISTICS, compare_prunings, quantile, seed_summary
from thinice.store import stored_settings
from thinice.types import Outcome, Transition

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "closest",
    "comparison_part",
    "comparison_row",
    "escaped",
    "headline",
    "html_table",
    "measured_section",
    "nearest",
    "overview",
    "predictor_table",
    "statistics",
    "transition_table",
    "warnings",
]

MEANINGS = {
    Transition.KEPT: "correct before and after pruning",
    Transition.LOST: "correct before, wrong after: on thin ice",
    Transition.GAINED: "wrong before, correct after",
    Transition.WRONG: "wrong before and after",
}
NEAREST = 25
CELL = 1000
"""Letters of a cell that others wrote: longer ones lose their middle."""


def escaped(text: object) -> str:
    """Return text that others wrote so that a page shows it letter by letter."""
    return html.escape(str(text), quote=True)


def comparison_part(*comparisons: int) -> str:
    """Return the attributes of what belongs to these comparisons alone; the first one's stands there from the start.

    >>> comparison_part(1, 3)
    'data-comparison="1 3" hidden'
    """
    return f'data-comparison="{" ".join(map(str, comparisons))}"' + ("" if 0 in comparisons else " hidden")


def headline(compared: ComparisonFacts) -> str:
    """Return the question of this comparison."""
    return (
        f"When {compared.measured.dense['name']} is pruned to {compared.pruned['name']}, which samples does it lose, "
        f"and how close to its decision boundary did they lie?"
    )


def comparison_row(compared: ComparisonFacts) -> dict[str, Any]:
    """Return a comparison in a row of the names of `Comparison.to_dict`, of which answer and table are made.

    Without the statistics where the run ended before them; of only those samples that have a transition.
    """
    measured, known = compared.measured, compared.known
    counts = {transition: compared.count(transition) for transition in Transition}
    kept, lost = (measured.epsilon[compared.transitions == name] for name in (Transition.KEPT, Transition.LOST))
    total, right = int(known.sum()), counts[Transition.KEPT] + counts[Transition.LOST]
    statistics = dict(compared.statistics or {})
    if statistics:
        statistics |= {
            "quartiles_kept": (quantile(kept, 0.25), quantile(kept, 0.75)),
            "quartiles_lost": (quantile(lost, 0.25), quantile(lost, 0.75)),
        }
    return {
        "dense": measured.dense["name"],
        "pruned": compared.pruned["name"],
        "norm": measured.norm,
        "basis": compared.basis,
        "budget": compared.budget,
        "samples": len(known),
        **_sparsities(compared),
        "dense_accuracy": right / total,
        "pruned_accuracy": (counts[Transition.KEPT] + counts[Transition.GAINED]) / total,
        "not_found": int(np.isnan(kept).sum() + np.isnan(lost).sum()),
        **{str(transition): count for transition, count in counts.items()},
        **statistics,
    }


def _sparsities(compared: ComparisonFacts) -> Row:
    """Return of both networks the fraction of zeros, and how many prunable weights they have."""
    networks = {"dense": compared.measured.dense, "pruned": compared.pruned}
    return {f"{role}_{fact}": row[fact] for role, row in networks.items() for fact in ("sparsity", "weights")}


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, numbers: Sequence[int] = (), kind: str = ""
) -> str:
    """Return an HTML table of escaped cells; the first cell of a row is its heading, columns `numbers` go right."""

    def cell(column: int, value: object) -> str:
        side = ' class="number"' if column in numbers else ""
        text = escaped(brief(str(value), CELL))
        return f'<th scope="row">{text}</th>' if column == 0 else f"<td{side}>{text}</td>"

    heads = "".join(
        f'<th scope="col"{" class=number" if column in numbers else ""}>{escaped(name)}</th>'
        for column, name in enumerate(head)
    )
    lines = "".join(f"<tr>{''.join(starmap(cell, enumerate(row)))}</tr>" for row in rows)
    top = f"<thead><tr>{heads}</tr></thead>" if any(head) else ""
    body = f"<caption>{escaped(caption)}</caption>{top}<tbody>{lines}</tbody>"
    return f'<div class="scroll {kind}"><table>{body}</table></div>'


def transition_table(compared: ComparisonFacts) -> str:
    """Return how many samples went which way, and how far they lay."""
    measured, unit = compared.measured, UNITS[compared.measured.norm]
    total = int(compared.known.sum())
    rows = []
    for name in Transition:
        group = compared.transitions == name
        count, missing = int(group.sum()), int((measured.outcomes[group] == Outcome.NOT_FOUND).sum())
        median = quantile(measured.epsilon[group])
        rows.append(
            (
                f"{name} {TRANSITIONS[name].word}",
                MEANINGS[name],
                f"{count:,}",
                f"{count / total:.1%}",
                "—" if median is None else unit.text(median),
                f"{missing:,}",
            )
        )
    rows.append(("all", "", f"{total:,}", "100.0%", "", f"{_not_found(compared):,}"))
    head = ("transition", "means", "samples", "share", "median ε", "not found")
    correct = "that the clean sample is classified right" if compared.basis == "clean" else compared.basis
    return html_table(
        head, rows, caption=f"Transitions; correct means {correct}", numbers=(2, 3, 4, 5), kind="transitions"
    )


def _not_found(compared: ComparisonFacts) -> int:
    return int((compared.measured.outcomes[compared.known] == Outcome.NOT_FOUND).sum())


def statistics(compared: ComparisonFacts, meanings: dict[str, str]) -> str:
    """Return the table that the command line prints too, and every stored statistic with what it means.

    Without `meanings` the table says that another comparison has them.
    """
    unit = UNITS[compared.measured.norm]
    rows, stored = [], compared.statistics or {}
    for name, value in stored.items():
        if name in {"comparison_id", "run_id", "created", "notes"} or name.startswith("n_"):
            continue
        in_unit = name in STATISTICS and STATISTICS[name].unit == "epsilon"
        shown = "—" if value is None else unit.text(value) if in_unit else _number(value)
        shown = "< 1e-308" if name.startswith("p_value") and value == 0 else shown
        rows.append((name.replace("_", " "), shown, *([meanings.get(name, "")] if meanings else [])))
    notes = "".join(f"<p>{escaped(note[:1].upper() + note[1:])}.</p>" for note in stored.get("notes") or ())
    summary = html_table((), table(comparison_row(compared)), caption="In short", numbers=(1,))
    head = ("statistic", "value", "means") if meanings else ("statistic", "value")
    caption = "What the store keeps of this comparison"
    caption += "" if meanings else "; what each number means stands at the first one"
    details = html_table(head, rows, caption=caption, numbers=(1,)) if rows else ""
    return summary + details + notes


def warnings(compared: ComparisonFacts) -> str:
    """Return what speaks against the numbers: raised checks and patterns of wrong studies; empty where nothing does."""
    sentences = [
        f"{brief(finding['network'])}, {brief(finding['attack'])} in {finding['norm']}: {stored_finding(finding)}"
        for finding in compared.findings
        if finding["raised"]
    ]
    sentences += [str(replace(pattern, subjects=tuple(map(brief, pattern.subjects)))) for pattern in compared.patterns]
    if not sentences:
        return ""
    lines = "".join(f"<li>{escaped(brief(line, CELL))}.</li>" for line in sentences)
    return f'<div class="warnings"><h2>What speaks against these numbers</h2><ul>{lines}</ul></div>'


def checks(compared: ComparisonFacts) -> str:
    """Return all checks of the evaluations of both networks, raised or not; empty where none was evaluated."""
    rows = [
        (
            finding["network"],
            f"{finding['data']}, {finding['n']:,} samples",
            f"{finding['attack']}, {finding['norm']}",
            finding["check_name"],
            "raised" if finding["raised"] else "not raised",
            f"{finding['samples']:,} of {finding['looked_at']:,}",
        )
        for finding in compared.findings
    ]
    head = ("network", "data", "attack", "check", "outcome", "seen on")
    return html_table(head, rows, caption="Checks of the evaluations in this store", numbers=(5,)) if rows else ""


def predictor_table(compared: ComparisonFacts) -> str:
    """Return how well epsilon predicts the losses against margin, confidence and loss; empty where not known."""
    predictors = compared.predictors
    if predictors is None or np.isnan(predictors.auc).all():
        return ""
    rows = [
        (
            name,
            f"{auc:.3f}",
            f"{low:.3f} to {high:.3f}",
            "" if np.isnan(difference) else f"{difference:+.3f}",
            "" if np.isnan(log10_p) else f"{log10_p:.1f}",
        )
        for name, auc, low, high, difference, log10_p in zip(
            predictors.name,
            predictors.auc,
            predictors.low,
            predictors.high,
            predictors.difference,
            predictors.log10_p,
            strict=True,
        )
    ]
    head = (
        "predictor",
        "AUC",
        f"{100 * predictors.confidence:g} % interval",
        "epsilon's AUC minus this",
        "log10 p, paired DeLong",
    )
    caption = "What the dense network alone knows, as a predictor of what pruning loses"
    return html_table(head, rows, caption=caption, numbers=(1, 2, 3, 4))


def overview(comparisons: Sequence[ComparisonFacts]) -> str:
    """Return one row a comparison, where there are several."""
    if len(comparisons) < 2:
        return ""
    rows = []
    for comparison in comparisons:
        stored, total = comparison.statistics or {}, int(comparison.known.sum())
        after = comparison.count(Transition.KEPT) + comparison.count(Transition.GAINED)
        auc = stored.get("auc")
        rows.append(
            (
                f"{comparison.comparison_id}: {comparison.measured.dense['name']} → {comparison.pruned['name']}",
                f"{comparison.measured.data.row['name']}, {comparison.measured.norm}, {comparison.basis}",
                sparsity_text(_sparsities(comparison)),
                f"{total:,}",
                f"{after / total:.2%}",
                f"{comparison.count(Transition.LOST):,}",
                f"{comparison.count(Transition.GAINED):,}",
                "—" if auc is None else f"{auc:.3f}",
            )
        )
    head = ("comparison", "on", "sparsity", "samples", "accuracy", "lost", "gained", "AUC")
    table = html_table(head, rows, caption="All comparisons in this store", numbers=(2, 3, 4, 5, 6, 7), kind="all")
    sentences = (*_together(comparisons), *_over_trainings(comparisons))
    return table + "".join(f"<p>{escaped(brief(text, CELL))}</p>" for text in sentences if text)


def _together(comparisons: Sequence[ComparisonFacts]) -> Iterator[str]:
    """Yield what prunings of one dense network, measured once, say together: for each basis by itself."""
    groups: dict[tuple[int, str], list[ComparisonFacts]] = {}
    for compared in comparisons:
        if compared.known.all() and compared.statistics is not None:
            groups.setdefault((compared.measured.measurement_id, compared.basis), []).append(compared)
    for group in groups.values():
        names = [compared.pruned["name"] for compared in group]
        right = np.isin(group[0].transitions, (Transition.KEPT, Transition.LOST))
        if len(set(names)) > 1 and len(set(names)) == len(names):
            lost = {compared.pruned["name"]: compared.transitions[right] == Transition.LOST for compared in group}
            yield between(
                [comparison_row(compared) for compared in group],
                compare_prunings(group[0].measured.epsilon[right], lost),
            )


def _over_trainings(comparisons: Sequence[ComparisonFacts]) -> Iterator[str]:
    """Yield what several dense networks, pruned to the same sparsity and measured alike, say of the AUC."""
    groups: dict[tuple[int, int, str, float], list[ComparisonFacts]] = {}
    for compared in comparisons:
        if compared.statistics is not None and compared.statistics.get("auc_se") is not None:
            attack, data = compared.measured.attack["attack_id"], compared.measured.data.row["dataset_id"]
            groups.setdefault((attack, data, compared.basis, round(compared.pruned["sparsity"], 3)), []).append(
                compared
            )
    for (_, _, _, sparsity), group in groups.items():
        trainings = {compared.measured.dense["checkpoint_id"]: compared.statistics or {} for compared in group}
        if len(trainings) == len(group) > 1:
            rows = trainings.values()
            summary = seed_summary([row["auc"] for row in rows], [row["auc_se"] for row in rows])
            yield over_trainings(sparsity, summary)


def nearest(compared: ComparisonFacts) -> NDArray[np.int64]:
    """Return the rows of the samples in the table of those nearest to the boundary."""
    measured = compared.measured
    rows = np.flatnonzero((measured.outcomes == Outcome.FOUND) & compared.known)
    return rows[np.argsort(measured.epsilon[rows], kind="stable")][:NEAREST]


def closest(compared: ComparisonFacts, number: int, shown: NDArray[np.int64]) -> str:
    """Return the samples nearest to the boundary as a table; the page's script makes buttons of their ids.

    The script knows them by their place among the rows `shown` on the page.
    """
    measured, unit = compared.measured, UNITS[compared.measured.norm]
    data = measured.data
    order = nearest(compared)
    lines = []
    for row, position in zip(order.tolist(), np.searchsorted(shown, order).tolist(), strict=True):
        name = Transition(str(compared.transitions[row]))
        cells = (
            class_name(data.classes, data.labels[row]),
            class_name(data.classes, measured.far_predictions[row]),
            class_name(data.classes, compared.pruned_predictions[row]),
        )
        lines.append(
            f'<tr><td class="picture"><canvas data-row="{position}" aria-hidden="true"></canvas></td>'
            f'<th scope="row"><button type="button" data-row="{position}">{data.sample_ids[row]}</button></th>'
            f'<td class="number">{escaped(unit.text(measured.epsilon[row]))}</td>'
            f'<td><span class="mark {name.name.lower()}"></span>{name} {escaped(TRANSITIONS[name].word)}</td>'
            + "".join(f"<td>{escaped(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    head = ("", "sample", "ε", "transition", "true class", "beyond the boundary", "pruned network says")
    heads = "".join(
        f'<th scope="col"{" class=number" if name == "ε" else ""}>{name}</th>' if name else "<td></td>" for name in head
    )
    caption = f"The {len(order)} samples nearest to the boundary of {measured.dense['name']}"
    return (
        f'<div class="scroll closest" {comparison_part(number)}><table><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def class_name(classes: Sequence[str], number: int) -> str:
    """Return the name of a predicted class; a network may know more classes than the data name."""
    if number < 0:
        return "—"
    return classes[number] if number < len(classes) else str(number)


def measured_section(comparisons: Sequence[ComparisonFacts]) -> str:
    """Return how all comparisons were measured; each table is there once, also where several share it."""
    checked = _each_once([[checks(compared)] for compared in comparisons])
    tables = _each_once([measurement(compared) for compared in comparisons])
    heading = '<h2 id="measured">How it was measured</h2>'
    return f'<section aria-labelledby="measured">{heading}{checked}<div class="facts">{tables}</div></section>'


def _each_once(tables: Sequence[Sequence[str]]) -> str:
    """Return the tables of all comparisons, each once: what is first in some comparison, then what is second."""
    owners: dict[str, list[int]] = {}
    places: dict[str, int] = {}
    for number, of_comparison in enumerate(tables):
        for place, text in enumerate(of_comparison):
            if text:
                owners.setdefault(text, []).append(number)
                places[text] = min(place, places.get(text, place))
    in_order = sorted(owners, key=lambda text: places[text])
    return "".join(f"<div {comparison_part(*owners[text])}>{text}</div>" for text in in_order)


def measurement(compared: ComparisonFacts) -> list[str]:
    """Return tables of networks, data, attack and each run, with everything the store knows of them."""
    measured = compared.measured
    data, attack = measured.data.row, measured.attack
    parts = [
        html_table(
            ("", measured.dense["name"], compared.pruned["name"]),
            _side_by_side(measured.dense, compared.pruned, skip={"checkpoint_id", "run_id", "created", "class_names"}),
            caption="Networks: dense, pruned",
        ),
        html_table(
            (),
            [
                *((name, _text(data[name])) for name in ("name", "split", "n", "shape", "fingerprint")),
                ("classes", f"{len(data['classes'])}: {_short(data['classes'])}"),
            ],
            caption="Data",
        ),
        html_table(
            (),
            [
                ("attack", attack["name"]),
                ("norm", attack["norm"]),
                *_settings(attack["settings"]),
                ("fingerprint", attack["fingerprint"]),
            ],
            caption="Attack, with all settings that change its result",
        ),
    ]
    return parts + [html_table((), _run(run), caption=f"Run {run['run_id']}") for run in compared.runs]


def _settings(stored: str) -> list[tuple[str, str]]:
    """Return settings that the store keeps as JSON, a row each; what cannot be read, as it stands there."""
    try:
        return [(name, _text(value)) for name, value in stored_settings(stored).items()]
    except (StoreError, RecursionError):  # a value may be nested too deeply to be written, too
        return [("", _text(stored))]


def _side_by_side(left: Row, right: Row, *, skip: set[str]) -> list[tuple[str, str, str]]:
    return [
        (name.replace("_", " "), _text(value), _text(right[name])) for name, value in left.items() if name not in skip
    ]


def _run(run: Row) -> list[tuple[str, str]]:
    rows = []
    for name, value in run.items():
        if name == "run_id" or value is None:
            continue
        if name == "command":
            rows.append((name, shlex.join(value)))
        elif name in {"versions", "settings"}:
            rows += [(f"{name}: {key}", text) for key, text in _settings(value)]
        else:
            rows.append((name, _text(value)))
    return rows


def _short(classes: Sequence[str], most: int = 20) -> str:
    return ", ".join(classes[:most]) + (", …" if len(classes) > most else "")


def _text(value: object) -> str:
    if value is None:
        return "—"
    if isinstance(value, list):
        return "x".join(map(str, value)) if all(isinstance(item, int) for item in value) else "; ".join(map(str, value))
    if isinstance(value, datetime):
        is_known = MINYEAR <= value.year <= MAXYEAR  # infinite ones come as years that no calendar has
        return f"{value:%Y-%m-%d %H:%M:%S} UTC" if is_known else "—"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10000 else str(value)
    )


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
