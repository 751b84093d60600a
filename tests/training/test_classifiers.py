"""A network trained and saved by name: normalisation, store, and what its training says of the samples it loses."""

import resource

import duckdb
import numpy as np
import pytest
import torch

import thinice
from thinice.data import as_samples, load_samples
from thinice.errors import CheckpointError, InputError, StoreError
from thinice.models import Normalized
from thinice.pruning.classifiers import prune_classifier
from thinice.store import open_store
from thinice.training import preset
from thinice.training.classifiers import train_classifier, usual_normalization


def plan(**changes):
    return preset("natural", **{"epochs": 2, "shift": 0, "flip": False, "batch_size": 64, **changes})


@pytest.fixture(scope="module")
def digits():
    return load_samples("digits", split="train", limit=120)


def test_data_sets_have_their_usual_normalisation_and_channels_are_counted():
    samples = as_samples(torch.rand(20, 1, 32, 32), torch.arange(20) % 3, name="mnist")
    trained = train_classifier("preact_resnet8", samples, plan(epochs=1))
    assert isinstance(trained.classifier.module, Normalized)
    assert trained.classifier.normalization == thinice.models.NORMALIZATIONS.get("mnist")
    assert trained.classifier.arguments == {"channels": 1}  # the architecture's own number is 3
    assert trained.classifier.classes == 3
    assert usual_normalization("imagenette") == "imagenet"
    assert usual_normalization("npz:digits.npz") is None
    assert (
        train_classifier("preact_resnet8", samples, plan(epochs=1), normalization="none").classifier.normalization
        is None
    )


def test_the_seed_makes_the_weights_and_the_caller_is_left_alone(digits):
    state = torch.get_rng_state()
    first, again, other = (train_classifier("digits_cnn", digits, plan(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.classifier.fingerprint == again.classifier.fingerprint != other.classifier.fingerprint


def test_a_classifier_is_trained_on_and_stays_as_it_is(digits, tmp_path):
    dense = train_classifier("digits_cnn", digits, plan(), path=tmp_path / "dense.pt").classifier
    before = dense.fingerprint
    more = train_classifier(dense, digits, plan(epochs=1), path=tmp_path / "more.pt").classifier
    assert more.parent == before
    assert more.fingerprint != before
    assert not any(parameter.requires_grad for parameter in dense.module.parameters())
    with pytest.raises(InputError, match="`network` is a classifier: its arguments and its normalisation are its own"):
        train_classifier(dense, digits, plan(), normalization="mnist")


OWN_CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.features = torch.nn.Conv2d(1, width, 3, padding=1)
        self.classify = torch.nn.Linear(64 * width, num_classes)

    def forward(self, inputs):
        return self.classify(self.features(inputs).relu().flatten(1))
"""


def test_own_code_is_trained_saved_and_trained_on(digits, tmp_path):
    (tmp_path / "models.py").write_text(OWN_CODE)
    code, path = f"{tmp_path / 'models.py'}:Net", tmp_path / "own.pt"
    width = {"width": 2}
    trained = train_classifier(code, digits, plan(), path=path, architecture_args=width).classifier
    assert (trained.name, trained.architecture, trained.classes) == ("own", "models.py:Net(width=2)", 10)
    with pytest.raises(CheckpointError, match="holds weights for the user's own code"):
        thinice.load_classifier(path)  # it is data: nothing runs that was not named
    read = thinice.load_classifier(path, architecture=code, architecture_args=width)
    again = train_classifier(code, digits, plan(), architecture_args=width).classifier
    assert read.fingerprint == trained.fingerprint == again.fingerprint
    assert torch.equal(read(digits.inputs[:8]), trained(digits.inputs[:8]))
    assert train_classifier(code, digits, plan(), path=path, architecture_args=width).already
    with pytest.raises(
        InputError, match=r"own.pt is there already, and no network of models.py:Net\(width=3\): choose"
    ):
        train_classifier(code, digits, plan(), path=path, architecture_args={"width": 3})

    more = train_classifier(read, digits, plan(epochs=1), path=tmp_path / "more.pt").classifier
    assert more.parent == read.fingerprint != more.fingerprint
    reread = thinice.load_classifier(tmp_path / "more.pt", architecture=code, architecture_args=width)
    assert reread.fingerprint == more.fingerprint

    asked = {"path": tmp_path / "pruned.pt", "sparsity": 0.9}
    (pruned,) = prune_classifier(read, **asked)
    (again,) = prune_classifier(read, **asked)
    assert again.already
    assert again.classifier.fingerprint == pruned.classifier.fingerprint


def test_a_module_and_a_class_of_own_code_are_trained(digits, tmp_path):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    weights = module[1].weight.detach().clone()
    trained = train_classifier(module, digits, plan(epochs=1), path=tmp_path / "module.pt").classifier
    assert torch.equal(module[1].weight, weights)
    assert not torch.equal(trained.network[1].weight, weights)
    assert thinice.load_classifier(tmp_path / "module.pt", architecture=module).fingerprint == trained.fingerprint
    with pytest.raises(InputError, match="cannot read `samples` of shape"):
        train_classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 10)), digits, plan(epochs=1))
    with pytest.raises(InputError, match="has nothing to train"):
        train_classifier("torch.nn:Flatten", digits, plan(epochs=1))


def test_the_checkpoint_and_the_snapshot_are_asked_for_before_the_work(digits, tmp_path):
    (tmp_path / "net.pt").write_text("no checkpoint")
    with pytest.raises(InputError, match="is there already and is not a checkpoint"):
        train_classifier("digits_cnn", digits, plan(), path=tmp_path / "net.pt")
    (tmp_path / "net.pt").unlink()

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier("digits_cnn", digits, plan(), path=tmp_path / "net.pt", progress=stop)
    with pytest.raises(
        CheckpointError, match=r"net\.pt\.snapshot belongs to another training \(recipe\.epochs was 2, is 3"
    ):
        train_classifier("digits_cnn", digits, plan(epochs=3), path=tmp_path / "net.pt")
    assert train_classifier("digits_cnn", digits, plan(), path=tmp_path / "net.pt").path == tmp_path / "net.pt"


def test_a_disk_that_is_full_in_the_end_loses_nothing(digits, tmp_path):
    """The limit on the size of files comes after the last snapshot, before the checkpoint."""
    path, limits = tmp_path / "net.pt", resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(epoch):
        if epoch.number == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    try:
        with pytest.raises(
            CheckpointError, match=r"net\.pt could not be written \(.*the training is in .*snapshot; make"
        ):
            train_classifier("digits_cnn", digits, plan(), path=path, progress=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt.snapshot"]
    whole = train_classifier("digits_cnn", digits, plan()).classifier
    again = []
    assert train_classifier("digits_cnn", digits, plan(), path=path, progress=again.append).classifier.fingerprint == (
        whole.fingerprint
    )
    assert not again  # nothing was trained twice


@pytest.mark.slow
def test_what_training_saw_of_the_samples_predicts_beside_epsilon(digits, tmp_path):
    store = tmp_path / "thinice.duckdb"
    trained = train_classifier(
        "digits_cnn", digits, plan(epochs=6, held_out=0.1), path=tmp_path / "dense.pt", store=store
    )
    pruned = thinice.prune(trained.classifier, sparsity=0.9).module
    settings = {"attack": "fmn", "effort": "quick", "progress": False, "store": store}
    comparison = thinice.compare(trained.classifier, pruned, digits, **settings)
    dynamics = trained.history.dynamics
    known = ~np.isnan(comparison.dynamics["forgetting"])
    assert known.sum() == 108
    place = np.searchsorted(dynamics.sample_ids.numpy(), comparison.sample_ids[known])
    assert comparison.dynamics["forgetting"][known].tolist() == dynamics.forgotten[place].tolist()
    assert comparison.dynamics["mean_confidence"][known].tolist() == dynamics.confidence_mean[place].tolist()
    table = comparison.predictor_comparison()
    names = ["epsilon", "margin", "confidence", "loss", "forgetting", "mean_confidence", "confidence_variance"]
    assert table.name.tolist() == names
    right = np.isin(comparison.transitions, ("S1,1", "S1,0"))
    assert table.n_kept + table.n_lost == (right & known).sum()
    assert (
        f"on the {(right & known).sum()} of {right.sum()} samples that the dense network was trained on" in table.notes
    )
    lost = comparison.transitions == "S1,0"
    confidence = comparison.dynamics["mean_confidence"]
    pairs = [
        (confidence[a] > confidence[b]) + (confidence[a] == confidence[b]) / 2
        for a in np.flatnonzero(right & known & ~lost)
        for b in np.flatnonzero(right & known & lost)
    ]
    assert table.auc[5] == pytest.approx(np.mean(pairs))
    forgotten = comparison.dynamics["forgetting"]
    pairs = [
        (forgotten[a] < forgotten[b]) + (forgotten[a] == forgotten[b]) / 2  # who forgets is at risk
        for a in np.flatnonzero(right & known & ~lost)
        for b in np.flatnonzero(right & known & lost)
    ]
    assert table.auc[4] == pytest.approx(np.mean(pairs))
    test = thinice.compare(trained.classifier, pruned, load_samples("digits", limit=30), **settings)
    assert test.dynamics is None
    assert test.predictor_comparison().name.tolist() == names[:4]


def test_a_store_without_tables_of_trainings_gets_them(digits, tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    with duckdb.connect(store.path) as connection:
        for table in ("dynamics", "epochs", "trainings"):
            connection.execute(f"drop table {table}")
        connection.execute("drop sequence training_ids")
        connection.execute("update thinice_schema set definitions = 'those of an earlier thinice'")
    train_classifier("digits_cnn", digits, plan(), store=store.path)
    assert open_store(store.path).sql("select count(*) as n from epochs")["n"].item() == 2


def test_the_store_refuses_what_is_not_of_the_training(digits, tmp_path):
    store = open_store(tmp_path / "thinice.duckdb", new=True)
    train_classifier("digits_cnn", digits, plan(), store=store)
    columns = {
        "epochs": [1],
        "forgotten": [0],
        "learned": [True],
        "confidence_mean": [0.5],
        "confidence_variance": [0.0],
    }
    with store.run(["x"], device="cpu", seed=0) as run:
        with pytest.raises(StoreError, match="sample 999999 is not in selection 1"):
            run.add_dynamics(1, [999999], **columns)
        with pytest.raises(StoreError, match="has no training 7"):
            run.add_dynamics(7, [1], **columns)
