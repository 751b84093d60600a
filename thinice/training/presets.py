"""Named recipes: those of the papers behind this project, and short ones for a machine without a GPU.

What a paper does not say is thinice's default. Budgets that papers write as 0.031 are 8/255 here, and steps of 0.0078
are 2/255. Papers that choose an epoch choose it on test samples; here a tenth of the training samples chooses.

The short searches (``hydra-prune-short`` and the like) have a tenth of the authors' epochs or less. Their rates are
those that left the most robust networks in 5 epochs, on held-out training images: CNN5 on 2000 images of MNIST, and the
small network for digits, at 90 to 99 %. HYDRA's is the authors'; at theirs, rates of HARP and factors of ATMC hardly
move in so short a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from thinice.errors import InputError
from thinice.registry import Registry
from thinice.training.loop import Objective
from thinice.training.objectives import OBJECTIVES
from thinice.training.recipe import Recipe

if TYPE_CHECKING:
    from thinice.data import Samples

__all__ = ["RECIPES", "Plan", "Preset", "fitted_preset", "fitting", "preset", "settings_of", "settings_of_objective"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A named recipe: settings of `Recipe`, an objective and its settings, and what they are for."""

    recipe: Mapping[str, Any]
    objective: str = "natural"
    settings: Mapping[str, Any] = field(default_factory=dict)


class Plan(NamedTuple):
    """What `thinice.training.train` needs beside network and samples."""

    recipe: Recipe
    objective: Objective


DIGITS = ("digits", "mnist", "svhn")
"""Data sets whose images mean something else, or nothing, in a mirror."""
USUAL_SIDE = 32
"""Pixels of the images that recipes are made for."""
CIFAR = {"shift": 4, "flip": True}
PAPER = {"nesterov": False, **CIFAR, "held_out": 0.1, "select": "robust"}
SHORT = {"schedule": "one-cycle", "held_out": 0.05, **CIFAR}
PGD_10 = {"budget": 8 / 255, "steps": 10, "step_size": 2 / 255}
MERKLE = {
    "epochs": 150,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "plateau",
    "plateau_patience": 12,
    "decay": 0.3,
    "min_learning_rate": 1e-5,
    "held_out": 0.1,
    "select": "loss",
    "patience": 15,
    "flip": True,
}


def _row(
    summary: str, recipe: Mapping[str, Any], objective: str = "natural", settings: Mapping[str, Any] | None = None
) -> tuple[str | Preset, str]:
    return Preset(recipe, objective, settings or {}), summary


_HYDRA = {**PAPER, "weight_decay": 1e-4}
_RADMM = {**PAPER, "weight_decay": 1e-4, "epochs": 200}
_ATMC = {**PAPER, "weight_decay": 1e-4, "epochs": 200}
_MIXED = {"budget": 4 / 255, "steps": 7, "step_size": 1.25 * 4 / 255 / 7, "start": "none", "mode": "train"}
_SEARCH_SHORT = {"epochs": 10, "held_out": 0.05, "select": "robust", **CIFAR}
_TENTHS = {"schedule": "step", "decay": 0.1}
_ANEW = {
    "schedule": "restarts",
    "milestones": tuple(part / 10 for part in range(1, 10)),
    "select": "last",  # weights are pulled towards fewer ones: the last epoch is the one that got there
}

RECIPES: Registry[Preset] = Registry(
    "recipe",
    {
        "natural": _row("30 epochs of SGD along a cosine", {"epochs": 30, **CIFAR}),
        "fast": _row(
            "15 epochs of fast adversarial training at 8/255",
            {"epochs": 15, "learning_rate": 0.2, "nesterov": False, **SHORT},
            "fast",
        ),
        "pgd": _row(
            "20 epochs of adversarial training by 7 steps at 8/255",
            {"epochs": 20, "select": "robust", **SHORT},
            "pgd",
            {"steps": 7},
        ),
        "trades": _row(
            "20 epochs of TRADES at 8/255", {"epochs": 20, "select": "robust", **SHORT}, "trades", {"steps": 7}
        ),
        "mart": _row("20 epochs of MART at 8/255", {"epochs": 20, "select": "robust", **SHORT}, "mart", {"steps": 7}),
        "finetune": _row(
            "10 epochs after pruning, from a tenth of the usual rate", {"epochs": 10, "learning_rate": 0.01, **CIFAR}
        ),
        "finetune-fast": _row(
            "the same by fast adversarial training at 8/255",
            {"epochs": 10, "learning_rate": 0.02, "held_out": 0.05, **CIFAR},
            "fast",
        ),
        "finetune-pgd": _row(
            "the same by adversarial training with 7 steps at 8/255",
            {"epochs": 10, "learning_rate": 0.01, "held_out": 0.05, "select": "robust", **CIFAR},
            "pgd",
            {"steps": 7},
        ),
        "merkle-mnist": _row(
            "Merkle et al., CNN5 on MNIST: Adam until the held-out loss stays for 5 epochs",
            MERKLE | {"epochs": 500, "batch_size": 64, "schedule": "constant", "patience": 5, "flip": False},
        ),
        "merkle-cifar10": _row(
            "Merkle et al., networks for CIFAR-10: rate and stop by the held-out loss", {**MERKLE, "shift": 6}
        ),
        "merkle-imagenette": _row("Merkle et al., ResNet18 on Imagenette", {**MERKLE, "shift": 60}),
        "hydra-pretrain": _row("HYDRA, dense network: TRADES", {**_HYDRA, "epochs": 100}, "trades", PGD_10),
        "hydra-prune": _row("HYDRA, search of the masks: TRADES", {**_HYDRA, "epochs": 20}, "trades", PGD_10),
        "hydra-prune-short": _row("the same in 10 epochs of 7 steps", _SEARCH_SHORT, "trades", {"steps": 7}),
        "hydra-finetune": _row(
            "HYDRA, after pruning: TRADES", {**_HYDRA, "epochs": 100, "learning_rate": 0.01}, "trades", PGD_10
        ),
        "harp-pretrain": _row("HARP, dense network: PGD", {**PAPER, "epochs": 100}, "pgd", PGD_10),
        "harp-prune": _row("HARP, search of the masks: PGD", {**PAPER, "epochs": 20}, "pgd", PGD_10),
        "harp-prune-short": _row(
            "the same in 10 epochs of 7 steps, from a larger rate",
            {**_SEARCH_SHORT, "learning_rate": 0.3},
            "pgd",
            {"steps": 7},
        ),
        "harp-finetune": _row(
            "HARP, after pruning: PGD", {**PAPER, "epochs": 100, "learning_rate": 0.01}, "pgd", PGD_10
        ),
        "radmm-pretrain": _row("R-ADMM, dense network: PGD", _RADMM, "pgd", {**PGD_10, "mode": "train"}),
        "radmm-prune": _row(
            "R-ADMM, while pruning: PGD, rate anew for each tenth, x 0.1 after each third of it",
            {**_RADMM, "learning_rate": 0.01, **_ANEW},
            "pgd",
            {**PGD_10, "mode": "train"},
        ),
        "radmm-prune-short": _row(
            "the same in 10 epochs of 7 steps, rate along a cosine",
            {"epochs": 10, "learning_rate": 0.02, "held_out": 0.05, **CIFAR},
            "pgd",
            {"steps": 7},
        ),
        "radmm-finetune": _row(
            "R-ADMM, after pruning: PGD, rate x 0.1 at 40 and 75 %",
            {**_RADMM, **_TENTHS, "learning_rate": 0.01, "milestones": (0.4, 0.75)},
            "pgd",
            {**PGD_10, "mode": "train"},
        ),
        "atmc-pretrain": _row(
            "ATMC, dense network: samples and crafted inputs, at 4/255",
            {**_ATMC, "learning_rate": 0.05},
            "mixed",
            _MIXED,
        ),
        "atmc-prune": _row(
            "ATMC, while pruning: the same, from a smaller rate", {**_ATMC, "learning_rate": 0.01}, "mixed", _MIXED
        ),
        "atmc-prune-short": _row(
            "the same in 10 epochs at 8/255",
            {"epochs": 10, "learning_rate": 0.02, "held_out": 0.05, "select": "robust", **CIFAR},
            "mixed",
            {"steps": 7},
        ),
        "radmm-mnist": _row(
            "R-ADMM on MNIST: PGD of 40 steps at 0.3",
            {**_RADMM, "shift": 0, "flip": False},
            "pgd",
            {"budget": 0.3, "steps": 40, "step_size": 0.01, "mode": "train"},
        ),
        "flyingbird": _row(
            "FlyingBird: PGD, rate x 0.1 at 50 and 75 %", {**PAPER, **_TENTHS, "epochs": 200}, "pgd", PGD_10
        ),
        "rst": _row("RST: PGD, scores alone", {**PAPER, "epochs": 160, "batch_size": 256}, "pgd", PGD_10),
        "robustbird": _row(
            "RobustBird, after the ticket: PGD, rate x 0.1 at 25 and 75 %",
            {**PAPER, **_TENTHS, "epochs": 200, "milestones": (0.25, 0.75)},
            "pgd",
            PGD_10,
        ),
        "mad": _row(
            "MAD: PGD at 0.03, rate x 0.1 at 50 and 75 %",
            {**PAPER, **_TENTHS, "epochs": 60, "weight_decay": 2e-4},
            "pgd",
            {"budget": 0.03, "steps": 10, "step_size": 0.03 / 10 * 2.3},
        ),
    },
    listed="thinice train --help",
)
"""Recipes by name; images are taken for 32x32 in colour: moved by 4 pixels, and mirrored."""


def settings_of(kind: type) -> tuple[str, ...]:
    """Return the settings of a recipe or an objective: the fields of its class.

    Examples
    --------
    >>> from thinice.training.natural import Natural
    >>> settings_of(Natural)
    ('label_smoothing',)

    """
    return tuple(entry.name for entry in fields(kind) if entry.init)


def preset(name: str, /, *, objective: str | None = None, **changes: object) -> Plan:
    """Return the recipe and the objective of a name, with some of their settings changed.

    Parameters
    ----------
    name : str
        In `RECIPES`.
    objective : str, optional
        Another objective than the named recipe has; of its settings those are kept that the other knows as well, but
        for the number and length of steps.
    **changes
        Settings of `Recipe` or of the objective.

    Raises
    ------
    InputError
        For a name or a setting that is unknown, and a value that cannot be used.

    Examples
    --------
    >>> recipe, objective = preset("hydra-finetune", epochs=5, beta=4.0)
    >>> recipe.epochs, recipe.learning_rate, objective.beta, round(objective.budget * 255)
    (5, 0.01, 4.0, 8)

    """
    row = RECIPES.get(name)
    chosen = row.objective if objective is None else objective
    known, own = settings_of(Recipe), settings_of_objective(chosen)
    unknown = [change for change in changes if change not in known and change not in own]
    if unknown:
        raise InputError(
            f"`{unknown[0]}` is no setting of recipe {name!r} with objective {chosen!r}: there are "
            f"{', '.join([*known, *own])}"
        )
    settings = {key: value for key, value in row.settings.items() if key in own}
    if chosen != row.objective:
        settings = {key: value for key, value in settings.items() if key not in {"steps", "step_size"}}
    settings |= {key: value for key, value in changes.items() if key in own}
    recipe = Recipe(**{**row.recipe, **{key: value for key, value in changes.items() if key in known}})
    return Plan(recipe, OBJECTIVES.make(chosen, **settings))


def fitting(name: str, samples: Samples, changes: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the changes with those that make the augmentation of a named recipe fit the images, and notes on them.

    Recipes are made for photographs of 32x32 pixels: smaller images move less, larger ones more, and digits are not
    mirrored. What the caller changes stays.
    """
    row, changes, notes = RECIPES.get(name).recipe, dict(changes), []
    side, shift = min(samples.inputs.shape[-2:]), row.get("shift", 0)
    if shift == CIFAR["shift"] and "shift" not in changes and side != USUAL_SIDE:
        changes["shift"] = shift * side // USUAL_SIDE
        notes.append(f"shift {changes['shift']}: recipe {name!r} moves images of {USUAL_SIDE} pixels by {shift}")
    if row.get("flip") and "flip" not in changes and samples.name in DIGITS:
        changes["flip"] = False
        notes.append(f"flip off: images of {samples.name} are not mirrored")
    return changes, notes


def fitted_preset(
    name: str, samples: Samples, /, *, objective: str | None = None, **changes: object
) -> tuple[Plan, list[str]]:
    """Return what `preset` makes of a name and changes, with an augmentation that fits the images, and notes on that.

    Examples
    --------
    >>> from thinice.data import load_samples
    >>> plan, notes = fitted_preset("finetune", load_samples("digits"), epochs=5)
    >>> plan.recipe.epochs, plan.recipe.shift, notes[0]
    (5, 1, "shift 1: recipe 'finetune' moves images of 32 pixels by 4")

    """
    preset(name, objective=objective, **changes)  # unknown names are told before any fitting is
    fitted, notes = fitting(name, samples, changes)
    return preset(name, objective=objective, **fitted), notes


def settings_of_objective(name: str) -> tuple[str, ...]:
    """Return the settings of an objective by name; none where a function makes it."""
    kind = OBJECTIVES.get(name)
    return settings_of(kind) if isinstance(kind, type) else ()
