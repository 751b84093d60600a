"""The embedded digits: counts known on paper, a split without randomness, ids that last."""

import numpy as np
import pytest
import torch
from sklearn import datasets

from thinice.data import load_samples
from thinice.errors import InputError

COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


@pytest.fixture(scope="module")
def whole():
    return load_samples("digits", split="all")


def test_all_of_them_as_scikit_learn_ships_them(whole):
    assert len(whole) == 1797
    assert whole.class_counts() == COUNTS
    assert whole.sample_ids.tolist() == list(range(1797))
    raw = datasets.load_digits()
    assert np.array_equal((whole.inputs[:, 0] * 16).numpy(), raw.images)
    assert np.array_equal(whole.labels.numpy(), raw.target)
    assert whole.inputs.dtype == torch.float32
    assert whole.labels.dtype == whole.sample_ids.dtype == torch.int64
    assert (whole.inputs.min(), whole.inputs.max()) == (0, 1)


def test_the_split_is_stratified_and_complete(whole):
    test, train = load_samples("digits"), load_samples("digits", split="train")
    assert test.class_counts() == tuple(-(-count // 2) for count in COUNTS)
    assert sum(test.class_counts()) == len(test) == 901
    assert sorted([*test.sample_ids.tolist(), *train.sample_ids.tolist()]) == list(range(1797))
    # the rule of the documentation, written again: the first, third, fifth … of each class, in order
    labels = whole.labels.tolist()
    testing = [[i for i, label in enumerate(labels) if label == k][::2] for k in range(10)]
    assert test.sample_ids.tolist() == sorted(i for ids in testing for i in ids)
    assert torch.equal(test.inputs, whole.inputs[test.sample_ids])


def test_the_same_fingerprint_on_every_machine():
    assert load_samples("digits").fingerprint == "1e7498838fcbbe957de50813c1f78b06"


def test_limit_and_ids_keep_ids(whole):
    few = load_samples("digits", limit=7)
    assert few.fingerprint == whole[few.sample_ids].fingerprint
    assert len(load_samples("digits", limit=10_000)) == 901
    ids = [1796, 3, 500]
    some = load_samples("digits", split="all", sample_ids=ids)
    assert some.sample_ids.tolist() == ids
    assert torch.equal(some.inputs, whole.inputs[ids])
    assert np.array_equal(some.digests, whole.digests[ids])
    two = load_samples("digits", split="all", sample_ids=np.array(ids), limit=2).sample_ids.tolist()
    assert two in (ids[:2], ids[1:], ids[::2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_ids": [0, 1797], "split": "all"}, r"ids 0 to 1796\), got 1797$"),
        ({"sample_ids": [5, 5]}, "distinct, got 5"),
        ({"sample_ids": [-1]}, "not be negative, got -1"),
        ({"sample_ids": [0.5]}, "integers"),
        ({"sample_ids": []}, "not be empty"),
        ({"sample_ids": [0], "split": "train"}, "lie in split 'train' of digits"),
        ({"split": "tset"}, "test, train, all, got 'tset'"),
        ({"limit": 0}, "`limit` must be a positive integer, got 0"),
        ({"limit": 2.5}, "got 2.5"),
        ({"limit": True}, "got True"),
        ({"image_size": 224}, "`image_size` is for image files; digits has 8x8 pixels, got 224"),
        ({"image_size": 0}, "positive number of pixels, got 0"),
    ],
)
def test_refuses_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as refusal:
        load_samples("digits", **arguments)
    assert "\n" not in str(refusal.value)


def test_the_own_image_size_is_no_news():
    assert len(load_samples("digits", image_size=8, limit=3)) == 3
