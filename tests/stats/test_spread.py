"""The spread over seeds, worked by hand."""

import json

import numpy as np
import pytest

from thinice.errors import InputError
from thinice.stats import seed_spread

NAN = float("nan")


def test_spread_worked_by_hand():
    # t of 0.975 with two degrees of freedom is 4.302653
    spread = seed_spread([0.88, NAN, 0.90, 0.92])
    assert (spread.n, spread.missing, spread.smallest, spread.largest) == (3, 1, 0.88, 0.92)
    assert (spread.mean, spread.sd) == pytest.approx((0.9, 0.02))
    half = 4.302652729749462 * 0.02 / np.sqrt(3)
    assert (spread.interval.low, spread.interval.high) == pytest.approx((0.9 - half, 0.9 + half))
    assert json.dumps(spread.to_dict(), allow_nan=False)


def test_spread_of_few_seeds():
    one = seed_spread([0.5])
    assert (one.mean, one.sd, one.interval) == (0.5, None, None)
    none = seed_spread([None, NAN])
    assert (none.n, none.missing, none.mean, none.sd, none.interval) == (0, 2, None, None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_spread([np.inf]), "`values` must be a flat list of finite numbers"),
        (lambda: seed_spread([1.0], confidence=2), "`confidence`"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
