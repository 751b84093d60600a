"""The taxonomy of adversarial pruning: when a method prunes, how, and by what, in the values that the survey knows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from thinice.errors import InputError
from thinice.files import expanded, read_whole
from thinice.leaderboard.model_keys import check_method_key
from thinice.registry import Registry

__all__ = ["PIPELINES", "MethodEntry", "find_methods", "parse_entries", "published_methods", "read_entries"]

LARGEST = 1_000_000
"""Bytes of a file of entries."""
LINK, KEY, PIPELINE = "link_to_paper", "ap_key", "Type of Pipeline:"

TRAININGS = (
    "Adversarial Training (AT) PGD",
    "Adversarial Training (AT) TRADES",
    "Natural Training (NT)",
    "Knowledge Distillation (KD)",
    "KD + FGSM ",
    "FGSM",
    "FAST AT",
    "None",
    "Not Specified",
)
"""How a network is trained, or a step is done; the address of a paper may follow, or stand in its place."""
SCHEDULES = ("1S", "IT")
STRUCTURES = (
    "Unstructured (US)",
    "Structured (S) filters",
    "Structured (S) channels",
    "Structured (S) Kernel",
)
LOCALITIES = ("Global Pruning (G)", "Local Pruning (L)", "Not Specified")
CRITERIA = {
    "Least Importance Score (LIS)": "least importance score",
    "Lowest Weight Magnitude LWM": "lowest weight magnitude",
    "Solver Based LWM (SOLWM)": "solver-based weight magnitude",
    "Sparsity Based LWM (SPALWM)": "sparsity-based weight magnitude",
    "Highest Gradient Magnitude (HGM)": "highest gradient magnitude",
    "Bayesian Connectivity Sampling (BCS)": "Bayesian connectivity sampling",
}
WORDS = {
    "Adversarial Training (AT)": "AT",
    "Natural Training (NT)": "natural training",
    "Knowledge Distillation (KD)": "knowledge distillation",
    "None": "no training",
    "Not Specified": "not specified",
    "1S": "one-shot",
    "IT": "iteratively",
}
"""What people read in the place of these values."""
ADDRESS = re.compile(r"https?://[^\s\"'<>]{4,500}")
TRAINED_WITH = re.compile(rf"(?P<name>.*?)\s*(?P<address>{ADDRESS.pattern})?", re.DOTALL)


class Field(NamedTuple):
    """A key of an entry, exactly as the published file writes it, and the values it may have.

    Of several values, separated by commas, where `many`; the address of a paper is a value where `cited`.
    """

    key: str
    values: tuple[str, ...]
    many: bool = False
    cited: bool = False


class Pipeline(NamedTuple):
    """When a method prunes: letter, published text, a sentence to fill, the keys that only such entries have."""

    letter: str
    text: str
    sentence: str
    fields: tuple[Field, ...]


PIPELINES = (
    Pipeline(
        "A",
        "A-Methods Pruning After Training",
        "after training: {0}, pruned {2}, then {1}",
        (
            Field("A: Pretraining ", TRAININGS, cited=True),
            Field("A: Finetuning", TRAININGS, cited=True),
            Field("A: OneShot (1S) vs Iterative (IT)", SCHEDULES),
        ),
    ),
    Pipeline(
        "B",
        "B-Methods Pruning Before Training",
        "before training: pruned {2} by {0}, then {1}",
        (
            Field("B: Pruning step ", TRAININGS, cited=True),
            Field("B: Training step ", TRAININGS, cited=True),
            Field("B: OneShot (1S) vs Iterative (IT)", SCHEDULES),
        ),
    ),
    Pipeline(
        "D",
        "D-Methods Pruning During Training",
        "during training: {0}",
        (Field("D: Training step ", TRAININGS, cited=True),),
    ),
)
"""There is no letter C."""
SPECIFICS = (
    Field("Pruning structure", STRUCTURES, many=True),
    Field("Pruning locality", LOCALITIES, many=True),
    Field("Pruning criterion", tuple(CRITERIA)),
)


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method in the taxonomy.

    Attributes
    ----------
    key : str
        The whole ``ap_key``; the part before its first underscore is shared by different methods.
    link : str
        Address of the paper.
    pipeline : Pipeline
        When it prunes.
    steps, specifics : mapping of str to str
        The values under the published keys: of the pipeline, and how it prunes.

    Examples
    --------
    >>> entry = published_methods()["HYDRA_Sehwag2020Hydra"]
    >>> entry.pipeline.letter, entry.specifics["Pruning criterion"]
    ('A', 'Least Importance Score (LIS)')
    >>> entry.when
    'after training: AT TRADES, pruned one-shot, then AT TRADES'
    >>> entry.how
    'single weights, local, least importance score'

    """

    key: str
    link: str
    pipeline: Pipeline
    steps: Mapping[str, str]
    specifics: Mapping[str, str]

    @property
    def name(self) -> str:
        """The method's own name, which another method may have as well: ``HYDRA``."""
        return self.key.partition("_")[0]

    @property
    def when(self) -> str:
        """When it prunes, in words."""
        return self.pipeline.sentence.format(*(_in_words(self.steps[field.key]) for field in self.pipeline.fields))

    @property
    def how(self) -> str:
        """How it prunes, in words."""
        structure, locality, criterion = (self.specifics[field.key] for field in SPECIFICS)
        units = [
            "single weights" if "(US)" in part else f"{part.split()[-1].lower()}" for part in structure.split(", ")
        ]
        where = [part.split()[0].lower() for part in locality.split(", ") if part != "Not Specified"]
        return ", ".join([" or ".join(units), " or ".join(where) or "locality not specified", CRITERIA[criterion]])

    @property
    def structures(self) -> frozenset[str]:
        """What of ``US`` and ``S`` it prunes."""
        return frozenset("US" if "(US)" in part else "S" for part in self.specifics["Pruning structure"].split(", "))

    def to_dict(self) -> dict[str, str]:
        """Return the entry as the published file writes it, key by key."""
        return {LINK: self.link, KEY: self.key, PIPELINE: self.pipeline.text, **self.steps, **self.specifics}


def _in_words(step: str) -> str:
    """Return a step as people read it, without the address of its paper."""
    name = ADDRESS.sub("", step).strip()
    for text, words in WORDS.items():
        name = words if name == text else name.replace(f"{text} ", f"{words} ")
    return name or "as another paper"


@cache
def published_methods() -> Mapping[str, MethodEntry]:
    """Return the 26 entries of the published taxonomy, by their key.

    >>> len(published_methods())
    26
    """
    text = files("thinice.leaderboard").joinpath("published_methods.json").read_text(encoding="utf-8")
    return {entry.key: entry for entry in parse_entries(text, "the published taxonomy")}


def find_methods(text: str) -> tuple[MethodEntry, ...]:
    """Return the published entry of a key, or the entries in a file.

    Raises
    ------
    InputError
        For a word that is neither, telling the nearest keys.

    """
    if text in published_methods():
        return (published_methods()[text],)
    if Path(text).suffix or Path(text).exists():
        return read_entries(text)
    Registry("method_entry", {key: ((key,), "") for key in published_methods()}).get(text)
    raise AssertionError(text)  # unknown names raise in `get`


def read_entries(path: str | Path) -> tuple[MethodEntry, ...]:
    """Return the entries in a JSON file: one object, or a list of them.

    Keys and values may differ from the published ones in case, spaces and the colon at the end.

    Raises
    ------
    InputError
        For what cannot be read so, naming file, entry, key, value, and what could stand there.

    """
    path = expanded(path, "method_entry")
    try:
        text = read_whole(path, LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"`method_entry` {path} cannot be read: {reason}") from None
    return parse_entries(text, f"`method_entry` {path}")


def parse_entries(text: str, named: str = "`method_entry`") -> tuple[MethodEntry, ...]:
    """Return the entries in a JSON text; `named` is what errors call it.

    Raises
    ------
    InputError
        As of `read_entries`.

    """
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, named))
    except json.JSONDecodeError as error:
        raise InputError(f"{named} is no JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{named} is nested too deeply: it must be an object, or a list of objects") from None
    objects = content if isinstance(content, list) else [content]
    if not objects or not all(isinstance(entry, dict) for entry in objects):
        raise InputError(f"{named} must be an object, or a list of objects, as docs/benchmark.md shows")
    entries = tuple(_entry(entry, named, number) for number, entry in enumerate(objects, 1))
    twice = [key for key, count in Counter(entry.key for entry in entries).items() if count > 1]
    if twice:
        raise InputError(f"{named} has more than one entry with `ap_key` {twice[0]}: leave one")
    return entries


def _once(pairs: Iterable[tuple[str, Any]], named: str) -> dict[str, Any]:
    """Return an object whose keys stand there once, however they are spelled: by `_plain`."""
    keys = dict[str, Any]()
    for key, value in pairs:
        if _plain(key) in keys:
            raise InputError(f"{named}: {key!r} stands there more than once: leave one")
        keys[_plain(key)] = value
    return keys


def _plain(key: str) -> str:
    """Return a key or value without what may differ: case, spaces around and inside, the colon at the end."""
    return " ".join(key.casefold().split()).removesuffix(":").strip()


def _entry(content: Mapping[str, Any], named: str, number: int) -> MethodEntry:
    """Return an object as an entry, whose keys are `_plain` already."""
    where = f"{named}, entry {number}"
    values = {name: _text(value, where, name) for name, value in content.items()}

    def take(field: Field) -> str:
        if _plain(field.key) not in values:
            raise InputError(f"{where}: {field.key.strip()!r} is missing: give one of {_listed(field)}")
        return _legal(values.pop(_plain(field.key)), field, where)

    for key, what in ((KEY, "Name_FirstauthorYearFirstword"), (LINK, "the address of the paper")):
        if key not in values:
            raise InputError(f"{where}: {key!r} is missing: {what}")
    key, link = values.pop(KEY), values.pop(LINK)
    try:
        check_method_key(key)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if ADDRESS.fullmatch(link) is None:
        raise InputError(f"{where}: {LINK!r} must be the address of the paper, https://…, got {link!r}")
    texts = take(Field(PIPELINE, tuple(pipeline.text for pipeline in PIPELINES)))
    (pipeline,) = [pipeline for pipeline in PIPELINES if pipeline.text == texts]
    steps = {field.key: take(field) for field in pipeline.fields}
    specifics = {field.key: take(field) for field in SPECIFICS}
    if values:
        known = [LINK, KEY, PIPELINE, *(field.key.strip() for field in (*pipeline.fields, *SPECIFICS))]
        raise InputError(
            f"{where}: {next(iter(values))!r} is no key of an entry with pipeline {pipeline.letter}; there are "
            f"{', '.join(known)}"
        )
    return MethodEntry(key, link, pipeline, steps, specifics)


def _text(value: object, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {name!r} must be a text, got {value!r}")
    return value.strip()


def _legal(text: str, field: Field, where: str) -> str:
    """Return a value as the published file writes it: the one that a text means, or several where there may be."""
    parts = text.split(",") if field.many else [text]
    legal = [_value(part.strip(), field, where) for part in parts]
    if len(set(legal)) < len(legal):
        raise InputError(f"{where}: {field.key.strip()!r} names {text!r} twice: leave one")
    return ", ".join(legal)


def _value(text: str, field: Field, where: str) -> str:
    meant = {_plain(name): value for value in field.values for name in _names(value)}
    if _plain(text) in meant:
        return meant[_plain(text)]
    parts = TRAINED_WITH.fullmatch(text) if field.cited else None
    if parts is not None and parts["address"]:
        if not parts["name"]:
            return text
        if _plain(parts["name"]) in meant:
            return f"{meant[_plain(parts['name'])].strip()} {parts['address']}"
    try:
        Registry(field.key.strip(" :"), {value.strip(): ((value,), "") for value in field.values}).get(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    raise AssertionError(text)  # unknown names raise in `get`


def _names(value: str) -> list[str]:
    """Return what a value may be called: as the file writes it, or by its abbreviation alone."""
    short = re.findall(r"\((\w+)\)$|\b(LWM)$", value)
    names = [value, *(name for pair in short for name in pair if name and name != "S")]
    return [*names, "Regularization Based LWM (RELWM)", "RELWM"] if "SPALWM" in value else names


def _listed(field: Field) -> str:
    return ", ".join(value.strip() for value in field.values) or "them"
