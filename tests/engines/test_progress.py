"""What people see while they wait."""

from __future__ import annotations

import io
import math

import pytest

from thinice.engines import progress as module
from thinice.engines.progress import Progress, duration

HALF = Progress(
    title="dense, linf, fmn", done=500, total=1000, resumed=100, found=450, not_found=3, misclassified=47,
    median=8 / 255, seconds=40.0, norm="linf",
)  # fmt: skip


def test_time_left_counts_only_what_this_run_measured():
    assert HALF.seconds_left == pytest.approx(50.0)  # 400 in 40 s, 500 to go


def test_time_left_is_unknown_before_the_first_sample():
    start = Progress("t", 100, 1000, 100, 0, 0, 0, math.nan, 0.0, "l2")
    assert math.isnan(start.seconds_left)
    assert "starting" in start.text


def test_text_says_all_that_matters():
    text = HALF.text
    for part in ("500/1000 samples", "100 were stored already", "50 s left", "450 found", "8/255", "3 not found"):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_gets_one_line_that_is_rewritten():
    stream = io.StringIO()
    report = module._terminal(stream)
    report(HALF)
    assert stream.getvalue().startswith("\r")
    assert "\n" not in stream.getvalue()


def test_a_log_gets_the_last_line_at_once_and_few_others():
    stream = io.StringIO()
    report = module._log(stream, every=3600)
    report(HALF)
    assert not stream.getvalue()
    report(Progress("t", 9, 9, 0, 9, 0, 0, 0.5, 3.0, "l2"))
    assert stream.getvalue() == "t: 9/9 samples, 3 s in all, 9 found, median 0.5\n"
