"""What `limit` takes: as many of each class, a part of what a larger limit takes, and the same on every machine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinice.data import as_samples, load_samples
from thinice.data.subset import draw
from thinice.errors import InputError


@st.composite
def data_sets(make):
    labels = make(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    ids = make(st.lists(st.integers(0, 2**40), min_size=len(labels), max_size=len(labels), unique=True))
    return torch.tensor(sorted(ids)), torch.tensor(labels)


@settings(deadline=None)
@given(data_sets(), st.integers(1, 70), st.data())
def test_classes_share_alike_and_smaller_limits_are_parts_of_larger_ones(data_set, limit, chance):
    ids, labels = data_set
    drawn = draw(ids, labels, limit)
    assert len(drawn) == min(limit, len(ids))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    there, taken = torch.bincount(labels, minlength=6), torch.bincount(labels[drawn], minlength=6)
    short = taken < there
    if short.any():  # who goes without some has as many as any other, or one less
        assert taken[short].min() >= taken.max() - 1
    assert set(drawn.tolist()) <= set(draw(ids, labels, limit + 1).tolist())

    order = torch.tensor(chance.draw(st.permutations(range(len(ids)))))
    shuffled = draw(ids[order], labels[order], limit)
    assert set(ids[order][shuffled].tolist()) == set(ids[drawn].tolist())


def test_the_same_samples_on_every_machine():
    """As dealt by hand in the next test; whoever changes them makes every study measure anew."""
    assert load_samples("digits", limit=10).sample_ids.tolist() == [
        254,
        410,
        503,
        821,
        1041,
        1352,
        1426,
        1663,
        1720,
        1728,
    ]


def splitmix64(number):
    mix = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    mix = (mix ^ mix >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mix = (mix ^ mix >> 27) * 0x94D049BB133111EB % 2**64
    return mix ^ mix >> 31


def test_agrees_with_dealing_by_hand():
    """Each class a pile in the order of the numbers; one of each pile a round, the last round in another order."""
    whole = load_samples("digits")
    piles = {}
    for sample_id, label in sorted(
        zip(whole.sample_ids.tolist(), whole.labels.tolist(), strict=True), key=lambda pair: splitmix64(pair[0])
    ):
        piles.setdefault(label, []).append(sample_id)
    rounds = [[pile[turn] for pile in piles.values()] for turn in range(9)]
    dealt = [one for turn in rounds for one in sorted(turn, key=lambda one: splitmix64(splitmix64(one)))]
    for limit in (3, 10, 47, 90):
        assert load_samples("digits", limit=limit).sample_ids.tolist() == sorted(dealt[:limit])


def test_small_classes_give_all_they_have():
    labels = [0] * 50 + [1] * 3 + [2] * 50
    assert as_samples(torch.zeros(103, 1, 2, 2), labels, limit=43).class_counts() == (20, 3, 20)
    assert as_samples(torch.zeros(103, 1, 2, 2), labels, limit=104).class_counts() == (50, 3, 50)


def test_where_classes_go_without_chance_decides_not_their_size_or_name():
    """100 classes of 5 and 100 of 50, one place for every second class: 50 of each kind, within 4 standard errors."""
    labels = torch.cat([torch.arange(100).repeat_interleave(5), torch.arange(100, 200).repeat_interleave(50)])
    small = []
    for shift in range(40):
        taken = labels[draw(torch.arange(len(labels)) + 10_000 * shift, labels, 100)]
        assert len(taken.unique()) == 100
        small.append(int((taken < 100).sum()))
    assert abs(np.mean(small) - 50) < 4 * 5 / np.sqrt(2) / np.sqrt(40)


def test_a_limit_says_what_it_took():
    assert load_samples("digits", limit=100).notes == (
        "limit: 100 of 901 samples, 10 of each class, the same ones every time",
    )
    assert load_samples("digits", limit=15).notes[0].startswith("limit: 15 of 901 samples, 1 to 2 of each class, ")
    assert (
        load_samples("digits", limit=3)
        .notes[0]
        .startswith("limit: 3 of 901 samples, 1 of each of 3 classes (there are 10), ")
    )
    assert load_samples("digits", limit=901).notes == load_samples("digits").notes == ()
    assert as_samples(torch.zeros(4, 1, 2, 2), [0, 0, 1, 1], limit=2).notes[0].startswith("limit: 2 of 4 samples, 1 of")


def test_own_tensors_are_drawn_alike():
    test = load_samples("digits")
    own = as_samples(test.inputs, test.labels, sample_ids=test.sample_ids, limit=50)
    assert own.fingerprint == load_samples("digits", limit=50).fingerprint
    with pytest.raises(InputError, match="`limit` must be a positive integer, got 0"):
        as_samples(test.inputs, test.labels, limit=0)


def test_of_listed_ids_some_are_taken_in_the_order_of_the_list():
    ids = load_samples("digits").sample_ids.flip(0)[:300].tolist()
    few = load_samples("digits", sample_ids=ids, limit=20)
    assert few.class_counts() == (2,) * 10
    assert few.sample_ids.tolist() == sorted(few.sample_ids.tolist(), reverse=True)
    assert set(few.sample_ids.tolist()) <= set(ids)
