"""Six samples whose answers are counted by hand, in a store of their own."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from thinice.store import open_store
from thinice.types import Outcome

CLASSES = ("cat", "dog", "eel")
NAN = float("nan")
MISCLASSIFIED, FOUND, NOT_FOUND = Outcome

# sample_id, label, dense, pruned, outcome, epsilon, far side -> transition
SIX = [
    (10, 0, 0, 0, FOUND, 0.30, 1),  # S1,1
    (11, 1, 1, 1, FOUND, 0.10, 2),  # S1,1
    (12, 2, 2, 0, FOUND, 0.05, 0),  # S1,0
    (13, 0, 0, 1, NOT_FOUND, NAN, -1),  # S1,0
    (14, 1, 2, 1, MISCLASSIFIED, 0.0, 2),  # S0,1
    (15, 2, -1, -1, NOT_FOUND, NAN, -1),  # S0,0: a logit is NaN under both
]
COLUMNS = ("sample_id", "label", "dense", "pruned", "outcome", "epsilon", "far")
NO_STATISTICS = dict.fromkeys(
    (
        "auc",
        "auc_low",
        "auc_high",
        "confidence",
        "u",
        "p_value",
        "log10_p",
        "median_kept",
        "median_lost",
        "shift",
        "cliffs_delta",
    )
)


class Bench:
    """Adds things to a run with as few words as a test needs."""

    def __init__(self, run):
        self.run = run

    def checkpoint(self, name="dense", sparsity=0.0):
        return self.run.checkpoint(fingerprint=f"f-{name}", name=name, architecture="cnn", classes=3, sparsity=sparsity)

    def dataset(self, ids, labels=None, digests=None, name="digits", sources=None):
        ids = np.asarray(ids)
        labels = ids % 3 if labels is None else np.asarray(labels)
        digests = ids.astype(np.uint64) + np.uint64(2**63) if digests is None else np.array(digests, dtype=np.uint64)
        return self.run.dataset(
            fingerprint=f"{name}-{ids.tolist()}-{labels.tolist()}-{digests.tolist()}",
            name=name,
            split="test",
            shape=(1, 2, 2),
            classes=CLASSES,
            sample_ids=ids,
            labels=labels,
            digests=digests,
            sources=sources,
        )

    def attack(self, **settings):
        return self.run.attack(name="fmn", norm="linf", settings=settings)

    def measurement(self, ids, checkpoint="dense", **selection):
        return self.run.measurement(self.checkpoint(checkpoint), self.dataset(ids, **selection), self.attack(steps=100))

    def shard(self, measurement_id, ids, epsilon=0.25, **others):
        ids = np.asarray(ids)
        n = len(ids)
        return self.run.add_epsilons(
            measurement_id,
            ids,
            epsilon=np.full(n, epsilon),
            outcomes=np.full(n, FOUND),
            predictions=(ids + 1) % 3,
            clean_predictions=ids % 3,
            evaluations=np.full(n, 100.0),
            **others,
        )


@pytest.fixture
def store(tmp_path, empty):
    return open_store(shutil.copy(empty, tmp_path / "thinice.duckdb"))


@pytest.fixture
def bench(request):
    """A run in the test's store."""
    store = request.getfixturevalue("six" if "six" in request.fixturenames else "store")
    with store.run(["thinice", "compare"], device="cpu", seed=0, settings={"norm": "linf"}) as run:
        yield Bench(run)


@pytest.fixture(scope="session")
def full(tmp_path_factory, empty):
    """The six samples, one measurement and one comparison; copied, too."""
    store = open_store(shutil.copy(empty, tmp_path_factory.mktemp("store") / "six.duckdb"))
    column = dict(zip(COLUMNS, map(np.array, zip(*SIX, strict=True)), strict=True))
    ids = column["sample_id"]
    with store.run(["thinice", "compare", "dense.pt", "pruned.pt"], device="cpu", seed=0) as run:
        bench = Bench(run)
        dense, pruned = bench.checkpoint("dense"), bench.checkpoint("pruned", sparsity=0.9)
        data = bench.dataset(ids, column["label"], sources=[f"{k}.png" for k in ids])
        measurement = run.measurement(dense, data, bench.attack(steps=100))
        run.add_epsilons(
            measurement,
            ids,
            epsilon=column["epsilon"],
            outcomes=column["outcome"],
            predictions=column["far"],
            clean_predictions=column["dense"],
            evaluations=np.full(6, 100.0),
            adversarials={12: np.linspace(0, 1, 4).reshape(1, 2, 2)},
        )
        run.add_predictions(pruned, data, ids, predictions=column["pruned"], margins=np.full(6, NAN))
        comparison = run.comparison(measurement, pruned)
        run.add_statistics(comparison, **NO_STATISTICS | {"auc": 0.75, "log10_p": -400.5, "notes": ("why",)})
    return store.path


@pytest.fixture
def six(tmp_path, full):
    """A store with the six samples."""
    return open_store(shutil.copy(full, tmp_path / "thinice.duckdb"))
