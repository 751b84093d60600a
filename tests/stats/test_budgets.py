"""Ladders of budgets, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinice.errors import InputError
from thinice.stats.curves import budget_ladder

NAN = float("nan")


def test_from_no_effect_to_more_than_half_fooled():
    epsilon = np.array([0.0, 1.5, 3.0, 6.0, 7.0]) / 255
    assert (budget_ladder(epsilon, "linf") * 255).tolist() == pytest.approx([1, 2, 4])


def test_misclassified_count_as_fooled_and_not_found_as_standing():
    epsilon = np.array([0.0, 0.0, 0.0, 3.0, 9.0, NAN]) / 255  # half is wrong from the start: 3/255 is enough
    assert (budget_ladder(epsilon, "linf") * 255).tolist() == pytest.approx([2, 4])
    with pytest.raises(InputError, match="no budget fools more than half of the samples"):
        budget_ladder([0.1, NAN, NAN], "linf")


def test_l0_goes_by_whole_entries_and_a_tie_falls():
    assert budget_ladder([2.0, 3.0, 4.0, 4.0, 5.0], "l0").tolist() == [1, 2, 4]


def test_what_has_an_effect_at_once_starts_at_the_smallest():
    budgets = budget_ladder([1e-6, 1e-6, 1.0], "l2")
    assert budgets.tolist() == [2.0**-10]


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=40))
def test_the_ends_do_what_they_promise(epsilons):
    column = np.array(epsilons, dtype=np.float32)
    budgets = budget_ladder(column, "l2", marginal=0.1)
    standing = [(column > np.float32(budget)).mean() for budget in budgets]
    assert standing[-1] < 0.5
    assert all(share >= 0.5 for share in standing[:-1])
    assert np.allclose(budgets[1:], 2 * budgets[:-1])
    assert standing[0] >= 0.9 or len(budgets) == 1 or budgets[0] == 2.0**-10


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match="`norm` must be one of"):
        budget_ladder([1.0], "l3")
