"""`Study`: what a study asks for, which is networks, prunings, attacks and budgets; `study_file` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thinice.attacks.fixed_budget import budget_text, is_budget_attack
from thinice.pruning import METHODS, PruningMethod, sparsity_of
from thinice.studies.entries import Setting
from thinice.training import preset
from thinice.training.presets import fitting
from thinice.types import Norm

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.training import Plan

__all__ = ["AttackChoice", "MethodChoice", "Published", "Setup", "Study", "TrainingChoice"]


@dataclass(frozen=True, slots=True)
class TrainingChoice:
    """How networks are trained: a named recipe with some of its settings changed.

    Attributes
    ----------
    recipe : str
        A name of `thinice.training.RECIPES`.
    objective : str, optional
        Another objective than the recipe's.
    changes : mapping
        Settings of recipe and objective.

    """

    recipe: str
    objective: str | None = None
    changes: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call it: ``merkle-mnist, epochs=5``."""
        parts = [self.recipe, *([] if self.objective is None else [self.objective])]
        return ", ".join([*parts, *(f"{name}={value}" for name, value in self.changes.items())])

    def plan(self, seed: int, samples: Samples | None = None) -> Plan:
        """Return recipe and objective for a seed, with the augmentation that fits the samples."""
        changes: Mapping[str, object] = self.changes
        if samples is not None:
            changes, _ = fitting(self.recipe, samples, self.changes)
        return preset(self.recipe, objective=self.objective, **{**changes, "seed": seed})


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """A way of pruning: its name in tables, the name in `thinice.pruning.METHODS`, its settings, and how it searches.

    `search` is None for a method that finds its masks without training.
    """

    name: str
    method: str
    settings: Mapping[str, Setting] = field(hash=False)
    search: TrainingChoice | None = field(default=None, hash=False)

    def made(self, rate: float, *, seed: int, skip: str) -> PruningMethod:
        """Return the method for a compression rate.

        A method that knows a seed or patterns to skip gets those of the study; its own seed goes first, and what it
        skips itself is skipped as well.
        """
        settings: dict[str, object] = dict(self.settings)
        known = getattr(METHODS.get(self.method), "__dataclass_fields__", {})
        if "seed" in known:
            settings.setdefault("seed", seed)
        if "skip" in known and skip:
            settings["skip"] = ",".join(str(part) for part in (self.settings.get("skip"), skip) if part)
        return METHODS.make(self.method, **settings, sparsity=sparsity_of(rate))


@dataclass(frozen=True, slots=True)
class AttackChoice:
    """An attack with its settings, and the budgets at which it decides which samples are robust."""

    attack: str
    norm: Norm
    budgets: tuple[float, ...]
    settings: Mapping[str, Setting]

    @property
    def minimises(self) -> bool:
        """Whether it measures distances, and so answers for all budgets at once."""
        return not is_budget_attack(self.attack)

    def label(self, budget: float) -> str:
        """Return what tables call it at a budget: ``pgd linf 8/255``."""
        return f"{self.attack} {self.norm} {budget_text(budget, self.norm)}"


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication says: accuracies, as shares, by compression rate.

    Attributes
    ----------
    method : str
        Name of the method.
    norm, budget
        Of a robust accuracy; None for the clean one.
    accuracy : mapping of float to float
        By rate.
    source : str
        Where it says so, for tables; may be empty.

    """

    method: str
    norm: Norm | None
    budget: float | None
    accuracy: Mapping[float, float]
    source: str


@dataclass(frozen=True, slots=True)
class Setup:
    """One part of a study: an architecture on a data set, trained in one way, with its attacks.

    Attributes
    ----------
    name : str
        What tables call it.
    architecture, data : str
        Names; the data set is trained on in its split ``train``, and attacked in ``test``.
    training, retraining : TrainingChoice
        Of the dense network, and after each pruning.
    attacks : tuple of AttackChoice
        In the order of the file.
    samples, training_samples, image_size : int, optional
        How many samples are attacked and trained on; by default all. The size of images of a folder.
    skip : str
        Patterns of the names of weights that are never pruned.
    published : tuple of Published
        What is to be shown beside the measured numbers.

    """

    name: str
    architecture: str
    data: str
    training: TrainingChoice
    retraining: TrainingChoice
    attacks: tuple[AttackChoice, ...]
    samples: int | None = None
    training_samples: int | None = None
    image_size: int | None = None
    skip: str = ""
    published: tuple[Published, ...] = ()

    @property
    def points(self) -> tuple[tuple[AttackChoice, float], ...]:
        """All attacks with each of their budgets."""
        return tuple((attack, budget) for attack in self.attacks for budget in attack.budgets)


@dataclass(frozen=True, slots=True)
class Study:
    """A grid: setups x methods x rates x attacks x budgets, each made anew for every seed.

    Attributes
    ----------
    name : str
        What the store calls it.
    setups : tuple of Setup
        Architectures, data and training.
    methods : tuple of MethodChoice
        How networks are pruned.
    rates : tuple of float
        Compression rates that are measured, rising; the first is 1, the dense network.
    stages : tuple of float
        All rates that pruning goes through, rising, from above 1.
    seeds : tuple of int
        Of weights, training and pruning; everything is made once for each.

    """

    name: str
    setups: tuple[Setup, ...]
    methods: tuple[MethodChoice, ...]
    rates: tuple[float, ...]
    stages: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def cells(self) -> int:
        """Points of its tables: setups x methods x rates x attacks and budgets; each is a mean over the seeds."""
        return sum(len(setup.points) for setup in self.setups) * len(self.methods) * len(self.rates)

    @property
    def networks(self) -> int:
        """Networks that are made: for each setup and seed a dense one, and for each method one a stage.

        A method that searches goes in no stages: of it there is one a rate.
        """
        pruned = sum(len(self.rates) - 1 if method.search else len(self.stages) for method in self.methods)
        return len(self.setups) * len(self.seeds) * (1 + pruned)
