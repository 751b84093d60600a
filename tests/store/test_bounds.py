"""Lower bounds beside epsilons: stored once, copied between selections, never above an epsilon; claims are shown."""

from __future__ import annotations

import numpy as np
import pytest

from thinice.checks.stored import check, check_store
from thinice.errors import InputError, StoreError

IDS = (3, 4, 5)


def measured(bench, ids=IDS, epsilon=0.25, checkpoint="dense", **selection):
    """Measure samples; return the key of their lower bounds."""
    bench.shard(bench.measurement(ids, checkpoint, **selection), ids, epsilon)
    return bench.checkpoint(checkpoint), bench.dataset(ids, **selection), "linf"


def test_bounds_stand_beside_epsilons(store, bench):
    key = measured(bench)
    assert bench.run.uncertified(*key, IDS).tolist() == [0, 1, 2]
    assert bench.run.add_lower_bounds(*key, IDS[:2], epsilon_lower=[0.2, 0.0]) == 2
    assert bench.run.uncertified(*key, IDS).tolist() == [2]
    assert bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.1, 0.1, 0.24]) == 1  # what is there stays
    rows = store.sql("from intervals order by sample_id")
    assert rows["epsilon_lower"].tolist() == [0.2, 0.0, 0.24]
    np.testing.assert_allclose(rows["ratio"], [0.8, 0.0, 0.96])
    assert store.sql("select sample_id from proved_beyond(0.2)")["sample_id"].tolist() == [5]
    assert store.sql("select sample_id from proved_beyond(0.19)")["sample_id"].tolist() == [5, 3]


def test_views_of_a_comparison_show_them(six):
    with six.run(["x"], device="cpu", seed=0) as run:
        keys = six.sql("select checkpoint_id, dataset_id from measurements").iloc[0]
        run.add_lower_bounds(int(keys.iloc[0]), int(keys.iloc[1]), "linf", [10, 12], epsilon_lower=[0.2, 0.04])
        run.add_lower_bounds(int(keys.iloc[0]), int(keys.iloc[1]), "l2", [10], epsilon_lower=[7.0])
    rows = six.sql("select sample_id, epsilon_lower from transitions where epsilon_lower is not null order by all")
    assert rows.values.tolist() == [[10, 0.2], [12, 0.04]]
    assert len(six.sql("from transitions")) == 6
    assert six.sql("select sample_id from thin_ice where epsilon_lower > 0.1")["sample_id"].tolist() == [10]


def test_a_bound_above_an_epsilon_is_an_error_that_names_the_sample(store, bench):
    key = measured(bench)
    with pytest.raises(
        StoreError, match=r"sample 4 \(and 1 more\) of dense has an adversarial at 0.25 by fmn, but a radius of 0.4 "
    ):
        bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.2, 0.4, 0.26])
    assert len(store.sql("from lower_bounds")) == 0
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.25, 0.2, 0.2])  # equal is no contradiction


def test_an_epsilon_below_a_bound_is_one_too_whichever_attack_finds_it(store, bench):
    network, data, _ = key = measured(bench)
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.1, 0.2, 0.2])
    stronger = bench.run.measurement(network, data, bench.attack(steps=500))
    with pytest.raises(StoreError, match=r"sample 4 \(and 1 more\) of dense has an adversarial at 0.15 by fmn"):
        bench.shard(stronger, IDS, 0.15)
    assert len(store.sql("from epsilons")) == 3
    bench.shard(stronger, IDS, 0.2)
    other_norm = bench.run.measurement(network, data, bench.run.attack(name="fmn", norm="l2", settings={}))
    bench.shard(other_norm, IDS, 0.01)


def test_a_dense_adversarial_that_fools_the_pruned_network_contradicts_its_bounds_too(store, bench):
    dense = bench.measurement(IDS)
    bench.shard(dense, IDS, 0.15)
    network, data, norm = measured(bench, epsilon=0.25, checkpoint="pruned")
    comparison = bench.run.comparison(dense, network)
    bench.run.add_transfers(comparison, IDS, predictions=[0, 2, 2])  # sample 5 is still of class 2
    message = r"sample 4 of pruned has an adversarial at 0.15 by fmn on dense, but a radius of 0.2 was proved"
    with pytest.raises(StoreError, match=message):
        bench.run.add_lower_bounds(network, data, norm, IDS, epsilon_lower=[0.1, 0.2, 0.2])
    assert len(store.sql("from lower_bounds")) == 0
    bench.run.add_lower_bounds(network, data, norm, IDS, epsilon_lower=[0.1, 0.15, 0.2])
    bench.run.add_claimed_bounds(
        network, data, norm, IDS, verifier="abcrown", source="result_df.csv", claimed_lower=[0.2, 0.2, 0.2]
    )
    rows = store.sql("from claims order by sample_id")
    assert rows["lower_refuted"].tolist() == [False, True, False]
    np.testing.assert_allclose(rows["epsilon"], [0.25, 0.15, 0.25], rtol=1e-6)
    other = bench.run.comparison(dense, bench.checkpoint("other"))
    bench.run.add_transfers(other, IDS, predictions=[1, 2, 1])
    assert len(store.sql("from transfers")) == 6


def test_transfers_that_contradict_a_bound_are_refused(store, bench):
    dense = bench.measurement(IDS)
    bench.shard(dense, IDS, 0.15)
    network, data, norm = measured(bench, epsilon=0.25, checkpoint="pruned")
    bench.run.add_lower_bounds(network, data, norm, IDS, epsilon_lower=[0.1, 0.2, 0.2])
    comparison = bench.run.comparison(dense, network)
    with pytest.raises(StoreError, match=r"sample 4 of pruned has an adversarial at 0.15 by fmn on dense"):
        bench.run.add_transfers(comparison, IDS, predictions=[1, 2, 2])
    assert len(store.sql("from transfers")) == 0


def test_other_selections_of_the_same_samples_share_them(store, bench):
    key = measured(bench)
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.1, 0.2, 0.2])
    wider = measured(bench, (2, 3, 4, 5))
    assert bench.run.uncertified(*wider, (2, 3, 4, 5)).tolist() == [0]
    assert store.sql("select adopted from lower_bounds order by all")["adopted"].tolist() == [False] * 3 + [True] * 3
    others = measured(bench, (4, 5), digests=[1, 2])
    assert bench.run.uncertified(*others, (4, 5)).tolist() == [0, 1]


def test_what_is_copied_must_not_contradict_either(store, bench):
    key = measured(bench)
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.1, 0.2, 0.2])
    network, data = bench.checkpoint(), bench.dataset((4, 5))
    nearer = bench.run.measurement(network, data, bench.attack(steps=500))
    bench.shard(nearer, (4, 5), 0.15)
    with pytest.raises(StoreError, match="sample 4"):
        bench.run.uncertified(network, data, "linf", (4, 5))
    assert len(store.sql("from lower_bounds")) == 3


@pytest.mark.parametrize("bound", [-0.1, np.inf, np.nan])
def test_a_bound_is_a_number_of_at_least_0(store, bench, bound):
    key = measured(bench)
    with pytest.raises((StoreError, InputError)):
        bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.1, bound, 0.1])
    assert len(store.sql("from lower_bounds")) == 0


def test_claims_are_shown_and_refuted_where_an_adversarial_is_in_hand(store, bench):
    key = measured(bench)
    bench.run.add_lower_bounds(*key, IDS[:2], epsilon_lower=[0.2, 0.2])
    claim = {"verifier": "abcrown", "source": "result_df.csv"}
    claimed = {"claimed_lower": [0.2, 0.3, 0.24], "claimed_upper": [0.3, 0.15, np.nan]}
    assert bench.run.add_claimed_bounds(*key, IDS, **claim, **claimed) == 3
    rows = store.sql("from claims order by sample_id")
    assert rows["lower_refuted"].tolist() == [False, True, False]
    assert rows["upper_refuted"].astype(object).fillna("?").tolist() == [False, True, "?"]
    claimed["claimed_lower"] = [0.0, 0.1, 0.1]
    bench.run.add_claimed_bounds(*key, IDS, **claim, **claimed)  # replaces
    assert not store.sql("from claims")["lower_refuted"].any()
    assert store.sql("from intervals")["epsilon_lower"].max() == 0.2  # what is claimed is not proved


def test_the_check_of_a_store_holds_claims_against_adversarials_of_any_norm(store, bench):
    network, data, _ = key = measured(bench)
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.2, 0.2, 0.2])
    assert check(store).contradictions == ()
    assert check(store).networks[0].attacks == ("fmn", "lower bounds")
    claim = {"verifier": "abcrown", "source": "result_df.csv", "claimed_lower": [0.1, 0.3, 0.24]}
    bench.run.add_claimed_bounds(*key, IDS, **claim)
    (finding,) = check(store).contradictions
    assert (finding.check, finding.subjects, finding.samples) == ("verified", ("claims of abcrown", "fmn"), (4,))
    euclidean = bench.run.measurement(network, data, bench.run.attack(name="fmn", norm="l2", settings={}))
    bench.shard(euclidean, IDS, 0.15)  # an l2 perturbation of 0.15 changes no pixel by more
    findings = {(each.subjects, each.samples) for each in check(store).contradictions if each.check == "verified"}
    assert (("lower bounds", "fmn"), (3, 4, 5)) in findings
    assert (("claims of abcrown", "fmn"), (4, 5)) in findings
    assert check_store(store, measurement_id=euclidean)[0].findings


def test_different_contents_under_one_number_are_not_compared(store, bench):
    key = measured(bench)
    bench.shard(bench.measurement(IDS, digests=[1, 2, 3]), IDS, 0.1)
    bench.run.add_lower_bounds(*key, IDS, epsilon_lower=[0.2, 0.2, 0.2])
    assert check(store).contradictions == ()
