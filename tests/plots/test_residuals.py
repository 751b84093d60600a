"""The residuals of R-ADMM: what was measured, on a logarithmic scale, and text that can be read."""

from tests.plots.looking import assert_readable
from thinice.plots import plot_residuals


def row(epoch, primal, dual):
    return {"epoch": epoch, "rho": 0.1, "primal": primal, "dual": dual}


def test_each_curve_is_what_was_measured():
    ax = plot_residuals([row(0, 8.0, None), row(2, 4.0, 1.0), row(4, 0.5, 0.0)], name="pruned-95")
    primal, dual = ax.lines
    assert (primal.get_xdata().tolist(), primal.get_ydata().tolist()) == ([0, 2, 4], [8.0, 4.0, 0.5])
    assert (dual.get_xdata().tolist(), dual.get_ydata().tolist()) == ([2], [1.0])  # nothing is no power of ten
    assert ax.get_yscale() == "log"
    assert_readable(ax.figure)


def test_nothing_to_draw_is_said():
    assert any("No residual" in text.get_text() for text in plot_residuals([]).texts)
    assert not plot_residuals([row(0, 0.0, None)]).lines
