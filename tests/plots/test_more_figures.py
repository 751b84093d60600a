"""Risk, pairs, predictors and series: the numbers of the statistics, in pictures that can be read."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import thinice
from tests.plots.looking import assert_readable, sample_columns, texts
from tests.plots.test_figures import EVIL
from thinice.errors import InputError
from thinice.plots import TRANSITIONS, plot_attacks, plot_pairs, plot_predictors, plot_risk, plot_sparsity
from thinice.stats import compare_predictors, risk_curve, wilson
from thinice.types import NORMS, Transition

pytestmark = pytest.mark.sampled

ODD = [
    {"n": 300},
    {"n": 10_000, "not_found": 0.05},
    {"n": 800, "spread": 2.0, "not_found": 0.03},
    {"n": 100, "lost": 0.0},
    {"n": 5, "lost": 0.3},
    {"n": 300, "lost": 0.9},
    {"n": 20, "not_found": 1.0},
    {"n": 0},
]


def pruned_epsilons(epsilon, transition, seed=0):
    """Epsilons of the pruned network that go with the transitions, some of them not found."""
    rng = np.random.default_rng(seed)
    after = epsilon * rng.lognormal(-0.2, 0.3, len(epsilon))
    after[(transition == "S1,0") | (transition == "S0,0")] = 0
    gained = transition == "S0,1"
    after[gained] = rng.lognormal(0, 0.5, gained.sum()) / 255
    after[(after > 0) & (rng.random(len(after)) < 0.02)] = np.nan
    return after


def shown(ax):
    return " | ".join(text.replace("\n", " ") for text, _ in texts(ax.figure))


@pytest.fixture(scope="module")
def series():
    paths = thinice.example_checkpoints()
    samples = thinice.load_samples("digits", limit=300)
    pruned = [paths["pruned-95"], paths["pruned-90"]]
    return thinice.compare_all(paths["dense"], pruned, samples, effort="quick", progress=False)


# Risk


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_the_risk_is_that_of_the_statistics(method):
    epsilon, transition = sample_columns(120)
    kept, lost = (epsilon[transition == name] for name in ("S1,1", "S1,0"))
    ax = plot_risk(epsilon, transition, method=method, resamples=50)
    curve = risk_curve(kept, lost, method=method, resamples=50)
    drawn = ax.lines[0]
    np.testing.assert_allclose(drawn.get_xdata(), curve.epsilon * 255)
    np.testing.assert_allclose(drawn.get_ydata(), curve.risk)
    assert to_hex(drawn.get_color()) == TRANSITIONS[Transition.LOST].color.lower()
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(curve.high.max())
    share = len(lost) / (len(kept) + len(lost))
    assert f"all samples: {share:.1%}" in shown(ax)


def test_dots_are_the_shares_lost_in_groups_of_equal_size():
    epsilon = np.arange(1, 81) / 255  # of the nearest 20, 10 are lost; of the others, none
    transition = np.where((np.arange(80) < 20) & (np.arange(80) % 2 == 0), "S1,0", "S1,1")
    ax = plot_risk(epsilon, transition)
    dots = ax.containers[0].lines[0]
    np.testing.assert_allclose(dots.get_xdata(), [10.5, 30.5, 50.5, 70.5])
    np.testing.assert_allclose(dots.get_ydata(), [0.5, 0, 0, 0])
    whisker = ax.containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(whisker[:, 1], [wilson(10, 20).low, wilson(10, 20).high])


@pytest.mark.parametrize("columns", ODD)
@pytest.mark.parametrize("norm", ["linf", pytest.param("l0", marks=pytest.mark.slow)])
def test_risk_can_be_read(columns, norm):
    epsilon, transition = sample_columns(**columns)
    ax = plot_risk(epsilon, transition, norm=norm)
    assert_readable(ax.figure)
    missing = int(np.isnan(epsilon[transition != "S0,0"]).sum())
    assert (f"not drawn: {missing:,}" in shown(ax)) == bool(missing)


# Pairs


def test_each_sample_lies_at_its_two_distances():
    ax = plot_pairs(
        [0.1, 0.2, 0.3, 0.0, np.nan, 0.0],
        [0.05, 0.25, 0.0, 0.1, 0.3, 0.0],
        ["S1,1", "S1,1", "S1,0", "S0,1", "S1,1", "S0,0"],
        norm="l2",
    )
    marks = {to_hex(line.get_color()): line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"}
    kept, lost, gained = (marks[TRANSITIONS[name].color.lower()] for name in list(Transition)[:3])
    np.testing.assert_allclose(kept[:2], [[0.1, 0.05], [0.2, 0.25]])
    np.testing.assert_allclose(lost, [[0.3, 0]])
    np.testing.assert_allclose(gained, [[0, 0.1]])
    assert kept[2, 0] > 0.3  # not found: beyond the farthest
    assert kept[2, 1] == pytest.approx(0.3)
    assert "not found" in shown(ax)
    assert "ε = 0 twice, not drawn: 1" in shown(ax)
    assert "Of 2 kept samples with both distances, pruning brought 1 nearer" in shown(ax)
    assert ax.get_xlim() == ax.get_ylim()


@pytest.mark.parametrize("columns", ODD)
@pytest.mark.parametrize("norm", [pytest.param(n, marks=pytest.mark.slow if n in ("l1", "l2") else ()) for n in NORMS])
def test_pairs_can_be_read_and_nothing_leaves_the_axes(columns, norm):
    epsilon, transition = sample_columns(**columns)
    after = pruned_epsilons(epsilon, transition)
    ax = plot_pairs(epsilon, after, transition, norm=norm)
    assert_readable(ax.figure)
    marks = [line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"]
    drawn = int(
        (~((np.nan_to_num(epsilon) == 0) & (np.nan_to_num(after) == 0)) | np.isnan(epsilon) | np.isnan(after)).sum()
    )
    if marks:
        points = np.concatenate(marks)
        assert len(points) == drawn
        low, high = ax.get_xlim()
        assert low < points.min()
        assert points.max() < high


def test_log_axes_have_a_strip_for_zeros():
    ax = plot_pairs([1e-4, 1e-2, 1.0, 0.0], [1e-4, 1e-2, 0.5, 1e-3], ["S1,1"] * 3 + ["S0,1"], norm="l2")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    gained = ax.lines[-1].get_xydata()
    assert 0 < gained[0, 0] < 1e-4
    assert "0" in [text.get_text() for text in ax.get_xticklabels()]
    assert_readable(ax.figure)


def test_many_samples_stay_small_in_vector_files():
    epsilon, transition = sample_columns(10_000)
    file = io.BytesIO()
    plot_pairs(epsilon, pruned_epsilons(epsilon, transition), transition).figure.savefig(file, format="svg")
    assert file.tell() < 500_000


# Predictors


def test_predictors_are_the_table():
    rng = np.random.default_rng(0)
    lost = rng.random(300) < 0.15
    epsilon = rng.normal(size=300) - 2 * lost
    table = compare_predictors(
        lost, {"epsilon": epsilon, "margin": epsilon + 4 * rng.normal(size=300), "loss": -epsilon}
    )
    assert table.p_value[2] == 1  # they order the samples alike
    ax = plot_predictors(table)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["epsilon", "margin", "loss"]
    for row, container in enumerate(ax.containers):
        assert container.lines[0].get_xydata().tolist() == [[table.auc[row], row]]
        segment = container.lines[2][0].get_segments()[0]
        np.testing.assert_allclose(segment[:, 0], [table.low[row], table.high[row]])
    assert table.log10_p[1] < -2
    assert f"{table.auc[1]:.3f} ({table.difference[1]:.3f} less, log10 p {table.log10_p[1]:.1f})" in shown(ax)
    assert f"{table.auc[2]:.3f} (0.000 less, p 1.00)" in shown(ax)
    assert_readable(ax.figure)


@pytest.mark.parametrize("losses", [0, 1, 2, 50, 100])
def test_predictors_can_be_read(losses):
    lost = np.arange(100) < losses
    columns = {name: np.roll(np.arange(100), place) for place, name in enumerate(EVIL)}
    ax = plot_predictors(compare_predictors(lost, columns))
    assert_readable(ax.figure)
    if losses in (0, 100):
        assert "A predictor needs kept (S1,1) and lost (S1,0) samples" in shown(ax)


# Series


@pytest.mark.slow
def test_series_are_sorted_and_show_their_numbers(series):
    for quantity, values in {
        "accuracy": [one.changes.pruned_accuracy for one in series],
        "lost": [one.changes.lost / (one.changes.lost + one.changes.kept) for one in series],
        "auc": [one.separation.auc for one in series],
    }.items():
        ax = plot_sparsity(series, quantity=quantity)
        line = ax.lines[0]
        np.testing.assert_allclose(line.get_ydata(), values[::-1])  # the sparser came first
        np.testing.assert_allclose(line.get_xdata(), [-np.log2(1 - one.pruned_sparsity) for one in series[::-1]])
        assert [text.get_text() for text in ax.get_xticklabels()] == ["90%", "95%"]
        assert_readable(ax.figure)
    interval = series[0].separation.interval(0.95)
    bars = plot_sparsity(series).containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bars[1][:, 1], [interval.low, interval.high])
    dense = plot_sparsity(series, quantity="accuracy").lines[-1].get_ydata()
    assert set(dense) == {series[0].changes.dense_accuracy}


@pytest.mark.parametrize("quantity", ["auc", "accuracy", "lost"])
def test_series_can_be_read(series, quantity):
    many = [replace(series[k % 2], pruned_sparsity=1 - 2.0**-k) for k in range(16)]
    close = [replace(series[0], pruned_sparsity=0.5 + k / 1000) for k in range(5)]
    for case in (many[:1], many, close, {name: many[k : k + 3] for k, name in enumerate(EVIL)}, []):
        assert_readable(plot_sparsity(case, quantity=quantity).figure)


def test_where_nothing_is_lost_there_is_no_auc(series):
    nothing = replace(series[0], separation=replace(series[0].separation, auc=None, n_lost=0))
    ax = plot_sparsity([nothing, series[1]])
    assert len(ax.lines[0].get_xdata()) == 1
    assert "Not drawn, for nothing was lost or nothing kept: 1 of 2 prunings" in shown(ax)
    assert_readable(plot_sparsity([nothing]).figure)


# Attacks


def test_attacks_show_their_cost_and_their_excess():
    best = np.linspace(0.1, 0.2, 21)
    found = {
        "good": best,
        "poor": best * np.linspace(1, 1.2, 21),
        "gives up": np.where(np.arange(21) < 3, np.nan, best),
    }
    found = {name: np.append(column, 0.0) for name, column in found.items()}  # the last sample is wrong already
    ax = plot_attacks(
        found, {name: np.append(np.full(21, cost), 1) for name, cost in zip(found, (90, 30, 10), strict=True)}
    )
    points = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xdata()) == 1]
    assert points[0] == [[90, 0]]
    assert points[1] == [[30, pytest.approx(10)]]
    whisker = ax.lines[2].get_ydata()
    np.testing.assert_allclose(whisker, [10, 19])  # of 21 samples the twentieth
    assert "gives up (3 not found)" in shown(ax)
    assert "21 samples" in shown(ax)
    assert_readable(ax.figure)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_attacks_can_be_read(n):
    rng = np.random.default_rng(0)
    found = {name: rng.lognormal(0, 10.0 ** (k - 8), n) for k, name in enumerate(EVIL)}
    found[EVIL[0]] = np.full(n, np.nan)
    assert_readable(plot_attacks(found, {name: np.full(n, 3.0**k) for k, name in enumerate(EVIL)}).figure)


# All of them


def calls(series):
    epsilon, transition = sample_columns(60)
    lost = transition == "S1,0"
    return [
        lambda ax: plot_risk(epsilon, transition, ax=ax),
        lambda ax: plot_pairs(epsilon, pruned_epsilons(epsilon, transition), transition, ax=ax),
        lambda ax: plot_predictors(compare_predictors(lost, {"epsilon": np.nan_to_num(epsilon)}), ax=ax),
        lambda ax: plot_sparsity(series, ax=ax),
        lambda ax: plot_attacks({"fmn": [0.1, 0.2]}, {"fmn": [30, 30]}, ax=ax),
    ]


@pytest.mark.slow
def test_draw_on_the_axes_given(series):
    before = dict(mpl.rcParams)
    for call in calls(series):
        figure = Figure(figsize=(13, 5), layout="constrained")
        left, right = figure.subplots(1, 2)
        assert call(left) is left
        assert left.has_data()
        assert not right.has_data()
        assert_readable(figure)
    assert dict(mpl.rcParams) == before


def test_bad_input_is_named(series):
    with pytest.raises(InputError, match="`transition` has 1 rows and `epsilon` 2"):
        plot_risk([0.1, 0.2], ["S1,1"])
    with pytest.raises(InputError, match="`pruned_epsilon` has 1 rows and `epsilon` 2"):
        plot_pairs([0.1, 0.2], [0.1], ["S1,1", "S1,1"])
    with pytest.raises(InputError, match="`norm` is 'l7'"):
        plot_pairs([0.1], [0.1], ["S1,1"], norm="l7")
    with pytest.raises(InputError, match="`evaluations` and `epsilons` name different attacks"):
        plot_attacks({"fmn": [0.1]}, {"tmn": [30]})
    with pytest.raises(InputError, match="`epsilons` is empty"):
        plot_attacks({}, {})
    with pytest.raises(InputError, match="`evaluations of fmn` has 2 rows and `fmn` 1"):
        plot_attacks({"fmn": [0.1]}, {"fmn": [30, 30]})
    with pytest.raises(InputError, match="`quantity` must be one of auc, accuracy, lost, got 'speed'"):
        plot_sparsity(series, quantity="speed")
