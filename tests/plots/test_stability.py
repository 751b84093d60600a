"""Masks from epoch to epoch: what was measured, and how sharp the loss is."""

from tests.plots.looking import assert_readable
from thinice.plots import plot_mask_changes


def test_each_line_is_what_a_search_measured():
    searches = {
        "hydra-95": {"mask_changes": [0.03, 0.01, 0.0], "sharpness": {"samples": 100, "largest_eigenvalue": 12.345}},
        "lwm-95": {},
        "hydra+s2ap-95": {"mask_changes": [0.02, 0.005]},
    }
    ax = plot_mask_changes(searches)
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2, 3], [1, 2]]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.03, 0.01, 0.0], [0.02, 0.005]]
    texts = [text.get_text() for text in ax.figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert any("hydra-95, largest eigenvalue 12.3" in text for text in texts)
    assert_readable(ax.figure)


def test_nothing_to_draw_is_said():
    assert any("No search" in text.get_text() for text in plot_mask_changes({"lwm": {}}).texts)
