"""Methods that find their masks by training, in a study: in the dense network, and trained like the others."""

from __future__ import annotations

import pytest
import torch

import thinice
from tests.conftest import ROOT
from thinice.errors import InputError
from thinice.studies import parse_study, read_study, run_study
from thinice.studies.networks import NetworkFiles, NetworkPlan, waves
from thinice.studies.results import study_results
from thinice.studies.running import load_setup

pytest.importorskip("yaml")

SEARCH = "search: {recipe: hydra-prune-short, objective: natural, select: last, epochs: 2, held_out: 0}"
STUDY = f"""\
architecture: digits_cnn
data: digits
training: {{recipe: natural, epochs: 1, learning_rate: 0.05, batch_size: 32}}
retraining: {{recipe: finetune, epochs: 1, batch_size: 32}}
methods:
  - {{name: global, method: magnitude}}
  - {{name: hydra, method: hydra, {SEARCH}}}
rates: [1, 4]
stages: [2, 4]
training_samples: 60
samples: 10
attacks: [{{attack: pgd, norm: linf, budgets: [8/255], steps: 2}}]
"""


@pytest.fixture
def study():
    return parse_study(STUDY, "searching")


def test_a_search_begins_with_the_dense_network_and_makes_one_a_rate(study):
    plans = [plan for wave in waves(study) for plan in wave]
    assert [(plan.method and plan.method.name, plan.stages) for plan in plans] == [
        (None, ()),
        ("global", (2.0,)),
        ("global", (2.0, 4.0)),
        ("hydra", (4.0,)),
    ]
    assert plans[-1].before == plans[0]
    assert study.networks == len(plans)


@pytest.mark.slow
def test_it_is_run_and_stopped_and_told(study, tmp_path):
    run = run_study(study, store=tmp_path / "s.duckdb", networks=tmp_path / "networks", progress=False)
    assert not run.failures
    (path,) = (tmp_path / "networks").glob("*hydra*.pt")
    pruned = thinice.load_classifier(path)
    (dense,) = (tmp_path / "networks").glob("*dense*.pt")
    assert pruned.parent == thinice.load_classifier(dense).fingerprint
    assert [layer.sparsity for layer in pruned.masks.layers()] == pytest.approx([0.75] * 4, abs=0.01)
    assert (pruned.recipe["search"]["epochs"], pruned.recipe["training"]["epochs"]) == (2, 1)
    assert len(pruned.recipe["pruning"]["reached"]["mask_changes"]) == 2
    frame = study_results(study, tmp_path / "s.duckdb").frame()
    assert {"global", "hydra"} <= set(frame["method"])

    training, _ = load_setup(study.setups[0])
    folder = tmp_path / "again"
    folder.mkdir()
    files = NetworkFiles(study.setups[0], training, folder)
    files.make(NetworkPlan(0), torch.device("cpu"))
    seen = []

    def stop(_, epoch):
        seen.append(epoch.number)
        if len(seen) == 1:
            raise KeyboardInterrupt

    stopped = NetworkFiles(study.setups[0], training, folder, progress=stop)
    plan = NetworkPlan(0, study.methods[1], (4.0,))
    with pytest.raises(KeyboardInterrupt):
        stopped.make(plan, torch.device("cpu"))
    made = stopped.make(plan, torch.device("cpu"))
    assert seen == [1, 2, 1]  # the search went on; then the training under the masks
    assert made.path.name == path.name
    assert thinice.load_classifier(made.path).fingerprint == pruned.fingerprint
    assert not list(folder.glob("*.stages"))


def test_the_study_of_adversarial_pruning_treats_all_methods_alike():
    study = read_study(ROOT / "studies" / "adversarial-pruning.yaml")
    assert [method.name for method in study.methods] == [
        *("lwm", "hydra", "hydra+s2ap", "harp", "harp+s2ap", "r-admm", "atmc")
    ]
    plans = [method.search.plan(0) for method in study.methods if method.search is not None]
    dense, tuned = study.setups[0].training.plan(0), study.setups[0].retraining.plan(0)
    assert {(plan.objective.budget, plan.objective.steps) for plan in (*plans, dense, tuned)} == {(0.1, 5)}
    assert {type(plan.objective).__name__ for plan in (*plans, dense, tuned)} == {"PGD"}
    assert {plan.recipe.epochs for plan in plans} == {4}
    assert {plan.recipe.held_out for plan in (*plans, dense, tuned)} == {0.1}
    assert study.rates == (1, 10, 20, 100)


def test_how_it_searches_is_a_part_of_what_a_network_is(study, tmp_path):
    training, _ = load_setup(study.setups[0])
    files = NetworkFiles(study.setups[0], training, tmp_path)
    longer = parse_study(STUDY.replace("select: last, epochs: 2", "select: last, epochs: 3"), "searching")
    keys = {files.key(NetworkPlan(0, each.methods[1], (4.0,))) for each in (study, longer)}
    assert len(keys) == 2
    default = parse_study(STUDY.replace(f", {SEARCH}", ""), "searching").methods[1]
    assert default.search.recipe == "hydra-prune"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "method: magnitude}",
            "method: magnitude, search: natural}",
            "line 6: `search` changes nothing: method 'magnit",
        ),
        ("recipe: hydra-prune-short", "recipe: hydra-prune-shirt", "line 7: `recipe` 'hydra-prune-shirt' is unknown"),
        (
            "method: hydra, ",
            "method: hydra, s2ap: 0.01, ",
            "line 7: `s2ap_warmup` 5 leaves nothing of a search of 2 epo",
        ),
        ("method: hydra, ", "method: hydra, s2ap: 2, ", "line 7: `s2ap` must be a radius from 0 to below 1"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(old, new, message):
    assert STUDY.count(old) == 1
    with pytest.raises(InputError, match=message):
        parse_study(STUDY.replace(old, new), "searching")
