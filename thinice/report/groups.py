"""Tables of groups in a report: what pruning does to each class, and populations of networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thinice.report.facts import ComparisonFacts, PopulationFacts, brief
from thinice.report.sections import class_name, escaped, html_table
from thinice.results.populations import populations_answer, populations_table

__all__ = ["class_table", "population_section"]

MOST = 25
"""So many classes have a row: those that pruning changes most."""
SAMPLES = 25
"""So many exemplars are named."""


def class_table(compared: ComparisonFacts) -> str:
    """Return what pruning does to recall, error rates and loss, class by class; empty before all samples are there."""
    impact = compared.class_impact
    if impact is None:
        return ""
    classes = compared.measured.data.classes
    order = np.argsort(impact.pruned_recall - impact.dense_recall, kind="stable")
    rows = [
        (
            class_name(classes, int(impact.name[k])),
            f"{impact.n[k]:,}",
            f"{impact.dense_recall[k]:.1%}",
            f"{impact.pruned_recall[k]:.1%}",
            *(_signed(column[k], "+.2f") for column in (impact.fpr_change, impact.fnr_change)),
            _signed(impact.excess_loss[k], "+.3f"),
        )
        for k in order[:MOST].tolist()
    ]
    head = ("class", "samples", "recall, dense", "recall, pruned", "change of FPR", "change of FNR", "excess loss")
    numbers = {"CEV": impact.cev, "SDE": impact.sde, "excess loss gap": impact.excess_loss_gap}
    sums = "; ".join(f"{name} {'unknown' if value is None else f'{value:.3g}'}" for name, value in numbers.items())
    caption = f"What pruning costs each class{_of_all(len(order))}. Over all classes: {sums}"
    meanings = (
        "Changes of the false positive and false negative rates are relative to the dense network's, and unknown where "
        "it makes no such error; excess loss is mean cross-entropy, pruned minus dense. CEV and SDE are unknown where "
        "one change is."
    )
    return html_table(head, rows, caption=caption, numbers=range(1, len(head))) + f'<p class="small">{meanings}</p>'


def population_section(populations: Sequence[PopulationFacts]) -> str:
    """Return what groups of dense and pruned networks differ by; empty where none were compared as groups."""
    if not populations:
        return ""
    parts = "".join(map(_population, populations))
    return f'<section aria-labelledby="populations"><h2 id="populations">Populations</h2>{parts}</section>'


def _population(facts: PopulationFacts) -> str:
    counts, norm = (len(facts.dense), len(facts.pruned)), facts.attack["norm"]
    sentence = populations_answer(facts.exemplars, *counts)
    caption = f"{facts.data.row['name']}, {norm}, {facts.attack['name']}; ε: median over the dense networks"
    lines = populations_table(facts.exemplars, *counts, norm)
    indented = [(name.replace("  ", "\N{EM SPACE}"), value) for name, value in lines]  # a page drops leading spaces
    summary = html_table((), indented, caption=caption, numbers=(1,))
    names = "; ".join(
        f"{role}: {', '.join(group[:MOST])}{', …' if len(group) > MOST else ''}"
        for role, group in (("dense", facts.dense), ("pruned", facts.pruned))
    )
    return (
        f"<p>{escaped(sentence)}</p>{summary}{_exemplars(facts)}{_class_tests(facts)}"
        f'<p class="small">{escaped(brief(names, 1000))}</p>'
    )


def _exemplars(facts: PopulationFacts) -> str:
    """Return a sentence with the ids of the exemplars, the nearest to the dense boundaries first."""
    result, data = facts.exemplars, facts.data
    rows = np.flatnonzero(result.is_exemplar)
    rows = rows[np.argsort(result.epsilon[rows], kind="stable")]
    named = ", ".join(str(data.sample_ids[row]) for row in rows[:SAMPLES].tolist())
    return f"<p>Exemplars, nearest first: {named}{', …' if len(rows) > SAMPLES else '.'}</p>" if len(rows) else ""


def _class_tests(facts: PopulationFacts) -> str:
    tests = facts.class_tests
    order = np.argsort(tests.relative_change, kind="stable")
    rows = [
        (
            class_name(facts.data.classes, int(tests.name[k])),
            f"{tests.n[k]:,}",
            f"{tests.dense_recall[k]:.1%}",
            f"{tests.pruned_recall[k]:.1%}",
            f"{100 * tests.relative_change[k]:+.1f}",
            _signed(tests.t[k], "+.2f"),
            _p(tests.p_value[k]),
        )
        for k in order[:MOST].tolist()
    ]
    head = ("class", "samples", "recall, dense", "recall, pruned", "beyond all, points", "Welch's t", "p")
    caption = f"What pruning costs each class beyond what it costs all{_of_all(len(order))}"
    return html_table(head, rows, caption=caption, numbers=range(1, len(head)))


def _of_all(count: int) -> str:
    return f"; {MOST} of {count:,} classes, the worst first" if count > MOST else ""


def _signed(value: float, form: str) -> str:
    return "—" if np.isnan(value) else f"{value:{form}}"


def _p(value: float) -> str:
    return "—" if np.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"
