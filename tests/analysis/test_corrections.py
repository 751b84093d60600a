"""How far lost samples lie behind the boundary of the pruned network, where that is known from paper or a solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import thinice
from tests.truth import quadratic
from thinice.analysis import session as session_module
from thinice.analysis.distances import CorrectionTask
from thinice.attacks import concatenate, make_attack
from thinice.engines import LocalEngine
from thinice.models import as_classifier
from thinice.types import CorrectionOutcome

CLASSES, FEATURES, SAMPLES = 4, 20, 12


class Linear(nn.Module):
    """A linear network; with `never`, one that never gives a class."""

    def __init__(self, seed, never=None):
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)
        generator = torch.Generator().manual_seed(seed)
        self.layer.weight.data = torch.randn(CLASSES, FEATURES, generator=generator)
        self.layer.bias.data = -self.layer.weight.data.sum(1) / 2  # in the middle of the box all classes are near
        if never is not None:
            self.layer.weight.data[never], self.layer.bias.data[never] = 0, -1e3

    def forward(self, inputs):
        return self.layer(inputs.flatten(1))


@pytest.fixture(scope="module")
def dense():
    return as_classifier(Linear(0), name="dense")


@pytest.fixture(scope="module")
def samples(dense):
    inputs = 0.35 + 0.3 * torch.rand(SAMPLES, 1, 4, 5, generator=torch.Generator().manual_seed(1))
    return thinice.as_samples(inputs, dense(inputs).argmax(1), name="box")


@pytest.fixture(scope="module")
def pruned():
    return as_classifier(Linear(2), name="pruned")


def truth(network, inputs, label, norm):
    """Return the distance to the nearest point of the box that a linear network gives a label, in float64."""
    weight, bias = (value.detach().double().numpy() for value in network.network.layer.parameters())
    point = inputs.double().flatten().numpy()
    others = [k for k in range(CLASSES) if k != label]
    rows = np.array([weight[k] - weight[label] for k in others])
    limits = -(rows @ point + np.array([bias[k] - bias[label] for k in others]))
    if norm == "l2":
        return quadratic(list(zip(rows, limits, strict=True)), point)
    unit, ones = np.eye(len(point)), np.ones((len(point), 1))  # the last variable is the length
    sides = np.vstack([np.c_[unit, -ones], np.c_[-unit, -ones], np.c_[rows, np.zeros((len(rows), 1))]])
    bounds = [*((-value, 1 - value) for value in point), (0, None)]
    return linprog(np.r_[0 * point, 1], A_ub=sides, b_ub=np.r_[np.zeros(2 * len(point)), limits], bounds=bounds).fun


def corrected(network, samples, attack, batch_size):
    parts = sorted(
        LocalEngine(torch.device("cpu"), batch_size).run(CorrectionTask(network, samples, attack)),
        key=lambda p: p[0].start,
    )
    return concatenate([result for _, result in parts], like=samples.inputs[:0])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_input_of_the_right_class_of_a_linear_network(pruned, samples, norm):
    lost = samples[(pruned(samples.inputs).argmax(1) != samples.labels).nonzero().squeeze(1)]
    assert len(lost) >= 6
    assert len(set(lost.labels.tolist())) >= 3
    attack = make_attack(norm=norm)
    together, alone = (corrected(pruned, lost, attack, size) for size in (64, 1))
    exact = np.array([truth(pruned, *pair, norm) for pair in zip(lost.inputs, lost.labels.tolist(), strict=True)])
    assert (together.epsilon.numpy() >= exact * (1 - 1e-5)).all()
    assert (together.epsilon.numpy() <= exact * 1.04).all()  # in linf a corner between three classes costs 2.6 %
    assert (pruned(together.adversarials).argmax(1) == lost.labels).all()
    np.testing.assert_allclose(together.epsilon, alone.epsilon, rtol=1e-4)


@pytest.fixture(scope="module")
def store(dense, pruned, samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("corrections") / "thinice.duckdb"
    thinice.compare(dense, pruned, samples, distances="both", effort="quick", store=path, progress=False)
    return thinice.open_store(path)


def both(dense, pruned, samples, store, **options):
    options = {"effort": "quick", "progress": False} | options
    return thinice.compare(dense, pruned, samples, distances="both", store=store, **options)


def test_the_shift_counts_lost_samples_with_their_sign(dense, pruned, samples, store):
    result = both(dense, pruned, samples, store)
    own, lost = result.pruned_distances, result.transitions == "S1,0"
    assert (own.signed[lost] < 0).all()
    assert (own.signed[~lost] > 0).all()
    np.testing.assert_array_equal(own.correction_outcomes == CorrectionOutcome.CORRECTED, lost)
    assert result.boundary_shift == pytest.approx(np.median(own.signed - result.epsilon))
    frame = result.frame()
    np.testing.assert_array_equal(frame["correction"], own.corrections)
    assert set(frame["correction_outcome"][lost]) == {"corrected"}
    assert frame["correction_outcome"][~lost].isna().all()
    assert dict(result.table())["lost, not corrected"] == "0"


def test_the_store_has_them_beside_epsilons_that_stay_as_they_are(dense, pruned, samples, store):
    result = both(dense, pruned, samples, store)
    lost = result.transitions == "S1,0"
    rows = store.sql("from transitions order by sample_id")
    assert (rows["pruned_epsilon"][lost] == 0).all()
    assert (rows["pruned_outcome"][lost] == "misclassified").all()
    signed = store.sql("from signed_distances order by sample_id")
    np.testing.assert_array_equal(signed["pruned_distance"], result.pruned_distances.signed)
    assert (signed["pruned_outcome"] == np.where(lost, "corrected", "found")).all()


def test_asked_again_it_is_read(dense, pruned, samples, store):
    seen = []
    both(dense, pruned, samples, store, progress=seen.append)
    assert not seen


def test_other_selections_of_the_samples_take_them_over(dense, pruned, samples, store):
    both(dense, pruned, samples[:10], store, progress=pytest.fail)
    adopted = store.sql("select adopted, count(*) as n from corrections group by all order by all")
    lost = int((pruned(samples.inputs[:10]).argmax(1) != samples.labels[:10]).sum())
    assert adopted["n"].tolist()[1] == lost


@pytest.mark.slow
def test_stopped_among_the_lost_samples_it_goes_on_to_the_same_end(
    dense, pruned, samples, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(session_module, "SECONDS_A_SHARD", 0)

    def stop(moment):
        if "lost samples" in moment.title and moment.done:
            raise KeyboardInterrupt

    path = tmp_path / "thinice.duckdb"
    with pytest.raises(KeyboardInterrupt):
        both(dense, pruned, samples, path, progress=stop, batch_size=2)
    stopped = thinice.open_store(path)
    before = stopped.sql("select sample_id, run_id from corrections")
    assert 0 < len(before) < len(store.sql("from corrections where not adopted"))
    again = both(dense, pruned, samples, path)
    undisturbed = both(dense, pruned, samples, store)
    np.testing.assert_allclose(again.pruned_distances.corrections, undisturbed.pruned_distances.corrections, rtol=1e-4)
    runs = stopped.sql("select run_id, count(*) as n from corrections group by all order by all")
    assert runs["n"].tolist()[0] == len(before)


def test_a_class_that_the_network_never_gives_is_not_corrected(dense, samples):
    never = int(samples.labels.mode().values)
    network = as_classifier(Linear(0, never=never), name="never")
    attack = make_attack("fmn", norm="linf", steps=2, fallback=False)
    result = thinice.compare(dense, network, samples, distances="both", attack=attack, progress=False)
    lost = samples.labels.numpy() == never
    own = result.pruned_distances
    assert (own.correction_outcomes[lost] == CorrectionOutcome.NOT_CORRECTED).all()
    assert np.isneginf(own.signed[lost]).all()
    row = result.to_dict()
    assert row["pruned_not_corrected"] == lost.sum()
    assert row["pruned_median_lost"] is None
    assert result.paired.nearer >= lost.sum()


def test_strange_rows_are_refused(samples, store):
    session = session_module.MeasurementSession(store, samples, progress=False)
    columns = {"evaluations": [1.0], "converged": [True], "found_by": [1], "failure_reasons": [0]}
    with session.run(make_attack(), seed=0) as run:
        with pytest.raises(thinice.errors.StoreError, match="no measurement 99"):
            run.add_corrections(99, [1], corrections=[0.1], **columns)
        with pytest.raises(thinice.errors.StoreError, match="sample 99 is not in selection"):
            run.add_corrections(1, [99], corrections=[0.1], **columns)
        with pytest.raises(thinice.errors.StoreError):
            run.add_corrections(1, [0], corrections=[0.0], **columns)
