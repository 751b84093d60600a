"""Every figure: readable at any size, in the axes given, with the numbers given, harmless whatever a name holds."""

import io
import xml.etree.ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.analysis.test_boundary_slice import on_paper
from tests.plots.looking import assert_readable, images, sample_columns, texts
from thinice.errors import InputError
from thinice.plots import (
    TRANSITIONS,
    ComparisonColumns,
    figure_set,
    plot_class_losses,
    plot_distribution,
    plot_gallery,
    plot_pairs,
    plot_risk,
    plot_roc,
    plot_security,
    plot_survival,
)
from thinice.results import AdversarialExample
from thinice.stats import compare_predictors, roc_curve, separation
from thinice.types import NORMS, Transition

pytestmark = pytest.mark.sampled

ELL = "\N{SCRIPT SMALL L}"
EVIL = [
    "$x^2$",
    "$",
    r"\$a$ \frac{",
    "--><script>alert(1)</script>",
    "</text><svg onload='x'>",
    "猫 😀",
    "a\nb\x00\x1b[31m\u202e",
    "American Staffordshire terrier, Staffordshire terrier, American pit bull terrier, pit bull terrier",
    "",
    "&amp; {0} %s",
]


def all_figures(n, *, classes=EVIL, size=(3, 32, 32), **columns):
    epsilon, transition = sample_columns(n, **columns)
    labels = np.arange(n) % len(classes)
    found = np.flatnonzero(epsilon > 0)
    shown = found[np.argsort(epsilon[found])][:8]
    inputs, adversarials = images(len(shown), *size)
    return figure_set(
        ComparisonColumns(
            epsilon,
            transition,
            labels,
            classes=classes,
            budget=8 / 255,
            dense=EVIL[3],
            pruned=EVIL[7],
            pruned_epsilon=epsilon / 2,
            closest=[
                AdversarialExample(k, k, (labels[k] + 1) % len(classes), clean, adversarial)
                for k, clean, adversarial in zip(shown.tolist(), inputs, adversarials, strict=True)
            ],
            dense_predictions=labels,
            pruned_predictions=(labels + 3) % len(classes),
            sample_ids=np.arange(n),
        )
    )


def test_distances_and_a_plane_add_their_figures():
    epsilon, transition = sample_columns(40)
    predictors = compare_predictors(transition == "S1,0", {"epsilon": epsilon})
    columns = ComparisonColumns(
        epsilon, transition, np.zeros(40, int), pruned_epsilon=epsilon / 2, predictors=predictors
    )
    figures = figure_set(columns, plane=on_paper(resolution=9))
    assert {"pairs", "predictors", "boundary"} <= set(figures)


NAMES = ["distribution", "risk", "survival", "security", "roc", "classes", "pairs", "gallery"]


@pytest.mark.parametrize("n", [3, pytest.param(200, marks=pytest.mark.slow), 50_000])
@pytest.mark.slow
def test_the_set_is_whole_and_readable(n):
    figures = all_figures(n)
    assert list(figures) == NAMES
    for figure in figures.values():
        assert isinstance(figure, Figure)
        assert_readable(figure)


@pytest.mark.parametrize(
    "columns",
    [
        *({"spread": 2.0}, {"lost": 0.0}, {"not_found": 1.0}),
        *(pytest.param(odd, marks=pytest.mark.slow) for odd in ({"not_found": 0.7}, {"lost": 0.9}, {"median": 1e-9})),
    ],
)
@pytest.mark.slow
def test_readable_in_odd_cases(columns):
    for figure in all_figures(150, **columns).values():
        assert_readable(figure)


def test_the_reader_of_figures_sees_collisions():
    figure = Figure()
    ax = figure.subplots()
    ax.text(0.5, 0.5, "one")
    ax.text(0.51, 0.5, "other")
    with pytest.raises(AssertionError, match="'one' and 'other' overlap"):
        assert_readable(figure)
    figure = Figure()
    figure.subplots().text(0.99, 0.5, "a long text at the edge")
    with pytest.raises(AssertionError, match="leaves the figure"):
        assert_readable(figure)


def calls():
    epsilon, transition = sample_columns(120)
    labels = np.arange(120) % 10
    inputs, adversarials = images(3, 1, 8, 8)
    return {
        "distribution": lambda ax: plot_distribution(epsilon, transition, ax=ax),
        "risk": lambda ax: plot_risk(epsilon, transition, ax=ax),
        "survival": lambda ax: plot_survival(epsilon, transition, budget=2 / 255, ax=ax),
        "security": lambda ax: plot_security({"dense": epsilon}, ax=ax),
        "roc": lambda ax: plot_roc(epsilon, transition, ax=ax),
        "classes": lambda ax: plot_class_losses(labels, transition, ax=ax),
        "pairs": lambda ax: plot_pairs(epsilon, epsilon / 2, transition, ax=ax),
        "gallery": lambda ax: plot_gallery(inputs, adversarials, [0.1, 0.2, 0.3], ax=ax),
    }


@pytest.mark.parametrize("name", NAMES)
def test_draws_on_the_axes_given_and_leaves_the_rest_alone(name):
    before = dict(mpl.rcParams)
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    assert calls()[name](left) is left
    assert left.has_data() or name == "gallery"
    assert not right.has_data()
    assert not right.get_title(loc="left")
    assert calls()[name](None).figure is not figure
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert_readable(figure)


@pytest.mark.parametrize("fonttype", ["none", pytest.param("path", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_names_are_text_and_never_markup(fonttype):
    with mpl.rc_context({"svg.fonttype": fonttype}):
        for figure in all_figures(60).values():
            file = io.BytesIO()
            figure.savefig(file, format="svg")
            tags = {element.tag.split("}")[-1] for element in ET.fromstring(file.getvalue()).iter()}
            assert "script" not in tags
            assert tags >= {"svg", "g", "path"}
            assert b"<script" not in file.getvalue()
            assert b"onload='x'>" not in file.getvalue()


def test_names_are_shown_letter_by_letter():
    ax = plot_class_losses([0, 1, 2, 3], ["S1,1"] * 4, classes=["$x^2$", "猫", "a\nb", "<b>"])
    shown = [text for text, _ in texts(ax.figure)]
    assert r"\$x^2\$" in shown  # matplotlib draws an escaped dollar as a dollar
    assert r"\u732b" in shown  # no font here has it; where one does, the sign itself
    assert "a b" in shown
    assert "<b>" in shown


def test_the_histogram_holds_every_sample():
    epsilon, transition = sample_columns(5000, not_found=0.1)
    ax = plot_distribution(epsilon, transition, norm="linf")
    for name in ("S1,1", "S1,0"):
        group = epsilon[transition == name] * 255
        drawn = next(item for item in ax.collections if item.get_label() == name)
        assert to_hex(drawn.get_edgecolor()[0], keep_alpha=False) == TRANSITIONS[name].color.lower()
        outline = drawn.get_paths()[0].vertices
        x, y = outline[:, 0], outline[:, 1]
        area = abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2
        width = np.diff(np.unique(x.round(9))).min()  # of a bin
        found = group[np.isfinite(group)]
        assert area / width == pytest.approx(100 * len(found) / len(group), rel=1e-6)
        assert (x.min(), x.max()) == pytest.approx((found.min(), found.max()), abs=width)
        assert x.min() <= found.min() * (1 + 1e-6)
        assert x.max() >= found.max() * (1 - 1e-6)
        middle = (found > x.min() + 2 * width) & (found <= x.min() + 3 * width)
        third = y[(x > x.min() + 1.5 * width) & (x < x.min() + 3.5 * width)]
        assert np.isclose(third, 100 * middle.sum() / len(group)).any()
    medians = [line.get_xdata()[0] for line in ax.lines]
    result = separation(epsilon[transition == "S1,1"], epsilon[transition == "S1,0"])
    assert medians == pytest.approx([255 * result.median_kept, 255 * result.median_lost])


def test_small_groups_show_every_sample():
    epsilon = np.array([1, 2, 3, 10]) / 255
    ax = plot_distribution(epsilon, ["S1,1", "S1,1", "S1,0", "S1,1"])
    marks = {line.get_marker(): line.get_xdata() for line in ax.lines if line.get_marker() not in ("None", "")}
    np.testing.assert_allclose(marks[TRANSITIONS[Transition.KEPT].marker], [1, 2, 10], rtol=1e-6)
    np.testing.assert_allclose(marks[TRANSITIONS[Transition.LOST].marker], [3], rtol=1e-6)


def test_what_is_not_drawn_is_counted():
    epsilon = [0.01, 0.02, np.nan, np.nan, 0.0, 0.0, 0.0]
    transition = ["S1,1", "S1,0", "S1,1", "S1,0", "S0,1", "S0,0", "S0,0"]
    shown = " | ".join(text for text, _ in texts(plot_distribution(epsilon, transition).figure))
    assert "(n = 7)" in shown
    assert "not drawn: 2 (S1,1: 1, S1,0: 1)" in shown
    assert "ε = 0, not drawn: 3 (S0,1: 1, S0,0: 2)" in shown
    assert "S1,1 kept: n = 2, median not found" in shown
    shown = " | ".join(text for text, _ in texts(plot_survival(epsilon, transition).figure))
    assert "Not found, counted as farther: 2 (S1,1: 1, S1,0: 1)" in shown
    shown = " | ".join(text for text, _ in texts(plot_security({"dense": epsilon}).figure))
    assert "Not found, counted as robust: 2 (dense: 2)" in shown
    shown = " | ".join(text for text, _ in texts(plot_roc(epsilon, transition).figure))
    assert "2 kept, 2 lost. Not found, ranked last together: 2." in shown
    found = separation([0.01, np.nan], [0.02, np.nan])
    assert f"one-sided, exact): log10 p = {found.log10_p:.1f}." in shown


@pytest.mark.parametrize("n", [50, 20_000])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_survival_curves_pass_through_the_counts(n, spread):
    epsilon, transition = sample_columns(n, spread=spread, not_found=0.05)
    ax = plot_survival(epsilon, transition)
    assert [line.get_label() for line in ax.lines] == ["S1,1 kept", "S1,0 lost"]
    for line, name in zip(ax.lines, ("S1,1", "S1,0"), strict=True):
        group = np.nan_to_num(epsilon[transition == name], nan=np.inf).astype(float)
        x, share = line.get_xdata(), line.get_ydata()
        assert line.get_drawstyle() == "steps-post"
        assert len(x) <= 1002
        for budget, drawn in zip(x[1:-1] / 255, share[1:-1], strict=True):
            assert drawn == np.mean(group > budget) or drawn == pytest.approx(
                np.mean(group > budget), abs=1.5 / len(group)
            )
        if n == 50:
            assert set(np.round(x[1:-1], 6)) == set(np.round(group[np.isfinite(group)] * 255, 6))
    assert (ax.get_xscale() == "log") == (spread == 2.0)


def test_the_security_curve_starts_at_clean_accuracy_and_the_budget_is_marked():
    ax = plot_security({"dense": [0.0, 0.1, 0.2, np.nan], "pruned": [0.0, 0.0, 0.1, 0.3]}, norm="l2", budget=0.15)
    dense, pruned, budget = ax.lines
    assert dense.get_ydata()[0] == 0.75
    assert pruned.get_ydata()[0] == 0.5
    assert list(budget.get_xdata()) == [0.15, 0.15]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["dense: n = 4, 50.0% robust at budget", "pruned: n = 4, 25.0% robust at budget", "budget 0.15"]
    assert dense.get_color() != pruned.get_color()
    assert dense._unscaled_dash_pattern != pruned._unscaled_dash_pattern


@pytest.mark.parametrize("n", [60, 30_000])
def test_the_roc_curve_is_the_one_of_the_statistics(n):
    epsilon, transition = sample_columns(n)
    kept, lost = epsilon[transition == "S1,1"], epsilon[transition == "S1,0"]
    ax = plot_roc(epsilon, transition)
    chance, drawn = ax.lines
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 1]
    curve = roc_curve(kept, lost)
    corners = set(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
    assert set(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True)) <= corners
    assert len(drawn.get_xdata()) <= 302  # a screen shows no more, and pages stay light
    assert len(drawn.get_xdata()) > (200 if n > 1000 else 5)
    auc = separation(kept, lost).auc
    assert np.trapezoid(drawn.get_ydata(), drawn.get_xdata()) == pytest.approx(auc, abs=2e-3)
    assert f"AUC {auc:.3f} (95%: " in ax.get_legend().get_texts()[0].get_text()


def test_bars_by_class_are_the_shares():
    labels = [0] * 4 + [1] * 5 + [2] * 2
    transition = ["S1,1", "S1,0", "S1,1", "S1,1"] + ["S1,0"] * 2 + ["S1,1"] * 2 + ["S0,1"] + ["S0,0"] * 2
    ax = plot_class_losses(labels, transition, classes=["cat", "dog", "fox"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["dog", "cat"]
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.25]
    shown = [text for text, _ in texts(ax.figure)]
    assert "2 of 4, +1" in shown
    assert "1 of 4" in shown
    assert any("3 of 8 (37.5%)" in text for text in shown)
    assert any("Left out" in text and "1 classes" in text for text in shown)
    assert ax.get_xlabel() == "lost (S1,0), of the samples that the dense network has right"


def test_long_class_names_that_look_alike_are_numbered():
    names = [f"a name that is much too long for the room there is, number {k} of many like it" for k in range(3)]
    ax = plot_class_losses([0, 1, 2], ["S1,1"] * 3, classes=names)
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert [text[:3] for text in shown] == ["0: ", "1: ", "2: "]
    assert_readable(ax.figure)


def test_ten_networks_look_different():
    ax = plot_security({f"network {k}": [0.01 * (k + 1), 0.2] for k in range(10)})
    looks = {
        (to_hex(line.get_color()), line._unscaled_dash_pattern[1] and tuple(line._unscaled_dash_pattern[1]))
        for line in ax.lines
    }
    assert len(looks) == 10
    assert_readable(ax.figure)


def test_many_classes_are_cut_to_the_hardest_hit():
    labels = np.repeat(np.arange(200), 10)
    transition = np.where(np.tile(np.arange(10), 200) < labels // 20, "S1,0", "S1,1")
    ax = plot_class_losses(labels, transition, count=7)
    assert [int(text.get_text()) for text in ax.get_yticklabels()] == [*range(180, 187)]
    assert any("The 7 hardest hit of 200 classes" in text for text, _ in texts(ax.figure))
    assert ax.get_ylabel() == "class"


@pytest.mark.parametrize(
    ("norm", "label", "scale"),
    [
        ("linf", f"ε ({ELL}∞, n/255)", 255),
        ("l2", f"ε ({ELL}2, [0, 1] scale)", 1),
        ("l1", f"ε ({ELL}1, [0, 1] scale)", 1),
        ("l0", f"ε ({ELL}0, values changed)", 1),
    ],
)
def test_axes_say_their_unit(norm, label, scale):
    assert norm in NORMS
    epsilon, transition = [2.0, 4.0, 6.0], ["S1,1", "S1,0", "S1,1"]
    for ax in (
        plot_distribution(epsilon, transition, norm=norm),
        plot_survival(epsilon, transition, norm=norm),
        plot_security({"dense": epsilon}, norm=norm),
    ):
        assert ax.get_xlabel() == label
        assert ax.get_ylabel()
        low, high = ax.get_xlim()
        assert low <= 2 * scale
        assert 6 * scale <= high < 9 * scale


def test_one_palette_everywhere():
    epsilon, transition = sample_columns(300)
    kept, lost = TRANSITIONS[Transition.KEPT].color.lower(), TRANSITIONS[Transition.LOST].color.lower()
    assert [to_hex(line.get_color()) for line in plot_survival(epsilon, transition).lines] == [kept, lost]
    medians = [to_hex(line.get_color()) for line in plot_distribution(epsilon, transition).lines][:2]
    assert medians == [kept, lost]
    assert to_hex(plot_class_losses(np.zeros(300, int), transition).patches[0].get_facecolor()) == lost
    inputs, adversarials = images(2, 3, 8, 8)
    gallery = plot_gallery(inputs, adversarials, [0.1, 0.1], transition=["S1,1", "S1,0"])
    assert {to_hex(patch.get_edgecolor()) for patch in gallery.patches} == {kept, lost}
    styles = list(TRANSITIONS.values())
    assert list(TRANSITIONS) == list(Transition)
    for look in ("color", "dashes", "marker", "word"):
        assert len({getattr(style, look) for style in styles}) == 4  # grey print and colour-blind eyes tell them


@pytest.mark.parametrize("size", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 224, 224), (3, 60, 200), (3, 200, 60)])
@pytest.mark.parametrize("n", [1, 8])
def test_galleries_of_all_sizes(size, n):
    inputs, adversarials = images(n, *size)
    ax = plot_gallery(
        inputs,
        adversarials,
        np.linspace(1e-4, 0.2, n),
        predictions=np.arange(n),
        adversarial_predictions=np.arange(n) + 1,
        pruned_predictions=np.arange(n) + 2,
        transition=["S1,0"] * n,
        sample_ids=np.arange(n) * 7919,
        classes=EVIL,
    )
    assert_readable(ax.figure)
    assert len(ax.images) == 3 * n
    for place in range(n):
        clean, delta, near = (np.asarray(ax.images[row * n + place].get_array()) for row in range(3))
        expected = inputs[place].transpose(1, 2, 0).squeeze()
        np.testing.assert_array_equal(clean, expected)
        np.testing.assert_array_equal(near, adversarials[place].transpose(1, 2, 0).squeeze())
        change = near - clean
        np.testing.assert_allclose(delta, 0.5 + change * (0.5 / np.abs(change).max()), atol=1e-5)
    shapes = [
        (image.get_extent()[1] - image.get_extent()[0]) / (image.get_extent()[2] - image.get_extent()[3])
        for image in ax.images
    ]
    assert shapes == pytest.approx([size[2] / size[1]] * 3 * n)


def test_the_gallery_says_what_is_seen():
    inputs, adversarials = images(3, 1, 8, 8)
    adversarials[2] = inputs[2]
    ax = plot_gallery(
        inputs,
        adversarials,
        [2 / 255, 8 / 255, np.nan],
        predictions=[0, 1, 0],
        adversarial_predictions=[1, 0, -1],
        classes=["cat", "dog"],
        sample_ids=[5, 6, 7],
    )
    shown = [text for text, _ in texts(ax.figure)]
    assert {"#5", "#6", "#7", "2", "8", "not found", "no change", "cat", "dog", "—"} <= set(shown)
    assert f"ε ({ELL}∞, n/255)" in shown
    assert shown.count("dense sees") == 2
    assert "pruned sees" not in shown


def test_the_gallery_stops_at_its_count_and_works_without_samples():
    inputs, adversarials = images(20, 1, 8, 8)
    assert len(plot_gallery(inputs, adversarials, np.full(20, 0.1), count=5).images) == 15
    empty = plot_gallery(inputs[:0], adversarials[:0], [])
    assert not empty.images
    assert_readable(empty.figure)
    assert "gallery" not in figure_set(ComparisonColumns([0.1], ["S1,1"], [0]))
    example = AdversarialExample(0, 0, 1, np.zeros((5, 8, 8)), np.zeros((5, 8, 8)))
    assert "gallery" not in figure_set(ComparisonColumns([0.1], ["S1,1"], [0], closest=[example]))


def test_figures_show_themselves_in_a_notebook():
    epsilon, transition = sample_columns(50)
    inputs, adversarials = images(2, 1, 8, 8)
    for ax in (plot_roc(epsilon, transition), plot_gallery(inputs, adversarials, [0.1, 0.2])):
        data, size = ax.figure._repr_png_()
        assert data.startswith(b"\x89PNG")
        wide, high = (int.from_bytes(data[place : place + 4]) for place in (16, 20))
        assert (wide, high) == pytest.approx((2 * size["width"], 2 * size["height"]), abs=2)


def test_no_samples_at_all():
    for figure in figure_set(ComparisonColumns([], [], [])).values():
        assert_readable(figure)


def test_bad_input_is_named():
    inputs, adversarials = images(2, 1, 8, 8)
    with pytest.raises(InputError, match="`transition` has 1 rows and `epsilon` 2"):
        plot_distribution([0.1, 0.2], ["S1,1"])
    with pytest.raises(InputError, match="`norm` is 'l7': the norms are l0, l1, l2, linf"):
        plot_distribution([0.1], ["S1,1"], norm="l7")
    with pytest.raises(InputError, match="`transition` holds 'kept'"):
        plot_roc([0.1], ["kept"])
    with pytest.raises(InputError, match=r"`adversarials` has shape \(1, 1, 8, 8\)"):
        plot_gallery(inputs, adversarials[:1], [0.1, 0.1])
    with pytest.raises(InputError, match="`epsilon` has 1 rows"):
        plot_gallery(inputs, adversarials, [0.1])
    with pytest.raises(InputError, match="1 or 3 channels"):
        plot_gallery(inputs[:, 0], adversarials[:, 0], [0.1, 0.1])


@pytest.mark.slow
def test_is_silent_at_every_size():
    with np.errstate(all="raise", under="ignore"):  # warnings are errors in every test
        for n in (0, 1, 2, 5):
            all_figures(n) if n else figure_set(ComparisonColumns([], [], []))
