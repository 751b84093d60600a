"""Learning curves: the numbers of the epochs, the epoch that was kept, and text that can be read."""

import pytest

from tests.plots.looking import assert_readable
from thinice.plots.training import plot_training, save_training_figure
from thinice.training import Epoch, History


def epochs(count, *, held_out=True, robust=True):
    return [
        Epoch(
            k,
            0.1,
            2.0 / k,
            0.3 + 0.6 * k / count,
            0.2 + 0.5 * k / count if held_out else None,
            1.0,
            1.0 / k,
            0.4 if robust else None,
        )
        for k in range(1, count + 1)
    ]


def test_each_curve_is_what_was_measured():
    history = epochs(5)
    ax = plot_training(history, name="dense.pt")
    assert [line.get_ydata().tolist() for line in ax.lines] == [
        [epoch.accuracy for epoch in history],
        [epoch.validation_accuracy for epoch in history],
        [0.4] * 5,
    ]
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3, 4, 5]
    assert ax.get_title(loc="left") == "Training of dense.pt"
    assert len(plot_training(epochs(5, held_out=False, robust=False)).lines) == 1


def test_the_epoch_that_was_kept_is_marked_where_it_is_not_the_last():
    ax = plot_training(History(epochs(6), chosen=4))
    assert list(ax.lines[-1].get_xdata()) == [4, 4]
    assert "kept: epoch 4" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(plot_training(History(epochs(6), chosen=6)).lines) == 3


@pytest.mark.parametrize(
    ("history", "name"),
    [([], "a" * 200), (epochs(1), ""), (epochs(300), "\u202e\x1b[31m<b>"), (History(epochs(50), chosen=13), "W" * 90)],
)
def test_figures_can_be_read(history, name):
    assert_readable(plot_training(history, name=name).figure)


def test_files_are_named_after_the_network(tmp_path):
    files = save_training_figure(epochs(3), tmp_path, name="../../net")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == ["net/training.png", "net/training.svg"]
