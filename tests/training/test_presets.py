"""Named recipes: what the papers say, what can be changed, and what fits other images than theirs."""

import pytest
import torch

from tests.training.small import blobs, network
from thinice.data import as_samples, load_samples
from thinice.errors import InputError
from thinice.training import RECIPES, preset, train
from thinice.training.presets import fitting


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_can_be_made_and_says_what_it_is(name):
    recipe, objective = preset(name)
    assert RECIPES.summaries()[name]
    assert recipe.epochs >= 10
    assert objective.threat() is None or recipe.held_out > 0  # something can be checked and chosen by


@pytest.mark.parametrize(
    ("name", "recipe", "objective"),
    [
        ("hydra-pretrain", {"epochs": 100, "learning_rate": 0.1, "weight_decay": 1e-4}, {"beta": 6.0, "steps": 10}),
        ("hydra-finetune", {"epochs": 100, "learning_rate": 0.01, "schedule": "cosine"}, {"mode": "eval"}),
        ("harp-prune", {"epochs": 20, "weight_decay": 5e-4}, {"start": "uniform", "budget": 8 / 255}),
        ("radmm-pretrain", {"epochs": 200, "weight_decay": 1e-4}, {"mode": "train", "step_size": 2 / 255}),
        ("radmm-prune", {"schedule": "restarts", "decay": 0.1, "select": "last", "learning_rate": 0.01}, {}),
        ("radmm-finetune", {"schedule": "step", "milestones": (0.4, 0.75)}, {"mode": "train"}),
        ("atmc-prune", {"epochs": 200, "learning_rate": 0.01}, {"budget": 4 / 255, "steps": 7, "start": "none"}),
        ("radmm-mnist", {"shift": 0, "flip": False}, {"budget": 0.3, "steps": 40, "step_size": 0.01}),
        ("flyingbird", {"epochs": 200, "milestones": (0.5, 0.75), "decay": 0.1}, {}),
        ("robustbird", {"epochs": 200, "milestones": (0.25, 0.75)}, {}),
        ("mad", {"epochs": 60, "weight_decay": 2e-4}, {"budget": 0.03, "step_size": pytest.approx(0.0069)}),
        ("merkle-mnist", {"optimizer": "adam", "learning_rate": 1e-3, "patience": 5, "batch_size": 64}, {}),
        (
            "merkle-cifar10",
            {"patience": 15, "plateau_patience": 12, "decay": 0.3, "min_learning_rate": 1e-5, "shift": 6, "flip": True},
            {},
        ),
        ("merkle-imagenette", {"shift": 60, "epochs": 150, "held_out": 0.1, "select": "loss"}, {}),
    ],
)
def test_recipes_of_papers_say_what_the_papers_do(name, recipe, objective):
    plan = preset(name)
    assert {key: getattr(plan.recipe, key) for key in recipe} == recipe
    assert {key: getattr(plan.objective, key) for key in objective} == objective
    assert not (plan.recipe.optimizer == "sgd" and plan.recipe.nesterov)


def test_any_setting_can_be_changed_and_the_objective_too():
    recipe, objective = preset("hydra-finetune", objective="mart", epochs=3, beta=2.0, norm="l2", budget=0.5)
    assert (type(objective).__name__, objective.beta, objective.norm, objective.budget) == ("MART", 2.0, "l2", 0.5)
    assert recipe.epochs == 3
    assert preset("hydra-finetune", objective="fast")[1].steps == 1  # not the ten of TRADES
    with pytest.raises(
        InputError, match="`epoch` is no setting of recipe 'fast' with objective 'fast': there are epochs"
    ):
        preset("fast", epoch=3)
    with pytest.raises(InputError, match="`recipe` 'hydra' is unknown"):
        preset("hydra")


def test_augmentation_fits_the_images():
    colour = as_samples(torch.rand(4, 3, 64, 64), [0, 1, 0, 1])
    assert fitting("fast", colour, {}) == ({"shift": 8}, ["shift 8: recipe 'fast' moves images of 32 pixels by 4"])
    digits = load_samples("digits", limit=10)
    changes, notes = fitting("fast", digits, {"epochs": 3})
    assert changes == {"epochs": 3, "shift": 1, "flip": False}
    assert len(notes) == 2
    assert fitting("fast", digits, {"shift": 2, "flip": True}) == ({"shift": 2, "flip": True}, [])
    assert fitting("merkle-imagenette", colour, {}) == ({}, [])  # it says how far for its own size


def test_a_plan_trains():
    recipe, objective = preset("finetune-fast", epochs=2, shift=0, flip=False, budget=0.05)
    history = train(network(), blobs(), recipe, objective=objective)
    assert len(history) == 2
    assert history[-1].robust_accuracy is not None
