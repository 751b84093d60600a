"""The picture of the boundary: lines where paper says, colours of the transitions, names that fit."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from tests.analysis.test_boundary_slice import DENSE, ON_DENSE, PRUNED, SAMPLE, on_paper
from tests.plots.looking import assert_readable, texts
from tests.plots.test_figures import ELL, EVIL
from thinice import slice_networks
from thinice.plots import TRANSITIONS, plot_boundary
from thinice.plots.style import tint
from thinice.types import NORMS, Transition


def drawn_lines(ax):
    """Every contour line that is not a filled region, as points (N, 2)."""
    return [
        contours.get_paths()[0].vertices
        for contours in ax.collections
        if isinstance(contours, QuadContourSet) and not contours.filled
    ]


def test_the_lines_are_the_boundaries():
    ax = plot_boundary(on_paper(resolution=41))
    dense, pruned, ball = drawn_lines(ax)
    np.testing.assert_allclose(dense[:, 0], 25.5, atol=1e-3)
    np.testing.assert_allclose(pruned[:, 1], 12.75, atol=1e-3)
    assert np.ptp(dense[:, 1]) == pytest.approx(2 * 0.125 * 255, rel=1e-3)
    np.testing.assert_allclose(np.abs(ball).max(1), 25.5, atol=0.9)  # a square, its corners cut by the grid
    marks = [line.get_xydata()[0] for line in ax.lines]
    np.testing.assert_allclose(marks, [[0, 0], [25.5, 0], [0, 12.75]], atol=1e-4)


def test_the_regions_have_the_colours_of_the_transitions():
    figure = plot_boundary(on_paper(resolution=41)).figure
    ax = figure.axes[0]
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[::-1]
    for (x, y), transition in {
        (-20, -28): Transition.KEPT,
        (-20, 28): Transition.LOST,
        (28, -20): Transition.GAINED,
        (30, 29): Transition.WRONG,
    }.items():
        column, row = ax.transData.transform((x, y)).astype(int)
        assert to_hex(picture[row, column, :3] / 255) == tint(TRANSITIONS[transition].color), transition
    shown = {text for text, _ in texts(figure)}
    assert {"0", "0 | 1", "1 | 0", "1"} <= shown
    assert {"right under both", "lost to pruning", "gained by pruning", "wrong under both"} <= shown


@pytest.mark.sampled
@pytest.mark.parametrize("norm", NORMS)
def test_says_unit_names_and_readable(norm):
    ax = plot_boundary(on_paper(norm, resolution=41), classes=["cat", "dog"])
    assert_readable(ax.figure)
    shown = " | ".join(text for text, _ in texts(ax.figure))
    assert "cat | dog" in shown
    assert "True class: cat" in shown
    assert ax.get_xlabel().startswith("towards the boundary of dense: ε")
    assert ("n/255" in ax.get_ylabel()) == (norm == "linf")
    assert f"{ELL}2" in plot_boundary(on_paper("l0", resolution=5)).get_xlabel()  # l0 does not grow along a line


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "classes"),
    [
        *zip(EVIL[3:8], [EVIL[:2], EVIL[6:8], EVIL[8:], None, []], strict=True),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in product(EVIL[3:8], [EVIL[:2], EVIL[6:8], None])),
    ],
)
def test_readable_and_harmless_whatever_a_name_holds(classes, name):
    figure = plot_boundary(replace(on_paper(resolution=21), dense=name, pruned=name[::-1]), classes=classes).figure
    assert_readable(figure)
    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    assert b"<script" not in file.getvalue()


@pytest.mark.slow
def test_odd_planes_are_drawn():
    planes = [
        slice_networks(DENSE, PRUNED, SAMPLE, 0, reach=0.01, resolution=5),  # no boundary in sight, no adversarial
        slice_networks(DENSE, PRUNED, SAMPLE, 1, dense_adversarial=ON_DENSE, resolution=2),
        replace(on_paper(resolution=9), pruned_margins=np.full((9, 9), np.nan), pruned_predictions=np.full((9, 9), -1)),
        replace(on_paper(resolution=9), dense_margins=np.full((9, 9), np.inf)),
    ]
    for plane in planes:
        assert_readable(plot_boundary(plane).figure)
    noise = np.random.default_rng(0).integers(0, 100, (2, 101, 101))
    crowded = replace(on_paper(), dense_predictions=noise[0], pruned_predictions=noise[1])
    assert_readable(plot_boundary(crowded).figure)


def test_draws_on_the_axes_given():
    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    before = dict(mpl.rcParams)
    assert plot_boundary(on_paper(resolution=21), ax=left) is left
    assert not right.has_data()
    assert dict(mpl.rcParams) == before
    assert_readable(figure)
