"""The options that commands share, in groups: each is declared once, and means the same everywhere.

A group is a dataclass whose fields are options. A command takes the groups it needs as arguments, and `options` puts
their fields into its signature, from which typer makes the command line.

>>> @options
... def paint(colour: str, printing: OutputOptions) -> None:
...     print(colour, printing.format)
>>> list(inspect.signature(paint).parameters)
['colour', 'format', 'quiet']
>>> paint(colour="red", format="csv", quiet=True)
red csv

Annotations of groups are text until a command uses them. So the names in help texts come from the registries, and only
those commands that measure something import these.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import typer

from thinice.errors import InputError
from thinice.types import Effort, Norm, Precision

if TYPE_CHECKING:
    from thinice.analysis import options as api

__all__ = [
    "FIGURES",
    "STORE",
    "CheckpointOptions",
    "DataOptions",
    "Device",
    "FigureOptions",
    "Format",
    "FormatOptions",
    "Limit",
    "NormOption",
    "OutputOptions",
    "Quiet",
    "RunOptions",
    "SearchOptions",
    "StorePath",
    "Timeout",
    "batch_size_value",
    "fixed_budget_attacks",
    "minimum_norm_attacks",
    "normalization_value",
    "options",
]

STORE = Path("thinice.duckdb")
FIGURES = Path("thinice-figures")


class Format(StrEnum):
    """How numbers go to standard output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def one_of(names: Iterable[str]) -> str:
    """Return names as a help text lists them.

    >>> one_of(["table", "csv"])
    'table, csv'
    """
    return ", ".join(names)


def data_sets() -> str:
    """Return what ``--data`` takes, from the registry of data sets."""
    from thinice.data import DATASETS

    return one_of(DATASETS.names())


def architectures() -> str:
    """Return what ``--architecture`` takes, from the registry of architectures."""
    from thinice.models.architectures import known_architectures

    return one_of([*known_architectures(), "torchvision:NAME", "NAME:VARIANT"])


def normalizations() -> str:
    """Return the names that ``--normalization`` takes."""
    from thinice.models.normalization import NORMALIZATIONS

    return one_of(NORMALIZATIONS)


def minimum_norm_attacks() -> str:
    """Return the attacks that minimise the norm, from the registry of attacks."""
    from thinice.attacks import BACKENDS, MINIMUM_NORM

    return one_of([*MINIMUM_NORM, *BACKENDS])


def fixed_budget_attacks() -> str:
    """Return the attacks at a budget, from their registry."""
    from thinice.attacks import BACKENDS, FIXED_BUDGET

    return one_of([*FIXED_BUDGET, *BACKENDS])


StorePath: TypeAlias = Annotated[
    Path, typer.Option("--store", metavar="PATH", help="The DuckDB file that keeps everything measured.")
]
Limit: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Only N samples: balanced, as many of each class, and the same ones every time."
    ),
]
NormOption: TypeAlias = Annotated[Norm, typer.Option("--norm", help="Norm of the perturbation.")]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:K.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", help="No progress and no messages; numbers and errors only.")
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Give up a query that takes longer."),
]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """What a checkpoint file may leave unsaid."""

    architecture: Annotated[
        list[str] | None,
        typer.Option(
            "--architecture",
            metavar="NAME|FILE.py:CLASS",
            help=f"Architecture, where the file does not say it: {architectures()}; or your own code, which is run: "
            "path/to/models.py:ResNet18, package.module:make. Once for all checkpoints, or once for each (auto: "
            "what the file says).",
        ),
    ] = None
    architecture_args: Annotated[
        list[str] | None,
        typer.Option(
            "--architecture-args",
            metavar="JSON",
            help="Arguments of the architecture: '{\"width\": 16}'. Once for all checkpoints, or once for each.",
        ),
    ] = None
    normalization: Annotated[
        str | None,
        typer.Option(
            "--normalization",
            metavar="NAME|MEAN/STD",
            help=f"Normalisation of the network, where the file does not say it: {normalizations()}; or M,M,M/S,S,S.",
        ),
    ] = None
    density: Annotated[
        str | None,
        typer.Option(
            "--density",
            metavar="D[,D…]",
            help="Fraction of weights kept, for checkpoints with scores instead of masks (HYDRA, HARP, RST): 0.1, or "
            "0.1,0.01 for each checkpoint, or each after the first.",
        ),
    ] = None
    masks: Annotated[
        list[str] | None,
        typer.Option(
            "--masks",
            metavar="FILE|ENTRY",
            help="Masks beside the weights: a file, or an entry of the checkpoint; none leaves out those that it "
            "holds. Once for each checkpoint (auto: what the file says), or for each after the first.",
        ),
    ] = None
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="ENTRY",
            help="Which entry of a checkpoint with several networks: state_dict_ema, teacher. Once for all "
            "checkpoints, or once for each (auto: the usual one).",
        ),
    ] = None
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Unpickle a whole module: runs whatever code the file holds. Only for files you trust.",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which samples of which data set."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|PATH",
            help=f"Data set: {data_sets()}. Default: the one that the first checkpoint names.",
        ),
    ] = None
    split: Annotated[str, typer.Option("--split", help="Part of the data set.")] = "test"
    limit: Limit = None
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Side of the images of a folder, in pixels.")
    ] = None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How the attack searches, whichever it is."""

    norm: NormOption = "linf"
    effort: Annotated[Effort, typer.Option("--effort", help="How much to spend on each sample.")] = "standard"
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Steps of the attack, instead of the effort's; not for tmn in l0 and l1."),
    ] = None
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Arithmetic of the search: tf32 (CUDA) and bf16 are faster; what is found is verified in float32.",
        ),
    ] = "float32"
    seed: Annotated[int, typer.Option("--seed", min=0, help="Repeats the result.")] = 0

    @property
    def arguments(self) -> api.SearchOptions:
        """The keyword arguments of `thinice.make_attack`, `measure_all`, `compare_all` and `evaluate_all`."""
        arguments: api.SearchOptions = {
            "norm": self.norm,
            "effort": self.effort,
            "seed": self.seed,
            "precision": self.precision,
        }
        if self.steps is not None:
            arguments["steps"] = self.steps
        return arguments


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where the job runs, and where its results are kept."""

    device: Device = "auto"
    batch_size: Annotated[
        str,
        typer.Option("--batch-size", metavar="auto|N", help="Samples at a time; auto halves when memory runs out."),
    ] = "auto"
    compiled: Annotated[
        bool, typer.Option("--compile", help="Search in a network compiled by torch.compile; pays in long runs.")
    ] = False
    store: StorePath = STORE

    @property
    def arguments(self) -> api.StoredRunOptions:
        """The keyword arguments of `thinice.measure_all`, `compare_all` and `evaluate_all`."""
        return {
            "device": self.device,
            "batch_size": batch_size_value(self.batch_size),
            "compiled": self.compiled,
            "store": self.store,
        }


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """Where the figures go."""

    figures: Annotated[
        Path, typer.Option("--figures", metavar="DIR", help="Folder for the figures, as PNG and SVG.")
    ] = FIGURES
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw nothing.")] = False

    @property
    def folder(self) -> Path | None:
        """The folder, or None where nothing is drawn."""
        return None if self.no_figures else self.figures


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What goes to standard output."""

    format: Annotated[Format, typer.Option("--format", help="How to print the numbers.")] = Format.TABLE


@dataclass(frozen=True, slots=True)
class OutputOptions(FormatOptions):
    """What goes to standard output, and whether anything else goes to standard error."""

    quiet: Quiet = False


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the fields of its option groups in its signature, in place of the groups.

    The command itself is called with the groups. A field keeps the default of its group; an argument that is no group
    stays as it is.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)
    }

    def parameters() -> Iterator[inspect.Parameter]:
        for parameter in inspect.signature(command).parameters.values():
            group = groups.get(parameter.name)
            if group is None:
                yield parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
                continue
            fields = get_type_hints(group, include_extras=True)
            for field in dataclasses.fields(group):
                yield inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=fields[field.name]
                )

    @functools.wraps(command)
    def flat(**values: Any) -> None:  # noqa: ANN401 (as typer read them)
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group)]
            values[name] = group(**{field: values.pop(field) for field in fields if field in values})
        command(**values)

    signature = inspect.Signature(list(parameters()))
    flat.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` looks at first
    flat.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return flat


def batch_size_value(text: str) -> int | Literal["auto"]:
    """Return the value of ``--batch-size``: "auto" or a whole number."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"`--batch-size` must be auto or a whole number of at least 1, got {text!r}")
    return int(text)


def normalization_value(text: str | None) -> str | tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the value of ``--normalization``: a name, or ``mean/std`` with a number a channel."""
    if text is None or "/" not in text:
        return text
    try:
        mean, std = (tuple(float(part) for part in side.split(",")) for side in text.split("/"))
    except ValueError:
        message = f"`--normalization` must be a name or M,M,M/S,S,S with a number a channel, got {text!r}"
        raise InputError(message) from None
    return mean, std
