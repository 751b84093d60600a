"""What is written is read back, once, and asked for again it is read, not computed."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.conftest import FOUND, MISCLASSIFIED, NAN, NOT_FOUND
from thinice.errors import InputError, StoreError
from thinice.types import FailureReason, FoundBy


def test_the_same_network_selection_attack_and_measurement_have_one_row(store, bench):
    first, again = bench.measurement([1, 2]), bench.measurement([1, 2])
    assert first == again
    for table in ("checkpoints", "datasets", "attacks", "measurements"):
        assert store.sql(f"select count(*) as n from {table}")["n"].item() == 1
    assert store.sql("select count(*) as n from samples")["n"].item() == 2


def test_an_attack_is_its_settings_in_any_order(store, bench):
    one = bench.run.attack(name="fmn", norm="l2", settings={"steps": 100, "seed": 0, "recipe": None})
    same = bench.run.attack(name="fmn", norm="l2", settings={"seed": 0, "recipe": None, "steps": 100})
    others = [
        bench.run.attack(name="fmn", norm="linf", settings={"steps": 100, "seed": 0, "recipe": None}),
        bench.run.attack(name="fmn", norm="l2", settings={"steps": 101, "seed": 0, "recipe": None}),
        bench.run.attack(name="pgd", norm="l2", settings={"steps": 100, "seed": 0, "recipe": None}),
    ]
    assert one == same
    assert len({one, *others}) == 4
    kept = store.sql("select settings from attacks where attack_id = $id", {"id": one})["settings"].item()
    assert json.loads(kept) == {"steps": 100, "seed": 0, "recipe": None}


def test_settings_that_json_cannot_hold_are_refused(bench):
    with pytest.raises(InputError, match="`settings`"):
        bench.attack(radius=NAN)
    with pytest.raises(InputError, match="`settings`"):
        bench.attack(radius=object())


def test_a_finished_sample_is_not_measured_again(bench):
    ids = np.array([5, 3, 9, 1])
    measurement = bench.measurement(ids)
    assert bench.run.unmeasured(measurement, ids).tolist() == [0, 1, 2, 3]
    bench.shard(measurement, [3, 1])
    assert bench.run.unmeasured(measurement, ids).tolist() == [0, 2]  # positions, not ids
    bench.shard(measurement, [5, 9])
    assert bench.run.unmeasured(measurement, ids).tolist() == []


def test_writing_a_shard_twice_changes_nothing(store, bench):
    measurement = bench.measurement([1, 2, 3])
    assert bench.shard(measurement, [1, 2], epsilon=0.25, adversarials={1: np.zeros((1, 2, 2))}) == 2
    assert bench.shard(measurement, [2, 3], epsilon=0.75, adversarials={2: np.ones((1, 2, 2))}) == 1
    rows = store.sql("select sample_id, epsilon from epsilons order by all")
    assert rows.to_numpy().tolist() == [[1, 0.25], [2, 0.25], [3, 0.75]]


def test_an_adversarial_stands_only_beside_the_epsilon_it_proves(store, bench):
    measurement = bench.measurement([1, 2])
    bench.shard(measurement, [1], epsilon=0.25)
    with store.run(["again"], device="cpu", seed=0) as second:
        bench.run = second
        assert bench.shard(measurement, [1], epsilon=0.75, adversarials={1: np.ones((1, 2, 2))}) == 0
    assert store.sql("from adversarials").empty


def test_a_larger_selection_adopts_what_a_smaller_one_measured(store, bench):
    small, large = np.arange(100), np.arange(200)
    first = bench.measurement(small)
    bench.shard(first, small, epsilon=0.125, adversarials={7: np.full((1, 2, 2), 0.5)})
    with store.run(["second"], device="cpu", seed=0) as second:
        owner, bench.run = bench.run.run_id, second
        measurement = bench.measurement(large)
        assert bench.run.unmeasured(measurement, large).tolist() == list(range(100, 200))
        bench.shard(measurement, large[100:], epsilon=0.5)
        assert bench.run.unmeasured(measurement, large).tolist() == []
    rows = store.sql(
        "select run_id, epsilon, count(*) as n from epsilons where measurement_id = ? group by all order by 1",
        [measurement],
    )
    assert rows.to_numpy().tolist() == [[owner, 0.125, 100], [second.run_id, 0.5, 100]]
    kept = store.sql("select sample_id, adversarial from adversarials where measurement_id = ?", [measurement])
    assert kept["sample_id"].tolist() == [7]
    assert np.frombuffer(kept["adversarial"].item(), "<f4").tolist() == [0.5] * 4
    assert store.runs()["samples"].tolist() == [100, 100]  # a copy is no measurement


def test_a_run_enters_a_network_once(store, bench, monkeypatch):
    first, other = bench.checkpoint(), bench.checkpoint("other")
    assert first != other
    monkeypatch.setattr("thinice.store.run_base.writing", pytest.fail)
    assert [bench.checkpoint(), bench.checkpoint("other")] == [first, other]
    monkeypatch.undo()
    assert len(store.sql("from checkpoints")) == 2
    with store.run(["x"], device="cpu", seed=0) as run:
        assert type(bench)(run).checkpoint("other") == other


def test_adoption_asks_for_the_same_content_label_network_and_attack(bench):
    ids = np.arange(6)
    bench.shard(bench.measurement(ids), ids)
    assert len(bench.run.unmeasured(bench.measurement(ids, checkpoint="other"), ids)) == 6
    relabelled = bench.measurement(ids, labels=[0, 1, 2, 0, 1, 0])
    assert bench.run.unmeasured(relabelled, ids).tolist() == [5]
    changed = bench.measurement(ids, digests=[2**63, 2**63 + 1, 2**63 + 2, 2**63 + 3, 4, 5])
    assert bench.run.unmeasured(changed, ids).tolist() == [4, 5]
    renumbered = bench.measurement(ids + 1, labels=ids % 3, digests=ids.astype(np.uint64) + np.uint64(2**63))
    assert len(bench.run.unmeasured(renumbered, ids + 1)) == 6  # the seed of a sample is its sample_id
    harder = bench.run.measurement(bench.checkpoint(), bench.dataset(ids), bench.attack(steps=1000))
    assert len(bench.run.unmeasured(harder, ids)) == 6


def test_a_sample_held_by_two_other_selections_is_adopted_once(store, bench):
    bench.shard(bench.measurement([1, 2]), [1, 2], epsilon=0.25)
    overlapping = bench.measurement([2, 3])
    assert bench.run.unmeasured(overlapping, [2, 3]).tolist() == [1]
    bench.shard(overlapping, [3], epsilon=0.5)
    whole = bench.measurement([1, 2, 3, 4])
    assert bench.run.unmeasured(whole, [1, 2, 3, 4]).tolist() == [3]
    rows = store.sql("select sample_id, epsilon from epsilons where measurement_id = ? order by 1", [whole])
    assert rows.to_numpy().tolist() == [[1, 0.25], [2, 0.25], [3, 0.5]]


def test_what_a_search_says_of_itself_is_kept_and_adopted(store, bench):
    first = bench.measurement([1, 2, 3])
    bench.run.add_epsilons(
        first,
        [1, 2, 3],
        epsilon=[0.25, 0.5, NAN],
        outcomes=[FOUND, FOUND, NOT_FOUND],
        predictions=[0, 0, -1],
        clean_predictions=[1, 1, 1],
        evaluations=[1, 1, 1],
        converged=[True, False, False],
        found_by=[FoundBy.SEARCH, FoundBy.RANDOM, FoundBy.NONE],
        failure_reasons=[FailureReason.NONE, FailureReason.SATURATED, FailureReason.NON_FINITE],
    )
    again = bench.measurement([1, 2, 3, 4])
    assert bench.run.unmeasured(again, [1, 2, 3, 4]).tolist() == [3]
    for measurement in (first, again):
        rows = store.sql("from epsilons where measurement_id = ? order by sample_id", [measurement])
        assert rows["converged"].tolist() == [True, False, False]
        assert rows["found_by"].astype(object).fillna("-").tolist() == ["search", "random", "-"]
        assert rows["failure_reason"].astype(object).fillna("-").tolist() == ["-", "saturated", "non_finite"]


def test_an_unknown_stage_or_diagnosis_is_refused(store, bench):
    measurement = bench.measurement([1])
    with pytest.raises(InputError, match="`found_by` must be of FoundBy, 0 to 6, got 7"):
        bench.shard(measurement, [1], found_by=[7])
    with pytest.raises(InputError, match="`failure_reasons` must be of FailureReason, 0 to 4, got -1"):
        bench.shard(measurement, [1], failure_reasons=[-1])
    assert store.sql("from epsilons").empty


def test_predictions_are_adopted_too(store, bench):
    network, small, large = bench.checkpoint(), bench.dataset([1, 2]), bench.dataset([1, 2, 3])
    assert bench.run.unpredicted(network, small, [1, 2]).tolist() == [0, 1]
    assert bench.run.add_predictions(network, small, [1, 2], predictions=[1, -1], margins=[-0.5, NAN]) == 2
    assert bench.run.add_predictions(network, small, [1, 2], predictions=[0, 0]) == 0
    assert bench.run.unpredicted(network, large, [1, 2, 3]).tolist() == [2]
    rows = store.sql("select prediction, margin from predictions where dataset_id = ? order by sample_id", [large])
    assert rows["prediction"].tolist()[0] == 1
    assert rows["margin"].tolist()[0] == -0.5
    assert rows.loc[1].isna().all()


def test_a_prediction_without_a_loss_is_completed_and_else_left_alone(store, bench):
    network, small, large = bench.checkpoint(), bench.dataset([1, 2, 3]), bench.dataset([1, 2, 3, 4])
    bench.run.add_predictions(network, small, [1, 2, 3], predictions=[1, -1, 2], margins=[NAN, NAN, 0.5])
    assert bench.run.unpredicted(network, small, [1, 2, 3]).size == 0
    assert bench.run.unpredicted(network, small, [1, 2, 3], scored=True).tolist() == [0, 2]
    later = {"predictions": [0, 2], "margins": [1.5, 9.0], "confidences": [0.75, 1.0], "losses": [0.25, 0.0]}
    assert bench.run.add_predictions(network, small, [1, 3], **later) == 2
    assert bench.run.add_predictions(network, small, [1, 3], **later | {"losses": [7.0, 7.0]}) == 0
    assert bench.run.unpredicted(network, small, [1, 2, 3], scored=True).size == 0
    assert bench.run.unpredicted(network, large, [1, 2, 3, 4], scored=True).tolist() == [3]  # the rest is copied
    rows = store.sql(
        "select prediction, margin, confidence, loss from predictions where dataset_id = ? order by sample_id", [large]
    )
    assert rows.iloc[[0, 2]].to_numpy().tolist() == [[1, 1.5, 0.75, 0.25], [2, 0.5, 1.0, 0.0]]
    assert rows.iloc[1].isna().all()


def test_everything_leads_to_its_run(store, bench):
    measurement = bench.measurement([1])
    bench.shard(measurement, [1])
    bench.run.add_predictions(bench.checkpoint("pruned"), 1, [1], predictions=[1])
    bench.run.comparison(measurement, bench.checkpoint("pruned"))
    bounded = (bench.checkpoint(), 1, "linf", [1])
    bench.run.add_lower_bounds(*bounded, epsilon_lower=[0.1])
    bench.run.add_claimed_bounds(*bounded, verifier="v", source="r.csv", claimed_lower=[0.1])
    network = (bench.checkpoint(), "dense", None)
    conditions = {"folder": "/", "engine": "local", "workers": None, "threads": 1, "batch_size": 2}
    bench.run.conditions(1, **conditions, deterministic=False, networks=[network])
    tables = store.sql("select table_name from duckdb_columns() where column_name = 'run_id' and not internal")
    facts = set(tables["table_name"]) - {"runs", "statistics"}
    filled = {"checkpoints", "datasets", "attacks", "measurements", "predictions", "epsilons", "comparisons"}
    filled |= {"lower_bounds", "claimed_bounds", "run_conditions", "run_networks"}
    unfilled = (
        "robustness transfers findings trainings epochs dynamics study_cells controls gradients corrections "
        "populations tunings published_accuracies benchmark_networks imported_distances run_conditions run_networks"
    )
    assert facts == filled | {*unfilled.split()}
    for table in filled:
        assert store.sql(f"select distinct run_id from {table}")["run_id"].tolist() == [bench.run.run_id]


def test_statistics_computed_again_replace_the_old(six, bench):
    values = dict.fromkeys(
        ("auc_low", "auc_high", "confidence", "u", "p_value", "log10_p", "median_kept", "median_lost", "shift")
    )
    bench.run.add_statistics(1, auc=np.float64(0.5), cliffs_delta=0.0, **values)
    rows = six.sql("select auc, n_lost, notes from separation")
    assert rows["auc"].tolist() == [0.5]
    assert rows["n_lost"].tolist() == [2]
    assert six.sql("select exact is null as unknown from statistics")["unknown"].tolist() == [True]
    bench.run.add_statistics(1, auc=0.5, cliffs_delta=0.0, exact=True, **values)
    assert six.sql("select exact from statistics")["exact"].tolist() == [True]


@pytest.mark.parametrize(
    ("epsilon", "outcome"),
    [(NAN, FOUND), (0.5, NOT_FOUND), (0.5, MISCLASSIFIED), (NAN, MISCLASSIFIED), (-0.5, FOUND), (float("inf"), FOUND)],
)
def test_an_epsilon_that_contradicts_its_outcome_is_refused_with_the_whole_shard(store, bench, epsilon, outcome):
    measurement = bench.measurement([1, 2])
    with pytest.raises(StoreError, match="CHECK"):
        bench.run.add_epsilons(
            measurement,
            [1, 2],
            epsilon=[0.25, epsilon],
            outcomes=[FOUND, outcome],
            predictions=[0, 0],
            clean_predictions=[1, 1],
            evaluations=[1, 1],
        )
    assert store.sql("from epsilons").empty


def test_bad_columns_are_refused_before_anything_is_written(store, bench):
    measurement = bench.measurement([1, 2])
    with pytest.raises(StoreError, match="sample 3 is not in selection"):
        bench.shard(measurement, [2, 3])
    with pytest.raises(InputError, match=r"`sample_ids` holds 2 twice"):
        bench.shard(measurement, [2, 2])
    with pytest.raises(InputError, match="`sample_ids` holds 5 twice"):
        bench.dataset([5, 5])
    with pytest.raises(InputError, match="`adversarials` holds sample 1, which is not in the shard"):
        bench.shard(measurement, [2], adversarials={1: np.zeros((1, 2, 2))})
    with pytest.raises(StoreError, match="no measurement 99"):
        bench.shard(99, [1])
    with pytest.raises(StoreError, match="sample 7 is not in selection"):
        bench.run.add_predictions(bench.checkpoint(), bench.dataset([1]), [7], predictions=[0])
    with pytest.raises(InputError, match=r"`labels` must be flat, with a value for each sample, 2 of them"):
        bench.dataset([1, 2], labels=[0])
    with pytest.raises(InputError, match="`outcomes`"):
        bench.run.add_epsilons(
            measurement, [1], epsilon=[0.5], outcomes=[3], predictions=[0], clean_predictions=[0], evaluations=[1]
        )
    with pytest.raises(InputError, match="`predictions` must hold whole numbers, got float64"):
        bench.run.add_predictions(bench.checkpoint(), bench.dataset([1]), [1], predictions=np.array([0.5]))
    assert store.sql("from epsilons").empty
    assert store.sql("from predictions").empty


def test_a_witness_comes_back_bit_by_bit(store, bench):
    adversarial = np.random.default_rng(0).random((1, 2, 2), dtype=np.float32)
    transposed = adversarial.transpose(0, 2, 1)  # another memory layout, and other values
    measurement = bench.measurement([1, 2])
    bench.shard(measurement, [1, 2], adversarials={1: adversarial, 2: transposed})
    kept = store.sql("select adversarial from adversarials order by sample_id")["adversarial"]
    shape = store.sql("select shape from datasets")["shape"].item()
    for blob, original in zip(kept, (adversarial, transposed), strict=True):
        assert (np.frombuffer(blob, dtype="<f4").reshape(shape) == original).all()


def test_a_checkpoint_keeps_everything_that_is_known_of_it(store, bench, tmp_path):
    bench.run.checkpoint(
        fingerprint="ab12",
        name="pruned-90",
        architecture="resnet20",
        classes=10,
        sparsity=0.9,
        path=tmp_path / "pruned.pt",
        class_names=("a", "b"),
        data="digits",
        normalization=((0.5,), (0.25,)),
        notes=("identified as resnet20",),
        parent="cd34",
    )
    (row,) = store.sql("from checkpoints").to_dict("records")
    assert (row["name"], row["architecture"], row["classes"], row["sparsity"]) == ("pruned-90", "resnet20", 10, 0.9)
    assert (row["path"], row["data"], row["parent"]) == (str(tmp_path / "pruned.pt"), "digits", "cd34")
    assert list(row["class_names"]) == ["a", "b"]
    assert json.loads(row["normalization"]) == [[0.5], [0.25]]
    assert list(row["notes"]) == ["identified as resnet20"]
    bench.run.checkpoint(fingerprint="ef", name="plain", architecture="cnn", classes=2, sparsity=0)
    unknown = store.sql("select path, class_names, data, normalization, parent from checkpoints where name = 'plain'")
    assert unknown.isna().all(axis=None)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
EPSILON = st.floats(0, 1, width=32, exclude_min=True) | st.sampled_from([1e-30, 1.1754944e-38, 1e-45, 8 / 255])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=TEXT, classes=st.lists(TEXT, min_size=3, max_size=3))
def test_values_come_back_as_they_went_in(bench, store, data, name, classes):
    ids = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8, unique=True))
    n = len(ids)
    digests = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n))
    sources = data.draw(st.lists(TEXT, min_size=n, max_size=n))
    outcomes = data.draw(st.lists(st.sampled_from([MISCLASSIFIED, FOUND, NOT_FOUND]), min_size=n, max_size=n))
    found = data.draw(st.lists(EPSILON, min_size=n, max_size=n))
    epsilon = [{MISCLASSIFIED: 0.0, FOUND: value, NOT_FOUND: NAN}[k] for k, value in zip(outcomes, found, strict=True)]
    run = bench.run
    selection = run.dataset(
        fingerprint=uuid.uuid4().hex,
        name=name,
        split="test'; drop table runs; --",
        shape=(1, 2, 2),
        classes=classes,
        sample_ids=ids,
        labels=np.arange(n),
        digests=np.array(digests, dtype=np.uint64),
        sources=sources,
    )
    network = run.checkpoint(fingerprint=uuid.uuid4().hex, name=name, architecture="cnn", classes=3, sparsity=0)
    measurement = run.measurement(network, selection, run.attack(name=name, norm="l1", settings={name: 1 / 3}))
    run.add_epsilons(
        measurement,
        ids,
        epsilon=epsilon,
        outcomes=outcomes,
        predictions=np.where(np.array(outcomes) == NOT_FOUND, -1, 2),
        clean_predictions=np.zeros(n, dtype=int),
        evaluations=np.full(n, 1 / 3),
    )
    rows = store.sql(
        "select * from epsilons join samples using (sample_id) join datasets using (dataset_id) "
        "where measurement_id = $m and dataset_id = $d order by label",
        {"m": measurement, "d": selection},
    )
    assert rows["sample_id"].tolist() == ids
    assert rows["digest"].tolist() == digests
    assert rows["source"].tolist() == sources
    np.testing.assert_array_equal(rows["epsilon"].to_numpy(np.float32, na_value=np.nan), np.float32(epsilon))
    assert rows["outcome"].tolist() == [outcome.text for outcome in outcomes]
    assert rows["prediction"].isna().tolist() == [outcome == NOT_FOUND for outcome in outcomes]
    assert set(rows["name"]) == {name}
    assert list(rows["classes"][0]) == classes
