"""Studies made by hand: one for each pattern, and healthy ones that show none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thinice.checks.study_patterns import StudyRow, find_patterns, stored_patterns
from thinice.errors import InputError


def study(*robust: float, clean: list[float] | None = None, samples: int = 1000, series: str = "") -> list[StudyRow]:
    clean = [0.9] * len(robust) if clean is None else clean
    return [
        StudyRow(f"pruned-{k}", k / 10, samples, one, other, series)
        for k, (one, other) in enumerate(zip(clean, robust, strict=True))
    ]


def names(rows, **settings) -> list[str]:
    return [one.check for one in find_patterns(rows, **settings)]


@pytest.mark.parametrize(
    "rows",
    [
        study(0.5, 0.5, 0.49, 0.3, 0.02, clean=[0.9, 0.9, 0.88, 0.7, 0.1]),
        study(0.5, 0.52, 0.49, 0.51),
        study(0.5, 0.45, clean=[0.8, 0.801]),
        study(0.0, 0.0, 0.0),
        study(1.0, 1.0, 1.0, clean=[1.0] * 3),
        [],
    ],
    ids=["cliff", "sampling error", "too little", "nothing stands", "all stands", "empty"],
)
def test_a_healthy_study_shows_none(rows):
    assert names(rows) == []


def test_reported_numbers_that_were_not_reached():
    row = StudyRow("hydra-99", 0.99, 1000, 0.76, 0.25, reported=0.40)
    (one,) = find_patterns([row])
    assert (one.check, one.subjects) == ("below_reported", ("hydra-99",))
    assert "40.0% reported, 25.0% measured" in str(one)
    assert "weaker" in one.advice
    assert names([StudyRow("a", 0.99, 1000, 0.76, 0.40, reported=0.25)]) == ["above_reported"]
    assert names([StudyRow("a", 0.99, 1000, 0.76, 0.38, reported=0.40)]) == []


def test_the_reported_number_has_a_sampling_error_too():
    """Published on as many other samples of the same network: nominal 1 % alarms, 6.6 % where its error is ignored."""
    rng = np.random.default_rng(0)
    for n, reported_samples in ((1000, None), (1000, 10_000), (10_000, 1000)):
        measured = rng.binomial(n, 0.45, 2000) / n
        reported = rng.binomial(reported_samples or n, 0.45, 2000) / (reported_samples or n)
        rows = [
            StudyRow("a", 0.9, n, 0.8, one, reported=other, reported_samples=reported_samples)
            for one, other in zip(measured, reported, strict=True)
        ]
        assert 0.003 < sum(names([row]) != [] for row in rows) / 2000 < 0.018


class SeparationsStore:
    """A store that knows one comparison: an AUC whose interval reaches 0.5 at 99 %, not at 95 %."""

    def sql(self, text):
        row = {"pruned": "p", "dense": "d", "data": "x", "norm": "l2", "basis": "clean", "n_kept": 900, "n_lost": 40}
        return pd.DataFrame(
            [row | {"auc": 0.61, "auc_se": 0.046, "auc_df": 41.0, "auc_low": 0.515}] if "auc_se" in text else []
        )


def test_no_separation_is_asked_at_the_confidence_that_was_given():
    assert stored_patterns(SeparationsStore(), confidence=0.95) == ()
    (pattern,) = stored_patterns(SeparationsStore())
    assert pattern.check == "no_separation"
    assert "may be as low as 0.4" in pattern.seen


def test_few_samples_excuse_a_drop_that_many_do_not():
    assert names([StudyRow("a", 0.9, 30, 0.8, 0.3, reported=0.4)]) == []
    assert names([StudyRow("a", 0.9, 3000, 0.8, 0.3, reported=0.4)]) == ["below_reported"]


def test_clean_and_robust_trends_that_disagree():
    (one,) = find_patterns(study(0.3, 0.4, clean=[0.9, 0.8]))
    assert (one.check, one.subjects) == ("trends_disagree", ("pruned-0", "pruned-1"))
    assert "clean -10.0%, robust +10.0%" in one.seen
    assert names(study(0.3, 0.4, clean=[0.9, 0.8], samples=50)) == []
    assert names(study(0.4, 0.3, clean=[0.9, 0.8])) == []


def test_robust_accuracies_that_jump():
    (one,) = find_patterns(study(0.5, 0.3, 0.5, 0.3))
    assert one.check == "jumps_over_sparsity"
    assert "50.0%, 30.0%, 50.0%, 30.0%" in one.seen
    assert names(study(0.5, 0.3, 0.5, 0.3, samples=30)) == []


def test_series_are_looked_at_one_by_one_and_in_the_order_of_sparsity():
    rows = [*study(0.5, 0.4, 0.3, series="a"), *study(0.2, 0.15, 0.1, series="b")]
    assert names(reversed(rows)) == []
    assert names([StudyRow(row.network, row.sparsity, row.samples, row.clean, row.robust) for row in rows]) != []


def test_networks_of_one_sparsity_make_no_trend():
    natural, robust, other = StudyRow("a", 0.0, 1000, 0.95, 0.0), StudyRow("b", 0.0, 1000, 0.8, 0.5), study(0.3)[0]
    for rows in ([natural, robust], [natural, robust, other], [robust, natural, StudyRow("c", 0.9, 1000, 0.8, 0.4)]):
        assert "jumps_over_sparsity" not in names(rows)
    assert names([natural, robust, other]) == names([robust, other, natural]) == []


def test_no_separation():
    assert names([StudyRow("a", 0.9, 100, 0.8, 0.3, auc_low=0.48)]) == ["no_separation"]
    assert names([StudyRow("a", 0.9, 100, 0.8, 0.3, auc_low=0.52)]) == []


def test_sampling_alone_hardly_ever_jumps():
    """Of 500 studies whose true robust accuracy is the same at all sparsities."""
    random = np.random.default_rng(0)
    jumps = [names(study(*(random.binomial(200, 0.4, 6) / 200), samples=200)) for _ in range(500)]
    assert sum(map(len, jumps)) <= 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (StudyRow("a", 0.9, 100, 45.0, 0.3), "`clean` of 'a' must be a share"),
        (StudyRow("a", 0.9, 100, 0.5, 0.3, reported=30), "`reported` of 'a' must be a share"),
        (StudyRow("a", 0.9, 0, 0.5, 0.3), "`samples` of 'a' must be at least 1"),
    ],
)
def test_bad_rows_are_named(row, message):
    with pytest.raises(InputError, match=message):
        find_patterns([row])
