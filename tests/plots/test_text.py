"""Names of strangers in the room that figures have for them: how they are cut, and how little is measured for it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.textpath import text_to_path

from tests.plots.looking import assert_readable, images, sample_columns, texts
from thinice.plots import ComparisonColumns, figure_set
from thinice.plots.style import plain, shorten, width, wrap
from thinice.results import AdversarialExample


def searched(text, room, size):
    """The longest cut that fits, found by trying all of them."""
    if width(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = text[: (kept + 1) // 2].rstrip() + "…" + text[len(text) - kept // 2 :].lstrip()
        if width(cut, size) <= room:
            return cut
    return "…"


@pytest.mark.parametrize("room", [5, 30, 90, 300])
def test_cuts_are_the_longest_that_fit(room):
    rng = np.random.default_rng(room)
    for length in (1, 2, 7, 40, 80):
        text = "".join(rng.choice(list("ilmW .a1—"), length))
        assert shorten(text, room, 9.0) == searched(text, room, 9.0)


@pytest.mark.parametrize("letter", ["i", "W", "$", "猫"])
def test_a_name_of_many_letters_is_measured_a_few_times(letter, monkeypatch):
    measured = []
    real = text_to_path.get_text_width_height_descent
    monkeypatch.setattr(
        text_to_path,
        "get_text_width_height_descent",
        lambda text, *rest, **named: (measured.append(len(text)), real(text, *rest, **named))[1],
    )
    text = plain("start" + letter * 20_000 + "end of it" + str(len(measured)))
    cut = shorten(text, 131.0, 9.0)
    assert len(measured) < 15
    assert sum(measured) < 3000
    assert cut.startswith("start")
    assert "…" in cut
    assert cut.endswith("end of it0")
    assert 131 - 2 * width(plain(letter), 9.0) - 4 < width(cut, 9.0) <= 131
    assert [width(line, 9.0) <= 131 for line in wrap(f"of {text} too", 131.0, 9.0)] == [True] * 3


@pytest.mark.slow
def test_figures_with_names_of_two_thousand_letters_are_readable():
    names = [f"{k} {'a name without an end ' * 100}{k}" for k in range(5)]
    epsilon, transition = sample_columns(300)
    clean, near = images(4, 3, 16, 16)
    labels = np.arange(300) % 5
    figures = figure_set(
        ComparisonColumns(
            epsilon,
            transition,
            labels,
            classes=names,
            dense=names[0],
            pruned="x" * 2000,
            pruned_epsilon=epsilon,
            closest=[AdversarialExample(k, k, (labels[k] + 1) % 5, clean[k], near[k]) for k in range(4)],
            dense_predictions=labels,
            pruned_predictions=labels,
        )
    )
    for name in ("classes", "security", "gallery"):
        assert_readable(figures[name])
        assert max(len(text) for text, _ in texts(figures[name])) < 200
