"""The options that `measure`, `compare` and `evaluate` share with the command line: each is declared here, once.

A field of a group says of an option its type, its default, what it means, and how it is typed in a terminal; one
without an `Option` exists in Python alone. The functions take the groups as keyword arguments, the commands as options
(`thinice.cli.options`). Any other keyword is a setting of the attack, such as ``restarts=8``: which there are depends
on the attack, which checks them; type checkers know ``steps`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar, cast, get_type_hints

from thinice.errors import InputError
from thinice.types import DEFAULT_ATTACK, Basis, Distances, Effort, Norm, Precision

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thinice.attacks import Attack
    from thinice.data import Samples
    from thinice.engines import BatchSize, Engine, Reporter
    from thinice.models import Classifier
    from thinice.store import Store

    AttackLike = str | Attack
    Budget = float | str | None
    Network = Classifier | nn.Module | str | Path
    ControlLike = Network | Sequence[Network] | None
    Device = str | torch.device
    EngineLike = str | Engine
    SkipKnown = bool | Literal["both"]
    SlurmLike = Mapping[str, object] | None
    StoreLike = str | Path | Store | None
else:  # what is typed in a terminal
    AttackLike = Budget = BatchSize = Device = EngineLike = str
    SkipKnown = Literal["on", "off", "both"]
    ControlLike = SlurmLike = list[str]
    StoreLike = Path
    Reporter = Samples = object

__all__ = [
    "NOISE",
    "CertifyOptions",
    "CompareOptions",
    "EvaluateOptions",
    "MeasureAllOptions",
    "MeasureOptions",
    "Option",
    "RunOptions",
    "SearchOptions",
    "ShardOptions",
    "SkipKnown",
    "StoreOptions",
    "StoredMeasureOptions",
    "attack_names",
    "checks_help",
    "chosen",
    "declared",
    "key_values",
    "search_options",
]

NOISE = "noise"
"""The control that thinice makes itself."""
SKIP_KNOWN: dict[str, bool | str] = {"on": True, "off": False, "both": "both"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes
    ----------
    default
        In Python.
    help
        What it means: a sentence, or a function that makes it of a registry when somebody asks.
    flag : str
        How it is typed; by default its name.
    typed
        The default in a terminal; by default that in Python.
    read : callable, optional
        Makes of what was typed what Python takes.
    metavar, min
        What a help text shows in place of the value, and the least value.

    """

    default: Any
    help: str | Callable[[], str]
    flag: str = ""
    typed: Any = None
    read: Callable[[Any], Any] | None = None
    metavar: str | None = None
    min: float | None = None


def attack_names(*kinds: str) -> str:
    """Return the attacks of some kinds as a help text lists them, from the registry of attacks."""
    from thinice.attacks import ATTACKS  # noqa: PLC0415 - commands that only read need none

    return ", ".join(ATTACKS.names(*kinds))


def _engines() -> str:
    from thinice.engines import ENGINES  # noqa: PLC0415 - imports torch

    return "Where the work is done: " + "; ".join(f"{name}, {what}" for name, what in ENGINES.summaries().items()) + "."


def _batch_size(text: str) -> int | str:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"`--batch-size` must be auto or a whole number of at least 1, got {text!r}")
    return int(text)


def key_values(texts: Sequence[str]) -> dict[str, str]:
    """Return what was typed as KEY=VALUE.

    >>> key_values(["partition=gpu", "gres=gpu:1"])
    {'partition': 'gpu', 'gres': 'gpu:1'}
    """
    for text in texts:
        if not all(text.partition("=")):
            raise InputError(f"`--slurm` must be KEY=VALUE, got {text!r}")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def checks_help() -> str:
    """Return what ``--checks`` looks for, from the registry of checks."""
    from thinice.checks import CHECKS  # noqa: PLC0415 - imports results

    names = ", ".join(CHECKS.names("network", "attack"))
    return f"Look for signs that the evaluation cannot be trusted, and warn of them: {names}."


class SearchOptions(TypedDict, total=False):
    """How an attack searches."""

    norm: Annotated[Norm, Option("linf", "Norm of the perturbation.")]
    effort: Annotated[Effort, Option("standard", "How much to spend on each sample.")]
    steps: Annotated[int, Option(None, "Steps of the attack, instead of the effort's.", min=1)]
    precision: Annotated[
        Precision,
        Option(
            "float32",
            "Arithmetic of the search: tf32 (CUDA) and bf16 are faster; what is found is verified in float32.",
        ),
    ]
    seed: Annotated[int, Option(0, "Repeats the result.", min=0)]


class RunOptions(TypedDict, total=False):
    """How networks run."""

    device: Annotated[Device, Option("auto", "auto, cpu, cuda or cuda:K.")]
    batch_size: Annotated[
        BatchSize,
        Option("auto", "Samples at a time; auto halves when memory runs out.", read=_batch_size, metavar="auto|N"),
    ]
    compiled: Annotated[
        bool, Option(False, "Search in a network compiled by torch.compile; pays in long runs.", "--compile")
    ]
    deterministic: Annotated[
        bool,
        Option(
            False,
            "Only operations of torch that give the same bits each time, slower on CUDA; one that has no such form "
            "there is an error. On one kind of CPU, with as many threads, the bits are the same anyway.",
            "--deterministic",
        ),
    ]
    engine: Annotated[EngineLike, Option("local", _engines)]
    workers: Annotated[
        int,
        Option(
            None,
            "Processes of this machine that compute, each with its share of the threads, or of several GPUs with one: "
            "--engine processes. A batch goes to one of them: of fewer samples than N batches, lower --batch-size. The "
            "results are those of one process, to the bit, at the same batch size.",
            metavar="N",
            min=1,
        ),
    ]
    address: Annotated[
        str,
        Option(
            None,
            "Only with --engine ray: the Ray cluster to join, or auto for that of RAY_ADDRESS or of this machine. No "
            "cluster is joined without: one is started for this run alone.",
            metavar="HOST:PORT",
        ),
    ]
    slurm: Annotated[
        SlurmLike,
        Option(
            None,
            "Only with --engine slurm, once for each: an option of sbatch for the jobs, partition=gpu, account=NAME, "
            "time=2:00:00, gres=gpu:1. At most --workers jobs run at a time.",
            metavar="KEY=VALUE",
            read=key_values,
        ),
    ]
    jobs: Annotated[
        Path,
        Option(
            None,
            "Only with --engine slurm: the folder through which the jobs answer, one of yours that all nodes see. By "
            "default the current one.",
            metavar="DIR",
        ),
    ]


class StoreOptions(TypedDict, total=False):
    """Where results are kept, and what is noted as their origin."""

    store: Annotated[
        StoreLike,
        Option(None, "The DuckDB file that keeps everything measured.", typed=Path("thinice.duckdb"), metavar="PATH"),
    ]
    command: Sequence[str] | None


class MeasureOptions(SearchOptions, RunOptions, total=False):
    """Options of `measure`."""

    attack: Annotated[AttackLike, Option(DEFAULT_ATTACK, lambda: f"{attack_names('minimum norm', 'backend')}.")]
    progress: Reporter | bool


class CertifyOptions(TypedDict, total=False):
    """Whether distances are bounded from below, too."""

    certify: Annotated[
        bool,
        Option(
            False,
            "Also prove a radius within which each sample has no adversarial at all, where the network (in a "
            "comparison the dense one; with --distances both the pruned one too) is made of linear layers, "
            "convolutions, batch norm, ReLU and pools; not in l0.",
            "--certify",
        ),
    ]
    certify_hours: Annotated[
        float,
        Option(1.0, "Only with --certify: proofs of a network that would take longer are refused.", metavar="H", min=0),
    ]


class StoredMeasureOptions(MeasureOptions, StoreOptions, CertifyOptions, total=False):
    """Options of `measure_all` and `compare`."""


class ShardOptions(TypedDict, total=False):
    """Which part of the samples is measured."""

    shard: Annotated[
        str,
        Option(
            None,
            "Measure the I-th of N parts of the samples alone, I from 1 to N, whole batches each: in an array of jobs, "
            "$SLURM_ARRAY_TASK_ID/N, each with a --store of its own; then thinice merge.",
            metavar="I/N",
        ),
    ]


class MeasureAllOptions(StoredMeasureOptions, ShardOptions, total=False):
    """Options of `measure_all`."""


class CompareOptions(StoredMeasureOptions, total=False):
    """Options of `compare`."""

    distances: Annotated[
        Distances,
        Option(
            "dense",
            "Epsilons of the dense network alone, or of both, with how far behind the pruned one's boundary lost "
            "samples lie; both take as long again.",
        ),
    ]
    basis: Annotated[Basis, Option("clean", "What correct means: right on the clean sample, or robust at a budget.")]
    budget: Annotated[
        Budget, Option(None, "Only with --basis robust: radius on the [0, 1] scale: 8/255, 0.5.", metavar="RADIUS")
    ]
    control: Annotated[
        ControlLike,
        Option(
            None,
            "What the AUC is held against, for any change of a network loses thin ice: a checkpoint, as of another "
            "seed, once for each; or noise: five networks with noise on the weights, scaled until they change as many "
            "predictions as pruning does, for about 20 forward passes a sample. Needs no attack.",
            metavar="FILE|noise",
        ),
    ]
    gradient_norms: Annotated[
        bool,
        Option(
            False,
            "Compute the norm of each sample's loss gradient too, a predictor beside epsilon, for one pass a sample, "
            "one by one; once in the store, it is always shown.",
            "--gradient-norms",
        ),
    ]
    robust_by: Annotated[
        str | None,
        Option(
            None,
            lambda: (
                "Only with --basis robust: the attack that decides which samples are robust: "
                f"{attack_names('fixed budget', 'backend')}. Default: the distances measured by --attack."
            ),
            metavar="ATTACK",
        ),
    ]


class EvaluateOptions(SearchOptions, RunOptions, StoreOptions, total=False):
    """Options of `evaluate`."""

    attack: Annotated[
        AttackLike,
        Option(
            "autoattack",
            lambda: (
                f"At a budget: {attack_names('fixed budget', 'backend')}. Or one that minimises the norm, which "
                f"answers for all budgets: {attack_names('minimum norm', 'backend')}."
            ),
        ),
    ]
    skip_known: Annotated[
        SkipKnown,
        Option(
            True,
            "on: samples that the store knows an adversarial for, within the budget and by any attack, are not "
            "attacked again. off: all are. both: all are, and the accuracy is told with and without them.",
            typed="on",
            read=SKIP_KNOWN.__getitem__,
        ),
    ]
    checks: Annotated[
        bool,
        Option(True, checks_help, "--checks/--no-checks"),
    ]
    tune_on: Samples | None
    progress: Reporter | bool


Group = TypeVar("Group")


def declared(group: type[Any]) -> dict[str, tuple[Any, Option]]:
    """Return the options of a group, by name: the type of what is typed, and the `Option`.

    >>> declared(StoreOptions)["store"][1].typed
    PosixPath('thinice.duckdb')
    """
    hints = get_type_hints(group, include_extras=True)
    return {
        name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items() if hasattr(hint, "__metadata__")
    }


def chosen(group: type[Group], options: Mapping[str, object]) -> Group:
    """Return the options of a group that were given, with the defaults of the others.

    >>> chosen(StoreOptions, {"command": ["demo"], "seed": 1})
    {'store': None, 'command': ['demo']}
    """
    defaults = {name: option.default for name, (_, option) in declared(group).items()}
    given = {name: value for name, value in options.items() if name in group.__annotations__}
    return cast("Group", defaults | given)


def search_options(options: Mapping[str, object], group: type[Any]) -> SearchOptions:
    """Return what is for the attack: all keywords but those that a function's own group adds to `SearchOptions`.

    >>> search_options({"device": "cpu", "norm": "l2", "restarts": 8}, MeasureOptions)
    {'norm': 'l2', 'restarts': 8}
    """
    others = group.__annotations__.keys() - SearchOptions.__annotations__.keys()
    return cast("SearchOptions", {name: value for name, value in options.items() if name not in others})
