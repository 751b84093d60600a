"""`read_study` returns what a YAML file asks for, with every name and value checked before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from thinice.attacks import attack_row, make_attack
from thinice.attacks.fixed_budget import budget_value, is_budget_attack, make_ensemble
from thinice.data import find_dataset
from thinice.errors import InputError
from thinice.files import expanded, read_whole
from thinice.models.architectures import TIMM, TORCHVISION, find_architecture
from thinice.pruning import MERKLE_METHODS, METHODS
from thinice.studies.definition import AttackChoice, MethodChoice, Published, Setup, Study, TrainingChoice
from thinice.studies.entries import EntryReader
from thinice.studies.safe_yaml import Entry, parse_yaml
from thinice.training import check_choice
from thinice.types import NORMS, Norm

__all__ = ["KEYS", "PARTS", "parse_study", "read_study"]

FORM = "an object with `rates`, `methods` and `attacks`, and what they are for, as docs/studies.md shows"
LARGEST = 1_000_000
"""Bytes of such a file."""
MOST_CELLS = 1_000_000
MOST_SEEDS = 1000


def read_study(path: str | Path) -> Study:
    """Return the study that a YAML file describes; nothing is run, downloaded or loaded.

    Needs the extra ``yaml``. docs/studies.md lists the keys.

    Raises
    ------
    InputError
        For a file that cannot be read, and for a key or value that cannot be used: it names file, line, key, value, and
        what could stand there.
    MissingExtraError
        Where PyYAML is not installed, or the library of an attack.

    """
    path = expanded(path, "study")
    try:
        text = read_whole(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`study` {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_study(text, path.stem, str(path))


def parse_study(text: str, name: str, named: str = "study") -> Study:
    r"""Return the study that a text in YAML describes.

    Parameters
    ----------
    text : str
        As in a file of `read_study`.
    name : str
        Of the study, where the text gives none.
    named : str
        What errors call the text.

    Raises
    ------
    InputError, MissingExtraError
        As of `read_study`.

    Examples
    --------
    >>> text = '''
    ... {architecture: digits_cnn, data: digits, training: natural, methods: [magnitude-global-unstructured],
    ...  rates: [1, 2, 4], seeds: 2, attacks: [{attack: pgd, norm: linf, budgets: [8/255, 16/255]}]}
    ... '''
    >>> study = parse_study(text, "small")
    >>> study.cells, study.networks, study.setups[0].name
    (6, 6, 'digits_cnn on digits')

    """
    entry = parse_yaml(text, f"`study` {named}", FORM)
    return _StudyReader(f"`study` {named}", MEANINGS).study(entry, name)


PARTS = (
    *("architecture", "data", "training", "retraining", "samples", "training_samples", "image_size", "skip"),
    *("attacks", "published"),
)
"""Keys of a setup; given beside the setups, they are those of all of them that have no own."""
KEYS = ("name", "seeds", "methods", "rates", "stages", "setups")
SEVERAL = ("architecture", "data", "training")
"""Keys of a setup that may be lists: each combination is a setup."""

MEANINGS: Mapping[str, str] = {
    "methods": "a list of prunings, such as [magnitude-global-unstructured]",
    "rates": "a list of compression rates, such as [1, 2, 4, 8]",
    "architecture": "the name of an architecture, such as cnn5",
    "data": "the name of a data set, such as mnist",
    "training": "a recipe, such as natural or {recipe: natural, epochs: 5}",
    "attacks": "a list such as [{attack: pgd, norm: linf, budgets: [8/255]}]",
    "attack": "its name, such as pgd or tmn",
    "norm": f"one of {', '.join(NORMS)}",
    "budgets": "a list of radii, such as [4/255, 8/255]",
    "recipe": "its name, such as natural",
    "name": "what tables call it",
    "method": "its name, such as magnitude",
    "accuracy": "percent by rate, such as {1: 98.9, 2: 98.7}",
}
"""What each key that must be there stands for: errors say it where one is missing."""


class _StudyReader(EntryReader):
    """Makes a study of the entries of its file."""

    def study(self, entry: Entry, name: str) -> Study:
        if not isinstance(entry.value, dict):
            raise self.error(entry, f"must be {FORM}")
        keys = self.keys(entry, "study", (*KEYS, *PARTS), needed=("methods", "rates"))
        rates = self.rates(keys["rates"])
        stages = self.stages(keys.get("stages"), rates)
        methods = self.methods(keys["methods"], rates)
        shared = {key: keys[key] for key in PARTS if key in keys}
        setups = self.setups(entry, keys.get("setups"), shared, methods)
        study = Study(
            name=self.text(keys["name"], "name") if "name" in keys else name,
            setups=setups,
            methods=methods,
            rates=rates,
            stages=stages,
            seeds=self.seeds(keys["seeds"]) if "seeds" in keys else (0,),
        )
        if study.cells * len(study.seeds) > MOST_CELLS:
            raise self.error(
                entry, f"{study.cells * len(study.seeds):,} cells are more than {MOST_CELLS:,}: leave some out"
            )
        return study

    # what the whole study has

    def rates(self, entry: Entry) -> tuple[float, ...]:
        rates = tuple(self.number(item, "rates") for item in self.items(entry, "rates"))
        if rates[0] != 1:
            raise self.error(entry, "`rates` must begin with 1, the dense network that the others are compared with")
        if list(rates) != sorted(set(rates)):
            raise self.error(entry, f"`rates` must rise, got {_listed(rates)}")
        if len(rates) == 1:
            raise self.error(entry, "`rates` is the dense network alone: add compression rates, such as [1, 2, 4]")
        return rates

    def stages(self, entry: Entry | None, rates: Sequence[float]) -> tuple[float, ...]:
        if entry is None:
            return tuple(rates[1:])
        stages = tuple(self.number(item, "stages") for item in self.items(entry, "stages"))
        missing = [rate for rate in rates[1:] if rate not in stages]
        if missing:
            raise self.error(
                entry, f"`stages` lacks {missing[0]:g}, one of `rates`: it lists all that pruning goes through"
            )
        if list(stages) != sorted(set(stages)) or stages[0] <= 1:
            raise self.error(entry, f"`stages` must rise from above 1, got {_listed(stages)}")
        return tuple(stage for stage in stages if stage <= rates[-1])

    def seeds(self, entry: Entry) -> tuple[int, ...]:
        if isinstance(entry.value, str):
            count = self.whole(entry, "seeds", least=1)
            if count > MOST_SEEDS:
                raise self.error(entry, f"`seeds` must be at most {MOST_SEEDS}, got {count}")
            return tuple(range(count))
        seeds = tuple(self.whole(item, "seeds", least=0) for item in self.items(entry, "seeds"))
        if len(set(seeds)) < len(seeds):
            raise self.error(entry, f"`seeds` must differ, got {_listed(seeds)}")
        return seeds

    def methods(self, entry: Entry, rates: Sequence[float]) -> tuple[MethodChoice, ...]:
        methods = [self.method(item, rates[-1]) for item in self.items(entry, "methods")]
        names = [method.name for method in methods]
        for name in names:
            if names.count(name) > 1 or name == "dense":
                reason = "is what the network before pruning is called" if name == "dense" else "stands there twice"
                raise self.error(entry, f"`methods` {name!r} {reason}: give each another `name`")
        return tuple(methods)

    def method(self, entry: Entry, rate: float) -> MethodChoice:
        if isinstance(entry.value, str):
            row = MERKLE_METHODS.get(entry.value, {"method": entry.value} if entry.value in METHODS else None)
            if row is None:
                known = ", ".join([*MERKLE_METHODS, *METHODS.names()])
                raise self.error(
                    entry,
                    f"`methods` {entry.value!r} is unknown: choose from {known}; or write one out, "
                    "{name: mine, method: magnitude, scope: local}",
                )
            choice = MethodChoice(entry.value, row["method"], {k: v for k, v in row.items() if k != "method"})
        else:
            keys = self.keys(entry, "methods", None, needed=("name", "method"))
            settings = {
                key: self.setting(item) for key, item in keys.items() if key not in {"name", "method", "search"}
            }
            search = self.training(keys["search"], "search") if "search" in keys else None
            choice = MethodChoice(
                self.text(keys["name"], "name"), self.text(keys["method"], "method"), settings, search
            )
            if "sparsity" in settings:
                raise self.error(entry, "`sparsity` of a method follows from `rates`: leave it out")
        with self.at(entry):
            made = choice.made(rate, seed=0, skip="")
            if made.searches:
                search = choice.search or TrainingChoice(made.search_recipe)
                recipe = search.plan(0).recipe
                made.check_search(recipe, recipe.epochs)
                choice = replace(choice, search=search)
            elif choice.search is not None:
                raise InputError(f"`search` changes nothing: method {choice.method!r} finds its masks without training")
        return choice

    # setups

    def setups(
        self, entry: Entry, setups: Entry | None, shared: Mapping[str, Entry], methods: Sequence[MethodChoice]
    ) -> tuple[Setup, ...]:
        made: list[tuple[Entry, Setup]] = []
        for part in [entry] if setups is None else self.items(setups, "setups"):
            own = {} if setups is None else self.keys(part, "setups", ("name", *PARTS), needed=())
            keys = {**shared, **own}
            for key in (*SEVERAL, "attacks"):
                if key not in keys:
                    raise self.error(part, f"`{key}` is missing: {MEANINGS[key]}")
            choices = [
                self.items(keys[key], key) if isinstance(keys[key].value, list) else [keys[key]] for key in SEVERAL
            ]
            for combination in product(*choices):
                each = keys | dict(zip(SEVERAL, combination, strict=True))
                made.append((part, self.setup(each, methods)))
        same = Counter(setup.name for _, setup in made)
        named = dict[str, Setup]()
        for part, setup in made:
            name = setup.name if same[setup.name] == 1 else f"{setup.name}, {setup.training.label}"
            if name in named:
                raise self.error(part, f"`setups` has {name!r} twice: leave one out, or give each a `name`")
            named[name] = replace(setup, name=name)
        return tuple(named.values())

    def setup(self, keys: Mapping[str, Entry], methods: Sequence[MethodChoice]) -> Setup:
        architecture, data = self.text(keys["architecture"], "architecture"), self.text(keys["data"], "data")
        if ":" in architecture and not architecture.startswith((TORCHVISION, TIMM)):
            raise self.error(
                keys["architecture"],
                f"`architecture` {architecture} is your own code, and a study file runs nobody's code: give a name of "
                "`thinice train --help`, or make and compare your own networks by `thinice train --architecture`, "
                "`thinice prune` and `thinice compare`",
            )
        with self.at(keys["architecture"]):
            shape = find_architecture(architecture).input_shape
        with self.at(keys["data"]):
            find_dataset(data)
        training = self.training(keys["training"], "training")
        attacks = tuple(self.attack(item, shape) for item in self.items(keys["attacks"], "attacks"))
        points = Counter(attack.label(budget) for attack in attacks for budget in attack.budgets)
        for point, count in points.items():
            if count > 1:
                raise self.error(keys["attacks"], f"`attacks` has {point} twice: leave one out")
        counts = {
            key: self.whole(keys[key], key, least=1) if key in keys else None
            for key in ("samples", "training_samples", "image_size")
        }
        return Setup(
            name=self.text(keys["name"], "name") if "name" in keys else f"{architecture} on {data}",
            architecture=architecture,
            data=data,
            training=training,
            retraining=self.training(keys["retraining"], "retraining") if "retraining" in keys else training,
            attacks=attacks,
            **counts,
            skip=self.text(keys["skip"], "skip") if "skip" in keys else "",
            published=self.published(keys.get("published"), methods, shape),
        )

    def training(self, entry: Entry, key: str) -> TrainingChoice:
        if isinstance(entry.value, str):
            choice = TrainingChoice(self.text(entry, key))
        else:
            keys = self.keys(entry, key, None, needed=("recipe",))
            if "seed" in keys:
                raise self.error(keys["seed"], f"`seed` of `{key}` is that of the study: give `seeds`")
            changes = {name: self.setting(item) for name, item in keys.items() if name not in {"recipe", "objective"}}
            objective = self.text(keys["objective"], "objective") if "objective" in keys else None
            choice = TrainingChoice(self.text(keys["recipe"], "recipe"), objective, changes)
        with self.at(entry):
            plan = choice.plan(0)
            check_choice(plan.recipe, plan.objective, holds_out=plan.recipe.held_out > 0)
        return choice

    def attack(self, entry: Entry, shape: tuple[int, int, int] | None) -> AttackChoice:
        keys = self.keys(entry, "attacks", None, needed=("attack", "norm", "budgets"))
        attack, norm = self.text(keys["attack"], "attack"), self.norm(keys["norm"])
        with self.at(keys["attack"]):
            at_budget = is_budget_attack(attack)
        budgets = []
        for item in self.items(keys["budgets"], "budgets"):
            with self.at(item):
                budgets.append(self.budget(item, norm, shape))
        if len(set(budgets)) < len(budgets):
            raise self.error(keys["budgets"], f"`budgets` must differ, got {_listed(sorted(budgets))}")
        settings = {key: self.setting(item) for key, item in keys.items() if key not in {"attack", "norm", "budgets"}}
        for key, value in settings.items():
            usual = attack_row(attack).defaults.get(key)
            if isinstance(usual, int | float) and not isinstance(value, int | float):
                raise self.error(keys[key], f"`{key}` of {attack} must be a number such as {usual}, got {value!r}")
        choice = AttackChoice(attack, norm, tuple(sorted(budgets)), settings)
        with self.at(entry):
            if at_budget:
                known: dict[str, Any] = {"classes": 10, "shape": shape or (3, 224, 224)}
                make_ensemble(attack, norm=norm, budget=choice.budgets[0], **known, **settings)  # type: ignore[arg-type]  # checked there
            else:
                make_attack(attack, norm=norm, **settings)  # type: ignore[arg-type]  # checked there
        return choice

    def published(
        self, entry: Entry | None, methods: Sequence[MethodChoice], shape: tuple[int, int, int] | None
    ) -> tuple[Published, ...]:
        if entry is None:
            return ()
        return tuple(self.publication(item, methods, shape) for item in self.items(entry, "published"))

    def publication(
        self, entry: Entry, methods: Sequence[MethodChoice], shape: tuple[int, int, int] | None
    ) -> Published:
        known = ("method", "norm", "budget", "accuracy", "source")
        keys = self.keys(entry, "published", known, needed=("method", "accuracy"))
        method = self.text(keys["method"], "method")
        if method not in [choice.name for choice in methods]:
            names = ", ".join(choice.name for choice in methods)
            raise self.error(keys["method"], f"`method` {method!r} is none of `methods`: {names}")
        norm, budget = None, None
        if "norm" in keys or "budget" in keys:
            if not {"norm", "budget"} <= set(keys):
                raise self.error(entry, "`norm` and `budget` go together; the clean accuracy has neither")
            norm = self.norm(keys["norm"])
            with self.at(keys["budget"]):
                budget = self.budget(keys["budget"], norm, shape)
        accuracy = {}
        for rate, item in self.keys(keys["accuracy"], "accuracy", None, needed=()).items():
            percent = self.number(item, "accuracy")
            if not 0 <= percent <= 100:
                raise self.error(item, f"`accuracy` must be percent, from 0 to 100, got {percent:g}")
            accuracy[self.number(Entry(rate, item.line), "accuracy")] = percent / 100
        source = self.text(keys["source"], "source") if "source" in keys else ""
        return Published(method, norm, budget, accuracy, source)

    def budget(self, entry: Entry, norm: Norm, shape: tuple[int, int, int] | None) -> float:
        value = self.number(entry, "budget")
        return budget_value(int(value) if value.is_integer() else value, norm, shape)

    def norm(self, entry: Entry) -> Norm:
        text = self.text(entry, "norm")
        for norm in NORMS:
            if norm == text:
                return norm
        raise self.error(entry, f"`norm` must be one of {', '.join(NORMS)}, got {text!r}")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
