"""The pruned network's own distances, on networks whose answers are counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import thinice
from tests.truth import LABELS, Threshold, grey
from thinice.analysis import distances as module
from thinice.analysis import session as session_module
from thinice.analysis.session import MeasurementSession
from thinice.attacks import make_attack
from thinice.cli.compare import table
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import as_classifier
from thinice.results import BOTH
from thinice.types import CorrectionOutcome, FoundBy, Outcome, Transition

# thresholds: dense 0.5, pruned 0.6; number 6 is wrong under both, 3 and 4 under the pruned one
DENSE = [0.4, 0.3, 0.07, 0.05, 0.08, 0.2, 0.0, 0.4]
PRUNED = [0.5, 0.4, 0.17, 0.0, 0.0, 0.1, 0.0, 0.3]


@pytest.fixture(scope="module")
def samples():
    return grey()


@pytest.fixture(scope="module")
def networks():
    return as_classifier(Threshold(0.5), name="dense"), as_classifier(Threshold(0.6), name="pruned")


def both(networks, samples, **options):
    return thinice.compare(*networks, samples, distances="both", progress=False, **options)


@pytest.fixture(scope="module")
def result(networks, samples):
    """What tests that only look share."""
    return both(networks, samples)


@pytest.fixture(scope="module")
def alone(networks, samples):
    """The same without the pruned network's distances."""
    return thinice.compare(*networks, samples, progress=False)


@pytest.mark.slow
def test_each_network_has_its_own_distances(result):
    np.testing.assert_allclose(result.epsilon, DENSE, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(result.pruned_epsilon, PRUNED, rtol=2e-3, atol=1e-6)
    assert (result.pruned_epsilon >= np.array(PRUNED, np.float32) - 1e-6).all()
    # the boundary moved by 0.1 away from three samples, and towards four, of which it passed two: these lie behind it
    np.testing.assert_allclose(result.pruned_distances.signed[:6], [0.5, 0.4, 0.17, -0.05, -0.02, 0.1], rtol=2e-3)
    assert result.boundary_shift == pytest.approx(-0.1, rel=0.02)
    assert (result.paired.n, result.paired.farther, result.paired.nearer) == (7, 3, 4)
    # the survivors alone, 0, 1, 2, 5, 7, say the opposite
    assert result.boundary_shift_kept == pytest.approx(0.1, rel=0.02)
    found_by = result.pruned_distances.found_by
    assert found_by.tolist() == [1, 1, 1, 0, 0, 1, 0, 1]


def test_the_statistics_stay_those_of_the_dense_network(alone, result):
    assert alone.separation == result.separation
    assert alone.counts == result.counts
    np.testing.assert_array_equal(alone.epsilon, result.epsilon)
    assert alone.pruned_epsilon is None
    assert alone.boundary_shift is None
    assert "pruned_epsilon" not in alone.frame()


def test_swapped_networks_swap_their_distances(networks, samples, result):
    forth, back = result, both(networks[::-1], samples)
    right = (forth.transitions == Transition.KEPT).nonzero()
    np.testing.assert_allclose(forth.pruned_epsilon[right], back.epsilon[right], rtol=1e-5)
    assert back.boundary_shift_kept == pytest.approx(-forth.boundary_shift_kept, rel=1e-4)


@pytest.mark.slow
def test_measured_alone_the_pruned_network_is_never_nearer(networks, samples, tmp_path):
    result = both(networks, samples, store=tmp_path / "thinice.duckdb")
    alone = thinice.measure(networks[1], samples, progress=False).epsilon.numpy()
    assert (result.pruned_epsilon <= alone * (1 + 1e-6)).all()
    np.testing.assert_allclose(result.pruned_epsilon, alone, rtol=1e-6)  # nothing was carried over here
    stored = thinice.open_store(tmp_path / "thinice.duckdb").sql(
        "select epsilon from epsilons join measurements using (measurement_id) join checkpoints using (checkpoint_id) "
        "where name = 'pruned' order by sample_id"
    )
    np.testing.assert_array_equal(stored["epsilon"], result.pruned_epsilon)


@pytest.fixture
def masked():
    """A pruned network without gradients: its threshold is 0.45, and one step of an attack without fall-back fails."""
    return as_classifier(Threshold(0.5), name="dense"), as_classifier(Threshold(0.45, hidden=True), name="masked")


ONE_STEP = {"attack": make_attack("fmn", norm="linf", steps=1, fallback=False)}


@pytest.mark.filterwarnings("ignore:masked. no gradient")
def test_a_dense_adversarial_that_fools_the_pruned_network_is_taken_and_told(masked, samples, tmp_path):
    result = both(masked, samples, store=tmp_path / "thinice.duckdb", **ONE_STEP)
    taken = result.pruned_distances.found_by == FoundBy.DENSE
    # from the dark side, all that crosses 0.5 has crossed 0.45; from the light side, 0.5 is not far enough
    assert taken.tolist() == [True, True, True, False, False, False, False, False]
    np.testing.assert_array_equal(result.pruned_epsilon[taken], result.epsilon[taken])
    assert (result.pruned_epsilon[:3] >= np.array([0.35, 0.25, 0.02]) - 1e-6).all()
    light = result.pruned_distances.outcomes[[3, 4, 5, 7]]
    assert set(light.tolist()) <= {Outcome.FOUND, Outcome.NOT_FOUND}
    assert dict(result.table())["taken from dense"] == "3"
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    rows = store.sql("select pruned_epsilon, pruned_outcome, pruned_found_by from transitions order by sample_id")
    assert (rows["pruned_found_by"] == "dense").tolist() == taken.tolist()
    assert (rows["pruned_outcome"][:3] == "found").all()
    own = store.sql(
        "select epsilon from epsilons join measurements using (measurement_id) join checkpoints using (checkpoint_id) "
        "where name = 'masked' order by sample_id"
    )["epsilon"]
    assert not (own[:3] <= result.epsilon[:3]).any()  # what is measured on the pruned network alone stays as it is


@pytest.mark.filterwarnings("ignore:masked. no gradient")
def test_the_adversarials_that_were_taken_fool_the_pruned_network(masked, samples, tmp_path):
    result = both(masked, samples, store=tmp_path / "thinice.duckdb", **ONE_STEP)
    kept = thinice.open_store(tmp_path / "thinice.duckdb").sql(
        "select sample_id, adversarial from adversarials join comparisons using (measurement_id) order by sample_id"
    )
    images = dict(zip(kept["sample_id"], kept["adversarial"], strict=True))
    for k in np.flatnonzero(result.pruned_distances.found_by == FoundBy.DENSE):
        image = torch.from_numpy(np.frombuffer(images[k], "<f4").copy()).view(1, 1, 2, 2)
        assert masked[1](image).argmax().item() != LABELS[k]


@pytest.mark.filterwarnings("ignore:masked. no gradient")
def test_of_large_images_none_is_carried_over(masked, samples, monkeypatch):
    monkeypatch.setattr(session_module, "ADVERSARIAL_VALUES", 3)
    result = both(masked, samples, **ONE_STEP)
    assert not (result.pruned_distances.found_by == FoundBy.DENSE).any()


@pytest.mark.slow
def test_everything_is_kept_and_read_again(networks, samples, tmp_path):
    seen = []
    first = both(networks, samples, store=tmp_path / "thinice.duckdb")
    again = thinice.compare(
        *networks, samples, distances="both", store=tmp_path / "thinice.duckdb", progress=seen.append
    )
    assert not seen
    np.testing.assert_array_equal(first.pruned_epsilon, again.pruned_epsilon)
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    rows = store.sql("select transition, pruned_epsilon, pruned_outcome from transitions order by sample_id")
    np.testing.assert_array_equal(rows["pruned_epsilon"], first.pruned_epsilon)
    assert rows["pruned_outcome"].tolist() == [Outcome(code).text for code in first.pruned_distances.outcomes]
    transfers = store.sql("select sample_id, prediction, run_id from transfers order by sample_id")
    assert transfers["sample_id"].tolist() == [0, 1, 2, 3, 4, 5, 7]  # 6 has no adversarial
    assert set(transfers["run_id"]) == {1}


@pytest.mark.slow
def test_the_dense_distances_measured_before_are_used(networks, samples, tmp_path):
    thinice.compare(*networks, samples, store=tmp_path / "thinice.duckdb", progress=False)
    rows = thinice.open_store(tmp_path / "thinice.duckdb").sql("from transitions")
    assert rows["pruned_epsilon"].isna().all()
    assert rows["pruned_outcome"].isna().all()
    seen = []
    result = thinice.compare(
        *networks, samples, distances="both", store=tmp_path / "thinice.duckdb", progress=seen.append
    )
    assert {moment.title.split(",")[0] for moment in seen} == {"pruned"}
    np.testing.assert_allclose(result.pruned_epsilon, PRUNED, rtol=2e-3, atol=1e-6)


@pytest.mark.slow
def test_stopped_in_the_middle_it_goes_on_to_the_same_end(networks, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRANSFERRED", 3)
    undisturbed = both(networks, samples)
    forward, calls = module.forward, []

    def stopping(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:  # one part of the adversarials, and then
            raise KeyboardInterrupt
        return forward(*arguments, **options)

    monkeypatch.setattr(module, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        both(networks, samples, store=tmp_path / "thinice.duckdb")
    monkeypatch.setattr(module, "forward", forward)
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    assert store.sql("select count(*) as n from transfers")["n"].item() == 3
    result = both(networks, samples, store=store)
    np.testing.assert_array_equal(result.pruned_epsilon, undisturbed.pruned_epsilon)
    assert store.runs()["outcome"].tolist() == ["interrupted", "finished"]


def test_one_row_a_sample_and_one_a_comparison(result, alone):
    frame = result.frame()
    np.testing.assert_array_equal(frame["pruned_epsilon"], result.pruned_epsilon)
    assert frame["pruned_outcome"].tolist()[3:5] == ["misclassified"] * 2
    assert frame["pruned_found_by"].isna().tolist() == [False, False, False, True, True, False, True, False]
    row = result.to_dict()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["boundary_shift"] == pytest.approx(-0.1, rel=0.02)
    assert row["boundary_shift_kept"] == pytest.approx(0.1, rel=0.02)
    assert row["pruned_median_kept"] == pytest.approx(0.3, rel=0.01)
    assert row["pruned_median_lost"] == pytest.approx(-0.035, rel=0.01)
    assert row["paired_log10_p"] == result.paired.log10_p
    assert -0.11 < row["paired_shift"] < 0.11
    assert (row["paired_low"], row["paired_high"]) == pytest.approx((-0.1, 0.1), rel=0.01)
    assert (row["pruned_not_found"], row["pruned_not_corrected"], row["pruned_from_dense"]) == (0, 0, 0)
    assert {alone.to_dict()[name] for name in BOTH} == {None}
    assert set(alone.to_dict()) == set(row)


def test_people_read_it_in_the_table(result, alone):
    shown = table([result])
    assert "shift, pruned - dense" in shown
    assert "25.5/255" in shown  # 0.1
    assert "shift, pruned - dense" not in table([alone])


def test_what_the_fall_back_did_is_told(samples):
    dense = as_classifier(Threshold(0.5, hidden=True), name="dense")
    attack = make_attack("fmn", norm="linf", steps=1)
    with pytest.warns(DoubtfulWarning, match="dense: no gradient reaches the pixels"):
        result = thinice.compare(dense, dense, samples, attack=attack, progress=False)
    rescued = int((result.found_by > FoundBy.SEARCH).sum())
    assert rescued > 0
    assert f"dense: found by the fall-back, perhaps too far: starts {rescued}" in table([result])
    frame = result.frame()
    assert frame["found_by"].isna().sum() == 1  # number 6 is misclassified
    assert (frame["failure_reason"].dropna() == "zero_gradient").all()
    truth, theirs = np.array(DENSE, np.float32), result.found_by > FoundBy.SEARCH
    assert (result.epsilon >= truth - 1e-6).all()
    np.testing.assert_allclose(result.epsilon[theirs], truth[theirs], rtol=0.05)


def test_a_network_of_one_answer_is_told(samples):
    class Constant(Threshold):
        def forward(self, inputs):
            return super().forward(torch.zeros_like(inputs))

    constant = as_classifier(Constant(0.5), name="constant")
    with pytest.warns(DoubtfulWarning, match="constant: its logits are the same for all samples"):
        result = thinice.compare(constant, constant, samples, progress=False)
    assert "constant: not found: zero_gradient 4" in table([result])


def test_a_median_among_those_not_found_is_no_number(networks, samples):
    result = both(networks, samples)
    own = result.pruned_distances
    own.epsilon[[0, 1, 2, 5]] = np.nan
    assert result.boundary_shift is None  # inf four times, -0.1 three times
    own.epsilon[[1, 2, 5]] = 0.4, 0.17, 0.1
    assert result.boundary_shift == pytest.approx(-0.1, rel=0.02)
    result.epsilon[7] = own.epsilon[7] = np.nan  # unknown on both sides: says nothing
    assert result.boundary_shift == pytest.approx(0.0, abs=2e-3)  # inf, 0.1, 0.1, -0.1, -0.1, -0.1
    own.corrections[[3, 4]], own.correction_outcomes[[3, 4]] = np.nan, CorrectionOutcome.NOT_CORRECTED
    assert result.boundary_shift == pytest.approx(0.0, abs=2e-3)  # two of them farther behind than all others
    own.epsilon[5] = np.nan
    result.epsilon[5] = 0.2
    assert result.boundary_shift == pytest.approx(0.1, rel=0.02)  # -inf, -inf, 0.1, 0.1, inf, inf


def test_an_unknown_word_is_refused(networks, samples):
    with pytest.raises(InputError, match="`distances` must be one of dense, both, got 'pruned'"):
        thinice.compare(*networks, samples, distances="pruned")


def test_transfers_of_strangers_are_refused(networks, samples, tmp_path):
    both(networks, samples, store=tmp_path / "thinice.duckdb")
    session = MeasurementSession(thinice.open_store(tmp_path / "thinice.duckdb"), samples, progress=False)
    with session.run(ONE_STEP["attack"], seed=0) as run:
        with pytest.raises(thinice.errors.StoreError, match="no comparison 9"):
            run.add_transfers(9, [1], predictions=[0])
        with pytest.raises(thinice.errors.StoreError, match="sample 99 is not in selection"):
            run.add_transfers(1, [99], predictions=[0])
