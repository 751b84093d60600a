"""The options that commands share, in groups: each is declared once, and means the same everywhere.

A group is a dataclass whose fields are options, or one of `thinice.analysis.options`, which the API takes too. A
command takes the groups it needs as arguments, and `options` puts their fields into its signature, from which typer
makes the command line.

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints, is_typeddict

import typer

from thinice.analysis.options import RunOptions, SearchOptions, StoreOptions, declared
from thinice.errors import InputError
from thinice.types import Norm

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
    "OneByOne",
    "OutputOptions",
    "Overwrite",
    "Quiet",
    "StorePath",
    "Timeout",
    "normalization_value",
    "options",
]

STORE: Path = declared(StoreOptions)["store"][1].typed
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

    names = one_of([*known_architectures(), "torchvision:NAME", "timm:NAME", "NAME:VARIANT"])
    return f"{names}; other depths and widths as resnet110, wrn_40_2"


def normalizations() -> str:
    """Return the names that ``--normalization`` takes."""
    from thinice.models.normalization import NORMALIZATIONS

    return one_of(NORMALIZATIONS.names())


def typer_option(group: type[Any], name: str) -> Any:  # noqa: ANN401 (typer's own type is private)
    """Return what typer has to know of an option that `thinice.analysis.options` declares."""
    _, option = declared(group)[name]
    text = option.help if isinstance(option.help, str) else option.help()
    flag = option.flag or f"--{name.replace('_', '-')}"
    return typer.Option(flag, help=text, metavar=option.metavar, min=option.min)


StorePath: TypeAlias = Annotated[Path, typer_option(StoreOptions, "store")]
NormOption: TypeAlias = Annotated[Norm, typer_option(SearchOptions, "norm")]
Device: TypeAlias = Annotated[str, typer_option(RunOptions, "device")]
Limit: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Only N samples: balanced, as many of each class, and the same ones every time."
    ),
]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace checkpoints that are there already, and make them anew.")
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", help="No progress and no messages; numbers and errors only.")
]
OneByOne: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--one-by-one",
        help="Give each network one sample at a time, where its logits depend on the batch: slow, but epsilons are "
        "those of the sample alone.",
    ),
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
    """Which samples of which data set, and how many of them a network gets at once."""

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
    one_by_one: OneByOne = False


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

    The command itself is called with the groups: a dataclass as an object; a group of `thinice.analysis.options` as the
    keyword arguments that the function of the same name takes. A field keeps the default of its group; an argument that
    is no group stays as it is.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, dict[str, inspect.Parameter]] = {
        name: {field.name: field for field in _fields(hint)} for name, hint in hints.items() if _is_group(hint)
    }

    def parameters() -> Iterator[inspect.Parameter]:
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name in groups:
                yield from groups[parameter.name].values()
            else:
                yield parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(command)
    def flat(**values: Any) -> None:  # noqa: ANN401 (as typer read them)
        for name, fields in groups.items():
            typed = {field: values.pop(field) for field in fields if field in values}
            values[name] = _arguments(hints[name], typed) if is_typeddict(hints[name]) else hints[name](**typed)
        command(**values)

    signature = inspect.Signature(list(parameters()))
    flat.__signature__ = signature  # type: ignore[attr-defined]  # what `inspect.signature` looks at first
    flat.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return flat


def _is_group(hint: object) -> bool:
    return is_typeddict(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint))


def _fields(group: type[Any]) -> Iterator[inspect.Parameter]:
    """Yield the options of a group as typer reads them from a signature."""
    if is_typeddict(group):
        for name, (hint, option) in declared(group).items():
            default = option.default if option.typed is None else option.typed
            annotation: Any = Annotated[hint if default is not None else hint | None, typer_option(group, name)]
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        return
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )


def _arguments(group: type[Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed as keyword arguments in Python; what has no default, and was not typed, is left out."""
    arguments = dict[str, Any]()
    for name, (_, option) in declared(group).items():
        value = typed.get(name, option.default if option.typed is None else option.typed)
        if value is not None:
            arguments[name] = value if option.read is None else option.read(value)
    return arguments


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
