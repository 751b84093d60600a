"""Samples: what is refused, what is kept by a selection, and what the fingerprint sees."""

import pickle
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinice.data import as_samples
from thinice.data.samples import Pixels, as_index
from thinice.errors import InputError

COUNT = 12


def some_samples(dtype=torch.uint8):
    pixels = torch.randint(0, 256, (COUNT, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    inputs = pixels if dtype is torch.uint8 else pixels.to(torch.float32) / 255
    return as_samples(inputs, torch.arange(COUNT) % 4, sample_ids=torch.arange(COUNT) * 10 + 7)


def test_uint8_becomes_the_nearest_float_of_every_level():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    samples = as_samples(levels, [0])
    exact = np.array([np.float32(float(Fraction(level, 255))) for level in range(256)], np.float32)
    assert isinstance(samples.inputs, Pixels)
    assert samples.inputs.shape == (1, 1, 16, 16)
    assert np.array_equal(samples.inputs[:].numpy().ravel(), exact)
    assert samples.inputs[:].dtype == torch.float32


def test_uint8_stays_uint8_in_memory():
    pixels = torch.zeros(100, 3, 32, 32, dtype=torch.uint8)
    assert as_samples(pixels, torch.zeros(100, dtype=torch.int64)).inputs.stored.data_ptr() == pixels.data_ptr()


def test_uint8_and_float_copies_are_the_same_data():
    ours, theirs = some_samples(), some_samples(torch.float32)
    assert ours.fingerprint == theirs.fingerprint
    assert np.array_equal(ours.digests, theirs.digests)
    assert torch.equal(ours.inputs[:], theirs.inputs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "index",
    [
        slice(2, 9, 3),
        slice(None, None, -1),
        slice(-3, None),
        torch.tensor([5, 0, 11]),
        np.array([3, -1]),
        [4, 2],
        torch.arange(COUNT) % 4 == 1,
        np.arange(COUNT) > 9,
    ],
)
def test_a_selection_keeps_ids_digests_and_pixels(dtype, index):
    whole = some_samples(dtype)
    part = whole[index]
    places = np.arange(COUNT)[np.asarray(index) if not isinstance(index, slice) else index]
    assert part.sample_ids.tolist() == (places * 10 + 7).tolist()
    assert part.labels.tolist() == (places % 4).tolist()
    assert np.array_equal(part.digests, whole.digests[places])
    assert torch.equal(part.inputs[:], whole.inputs[:][places.copy()])
    assert (part.classes, part.name, part.split) == (whole.classes, whole.name, whole.split)
    again = as_samples(part.inputs[:], part.labels, sample_ids=part.sample_ids, classes=whole.classes)
    assert part.fingerprint == again.fingerprint


@given(st.lists(st.integers(0, COUNT - 1), unique=True, min_size=1), st.data())
def test_a_selection_of_a_selection_is_a_selection(first, data):
    second = data.draw(st.lists(st.integers(0, len(first) - 1), unique=True, min_size=1))
    whole = some_samples()
    assert whole[first][second].fingerprint == whole[[first[place] for place in second]].fingerprint


def test_inputs_alone_may_be_repeated():
    pixels = some_samples().inputs
    assert torch.equal(pixels[[3, 3]], pixels[3:4].expand(2, -1, -1, -1))


def test_sources_follow_a_selection():
    whole = some_samples()
    named = type(whole)(
        *(getattr(whole, field) for field in whole.__slots__[:8]),
        sources=tuple("abcdefghijkl"),
        notes=("note",),
    )
    assert named[[3, 0]].sources == ("d", "a")
    assert named[10:].sources == ("k", "l")
    assert named[1:2].notes == ("note",)


def test_an_empty_selection_is_empty():
    empty = some_samples()[[]]
    assert len(empty) == 0
    assert empty.inputs[:].shape == (0, 3, 6, 5)
    assert "0 x 3x6x5" in repr(empty)


def test_the_fingerprint_sees_every_part():
    inputs, labels = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    changed = inputs.clone()
    changed[3, 0, 3, 3] = torch.nextafter(changed[3, 0, 3, 3], torch.tensor(0.0))
    variants = [
        as_samples(inputs, labels),
        as_samples(changed, labels),
        as_samples(inputs.flip(0), labels),
        as_samples(inputs.reshape(4, 1, 2, 8), labels),
        as_samples(inputs, labels.flip(0) * 2),
        as_samples(inputs, labels, sample_ids=[0, 1, 2, 4]),
        as_samples(inputs[:3], labels[:3]),
    ]
    assert len({samples.fingerprint for samples in variants}) == len(variants)
    assert as_samples(inputs.clone(), labels.clone(), name="other").fingerprint == variants[0].fingerprint


def test_a_digest_depends_on_its_own_image_alone():
    whole = some_samples()
    assert np.array_equal(as_samples(whole.inputs[[5]], [9]).digests, whole.digests[[5]])
    assert whole.digests.dtype == np.uint64
    assert len(set(whole.digests.tolist())) == COUNT
    layout = whole.inputs[:].to(memory_format=torch.channels_last)
    assert as_samples(layout, whole.labels, sample_ids=whole.sample_ids).fingerprint == whole.fingerprint


def test_rounding_errors_are_clamped_and_no_more():
    inputs = torch.tensor([-1e-6, 0.5, 1.0, 1 + 9e-7]).reshape(1, 1, 2, 2)
    assert as_samples(inputs, [0]).inputs.flatten().tolist() == [0, 0.5, 1, 1]
    assert inputs.min() < 0, "the caller's tensor is left alone"
    for value in (-2e-6, 1 + 2e-6):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\], got"):
            as_samples(torch.full((1, 1, 2, 2), value, dtype=torch.float64), [0])


def test_takes_arrays_of_any_kind():
    inputs = np.linspace(0, 1, 18, dtype=">f8").reshape(2, 1, 3, 3)
    inputs.flags.writeable = False
    samples = as_samples(inputs[:, :, ::-1], np.array([1, 0], np.uint16), sample_ids=np.array([4, 2], np.int32))
    assert samples.inputs.dtype == torch.float32
    assert samples.inputs[0, 0, 0].tolist() == pytest.approx(inputs[0, 0, 2].tolist())
    assert samples.labels.dtype == samples.sample_ids.dtype == torch.int64
    assert samples.classes == ("0", "1")
    assert as_samples(torch.rand(2, 1, 3, 3, requires_grad=True), [0, 0]).inputs.requires_grad is False


GOOD = torch.rand(3, 1, 4, 4)
BRIGHTEST = GOOD.eq(GOOD.max())


@pytest.mark.parametrize(
    ("inputs", "labels", "more", "message"),
    [
        (GOOD[:0], [], {}, "`inputs` must not be empty"),
        (GOOD[0], [0], {}, r"shape \(N, C, H, W\), got \(1, 4, 4\)"),
        (GOOD.flatten(1), [0, 0, 0], {}, r"got \(3, 16\)"),
        (torch.rand(3, 32, 32, 3), [0, 0, 0], {}, r"looks channels-last: use inputs.permute\(0, 3, 1, 2\)"),
        (GOOD * 255, [0, 0, 0], {}, r"must lie in \[0, 1\], got \[.*\]: divide by 255$"),
        ((GOOD - 0.5) / 0.2, [0, 0, 0], {}, "undo the normalisation"),
        (GOOD.masked_fill(BRIGHTEST, torch.nan), [0, 0, 0], {}, "got 1 NaN values"),
        (GOOD.masked_fill(BRIGHTEST, torch.inf), [0, 0, 0], {}, r"must lie in \[0, 1\], got \[.*, inf\]"),
        ((GOOD * 255).long(), [0, 0, 0], {}, "floats in .* or uint8 .*, got torch.int64"),
        ((GOOD > 0.5).to(torch.uint8), [0, 0, 0], {}, "uint8 with values 0 and 1 alone"),
        ([["a"]], [0], {}, "`inputs` must be an array of numbers, got <U1"),
        ([[1.0], [1.0, 2.0]], [0], {}, "`inputs` must be an array of numbers"),
        (np.array([{}]), [0], {}, "must be an array of numbers, got object"),
        (GOOD, [0.0, 1.0, 2.0], {}, "`labels` must be integers, got torch.float64"),
        (GOOD, [True, False, True], {}, "`labels` must be integers, got torch.bool"),
        (GOOD, [0, 1], {}, r"`labels` must have the shape \(3,\), one for each input, got \(2,\)"),
        (GOOD, np.eye(3, dtype=int), {}, r"`labels` must have the shape \(3,\), .* got \(3, 3\)"),
        (GOOD, [0, 1, -1], {}, "`labels` must not be negative, got -1"),
        (GOOD, [0, 1, 10**15], {}, "`labels` must be below 1,000,000, got 1000000000000000"),
        (GOOD, [0, 1, 2], {"classes": ["a", "b"]}, "`labels` must be below 2, .* got 2"),
        (GOOD, [0, 1, 1], {"classes": ["a", "a"]}, "`classes` must be distinct names"),
        (GOOD, [0, 1, 1], {"classes": "ab"}, "`classes` must be distinct names"),
        (GOOD, [0, 1, 1], {"classes": ["a", "caf\udce9"]}, r"`classes` must be names in UTF-8, got 'caf\\udce9'"),
        (GOOD, [0, 1, 1], {"sample_ids": [0, 1]}, r"`sample_ids` must have the shape \(3,\)"),
        (GOOD, [0, 1, 1], {"sample_ids": [0, 1, 1]}, "`sample_ids` must be distinct, got 1 more than once"),
        (GOOD, [0, 1, 1], {"sample_ids": [0, 1, -4]}, "`sample_ids` must not be negative, got -4"),
        (GOOD, [0, 1, 1], {"sample_ids": [0.0, 1.0, 2.0]}, "`sample_ids` must be integers"),
    ],
)
def test_refuses_in_one_line(inputs, labels, more, message):
    with pytest.raises(InputError, match=message) as refusal:
        as_samples(inputs, labels, **more)
    assert "\n" not in str(refusal.value)


WORDS = ["dog", "cat", "dog"]
LABELS = {
    "a tensor of floats": (torch.tensor([1.0, 0.0, 1.0]), "labels.long()"),
    "an array of floats": (np.array([1.0, 0.0, 1.0]), "labels.astype(int)"),
    "a list of floats": ([1.0, 0.0, 1.0], "list(map(int, labels))"),
    "truth values": (np.array([True, False, True]), "labels.astype(int)"),
    "a column": (torch.tensor([[1], [0], [1]]), "labels.reshape(-1)"),
    "a list in a column": ([[1], [0], [1]], "numpy.ravel(labels)"),
    "one-hot integers": (np.eye(2, dtype=int)[[1, 0, 1]], "labels.argmax(1)"),
    "one-hot floats": (torch.eye(2)[[1, 0, 1]], "labels.argmax(1)"),
    "a one-hot list": ([[0, 1], [1, 0], [0, 1]], "numpy.argmax(labels, 1)"),
    "shares of classes": (np.array([[0.1, 0.9], [0.7, 0.3], [0.5 - 1e-5, 0.5]]), "labels.argmax(1)"),
    "signs": (torch.tensor([1, -1, 1]), "(labels + 1) // 2"),
}


@pytest.mark.parametrize(("labels", "way_out"), LABELS.values(), ids=LABELS)
def test_the_message_on_labels_of_another_kind_is_a_way_out_that_works(labels, way_out):
    with pytest.raises(InputError, match=r"^`labels` must") as refusal:
        as_samples(GOOD, labels)
    assert str(refusal.value).endswith(f" {way_out}")
    mended = eval(way_out, {"labels": labels, "numpy": np})
    assert as_samples(GOOD, mended).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("labels", [WORDS, tuple(WORDS), np.array(WORDS)], ids=["list", "tuple", "array"])
def test_labels_that_are_names_become_numbers_and_classes(labels):
    with pytest.raises(InputError, match="`labels` must be integers, got names: number them with ") as refusal:
        as_samples(GOOD, labels)
    seen = {"labels": labels, "numpy": np}
    exec(str(refusal.value).partition("number them with ")[2], seen)
    samples = as_samples(GOOD, seen["labels"], classes=list(map(str, seen["classes"])))
    assert [samples.classes[label] for label in samples.labels] == WORDS


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        ([1, 2, 3], {"classes": ["a", "b", "c"]}, "got 3: they count from 1, give labels - 1$"),
        ([1, 2, 4], {"classes": ["a", "b", "c"]}, "got 4$"),
        ([0, 2, 3], {"classes": ["a", "b", "c"]}, "got 3$"),
        ([0, 1, -1], {}, r"got -1: .*; leave out samples without a label, inputs\[labels >= 0\]$"),
        (torch.tensor([0.0, 0.25, 1.0]), {}, "got torch.float32 such as 0.25: classes are whole numbers$"),
        (np.array([0.0, np.nan, 1.0]), {}, "got torch.float64, 1 of them NaN or infinite: leave these samples out$"),
        (np.ones((3, 2)), {}, r"got \(3, 2\)$"),
        ([["a"], ["b", "c"], ["d"]], {}, "`labels` must be an array of numbers"),
        (None, {}, "`labels` must be an array of numbers, got object"),
    ],
)
def test_where_no_line_mends_labels_the_message_promises_none(labels, more, message):
    with pytest.raises(InputError, match=message):
        as_samples(GOOD, labels, **more)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, r"use \[i : i \+ 1\]"),
        (torch.tensor(3), r"use \[i : i \+ 1\]"),
        ([[0, 1]], "one-dimensional"),
        ([0, COUNT], "between 0 and 11, got 0 to 12"),
        ([-COUNT - 1], "between 0 and 11"),
        ([0.5], "integers or booleans"),
        ([True, False], "a mask must have one value for each of the 12 samples, got 2"),
        ([1, 1], "`sample_ids` must be distinct, got 17 more than once"),
        ("a", "must be an array of numbers"),
        ([0, -COUNT], "`sample_ids` must be distinct, got 7 more than once"),
    ],
)
def test_refuses_an_index_in_one_line(index, message):
    with pytest.raises(InputError, match=message) as refusal:
        some_samples()[index]
    assert "\n" not in str(refusal.value)


def test_an_index_is_a_slice_or_positions():
    kept = slice(1, 3)
    assert as_index(kept, 5) is kept
    assert as_index([-1, 0], 5).tolist() == [4, 0]


def test_shows_itself():
    samples = as_samples(
        torch.rand(3, 1, 4, 4),
        [0, 0, 1],
        classes=["<b>cat", *(f"c{k}" for k in range(1, 30))],
        name="<i>pets",
    )
    assert repr(samples) == (
        f"<Samples <i>pets/all: 3 x 1x4x4, 30 classes (0 to 2 of each), fingerprint {samples.fingerprint[:12]}>"
    )
    page = samples._repr_html_()
    assert "<i>" not in page
    assert "&lt;b&gt;cat" in page
    assert samples.fingerprint in page
    assert "and 10 more classes" in page
    assert repr(some_samples().inputs) == "<Pixels: 12 x 3x6x5 uint8>"


def test_travels_to_other_processes():
    samples = some_samples()
    there = pickle.loads(pickle.dumps(samples))
    assert there.fingerprint == samples.fingerprint
    assert torch.equal(there[2:5].inputs[:], samples[2:5].inputs[:])


def test_ten_thousand_images_are_digested_in_well_under_a_second():
    pixels = torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8)
    labels = torch.zeros(10_000, dtype=torch.int64)
    before = time.process_time()
    as_samples(pixels, labels)
    assert time.process_time() - before < 1.5  # 0.2 s seen; room for a slow, shared machine
