"""The figure of a study shows every panel, every method, and the numbers that it was given."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plots.looking import assert_readable
from thinice.errors import InputError
from thinice.plots.study import StudyCurve, plot_study, save_study_figures

RATES = [1, 2, 4]


def panels():
    good, bad = (
        StudyCurve(RATES, [0.9, 0.95, 0.8], [0.01, 0.02, 0.03]),
        StudyCurve(RATES, [0.9, 0.5, None], [0.01, 0.02, None]),
    )
    each = {"good": good, "bad $x$": bad}
    return [{"clean": each}, {"pgd linf 4/255": each, "pgd linf 8/255": each}]


def test_every_panel_has_a_line_a_method_and_the_dense_level():
    figure = plot_study(panels(), title="cnn5 on mnist")
    drawn = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in drawn] == ["clean", "pgd linf 4/255", "pgd linf 8/255"]
    assert len(figure.axes) == 4  # the place beside `clean` is empty
    for ax in drawn:
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2 or line.get_marker() not in {"", "None"}]
        good, bad = curves[0], next(line for line in curves[1:] if line.get_marker() not in {"_", "|", "None"})
        assert good.get_ydata().tolist() == [0.9, 0.95, 0.8]
        assert good.get_xdata().tolist() == [0, 1, 2]  # each step doubles the rate
        assert bad.get_ydata().tolist() == [0.9, 0.5]  # what is not there yet is not drawn
        assert good.get_color() != bad.get_color()
        levels = [line for line in ax.lines if np.ptp(line.get_ydata()) == 0 and list(line.get_xdata()) == [0, 1]]
        assert [line.get_ydata()[0] for line in levels] == [0.9]  # once, for all methods share it
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "4"]
        bars = [segment for container in ax.containers for segment in container[2][0].get_segments()]
        assert bars[1] == pytest.approx(np.array([[1, 0.93], [1, 0.97]]))
    (legend,) = figure.legends
    assert [text.get_text().replace("\\$", "$") for text in legend.get_texts()] == ["good", "bad $x$", "dense"]
    assert legend.get_title().get_text() == "cnn5 on mnist"


@pytest.mark.slow
def test_nothing_overlaps_in_the_papers_grid():
    """Nine methods with long names, three attacks at four budgets, seven rates."""
    rates = [1, 2, 4, 8, 16, 32, 64]
    curve = StudyCurve(rates, np.linspace(0.9, 0.1, 7).tolist(), [0.02] * 7)
    methods = {f"magnitude-global-unstructured-{k}": curve for k in range(9)}
    rows = [{f"{attack} {k}/255": methods for k in range(1, 5)} for attack in ("pgd linf", "tmn l2", "tmn l0")]
    figure = plot_study([{"clean": methods}, *rows], title="a name that is longer than the figure is wide " * 8)
    assert_readable(figure)
    legend = figure.legends[0].get_window_extent()
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= max(ax.get_window_extent().y1 for ax in figure.axes)


def test_one_seed_has_no_bars_and_nothing_is_an_error():
    figure = plot_study([{"clean": {"good": StudyCurve(RATES, [0.9, 0.8, 0.7], [None] * 3)}}])
    assert not figure.axes[0].containers
    assert plot_study([{"clean": {"good": StudyCurve(RATES, [None] * 3, [None] * 3)}}]).axes
    with pytest.raises(InputError, match="`panels` is empty"):
        plot_study([])


def test_it_is_written_into_the_folder_of_the_study(tmp_path):
    files = save_study_figures({"robust accuracy": plot_study(panels())}, tmp_path, name="../mine")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "mine/robust_accuracy.png",
        "mine/robust_accuracy.svg",
    ]
    assert "pgd linf 4/255" in files[1].read_text(encoding="utf-8")
