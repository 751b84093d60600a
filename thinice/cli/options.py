"""The options that commands share: one meaning everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from thinice.errors import InputError
from thinice.types import Distances, Effort, Norm, Precision

__all__ = [
    "STORE",
    "Architecture",
    "AttackName",
    "BatchSize",
    "Compiled",
    "Data",
    "Density",
    "Device",
    "DistancesOption",
    "EffortOption",
    "Format",
    "FormatOption",
    "ImageSize",
    "Limit",
    "NormOption",
    "Normalization",
    "PrecisionOption",
    "Quiet",
    "Seed",
    "Split",
    "Steps",
    "StorePath",
    "Timeout",
    "TrustPickle",
    "batch_size_value",
    "normalization_value",
]


class Format(StrEnum):
    """How numbers go to standard output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


STORE = Path("thinice.duckdb")

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="Data set: digits, mnist, cifar10, …, folder:PATH or npz:PATH. Default: what the dense checkpoint names.",
    ),
]
Split = Annotated[str, typer.Option("--split", help="Part of the data set.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only N samples: as many of each class, the same ones every time.")
]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", min=1, help="Side of the images of a folder, in pixels.")
]
NormOption = Annotated[Norm, typer.Option("--norm", help="Norm of the perturbation.")]
AttackName = Annotated[
    str,
    typer.Option(
        "--attack",
        help="tmn, thinice's own; fmn; ho-fmn; cw; bb; or any minimisation attack of foolbox, foolbox:NAME.",
    ),
]
DistancesOption = Annotated[
    Distances,
    typer.Option("--distances", help="Epsilons of the dense network alone, or of both, which takes as long again."),
]
EffortOption = Annotated[Effort, typer.Option("--effort", help="How much to spend on each sample.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Steps of the attack, instead of the effort's; not for race in l0 and l1."),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        metavar="NAME",
        help="Architecture, where the file does not say it: resnet20, torchvision:resnet50, …",
    ),
]
Normalization = Annotated[
    str | None,
    typer.Option(
        "--normalization",
        metavar="NAME|MEAN/STD",
        help="Normalisation of the network, where the file does not say it: none, cifar10, imagenet, … or M,M,M/S,S,S.",
    ),
]
Density = Annotated[
    float | None,
    typer.Option(
        "--density",
        help="Fraction of weights kept, for checkpoints with scores instead of masks (HYDRA, HARP, RST).",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Give up a query that takes longer."),
]
TrustPickle = Annotated[
    bool,
    typer.Option(
        "--trust-pickle",
        help="Unpickle a whole module: runs whatever code the file holds. Only for files you trust.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:K.")]
BatchSize = Annotated[
    str,
    typer.Option("--batch-size", metavar="auto|N", help="Samples at a time; auto halves when memory runs out."),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Arithmetic of the search: tf32 (CUDA) and bf16 are faster; what is found is judged in float32.",
    ),
]
Compiled = Annotated[
    bool, typer.Option("--compile", help="Search in a network compiled by torch.compile; pays in long runs.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Repeats the result.")]
StorePath = Annotated[
    Path, typer.Option("--store", metavar="PATH", help="The DuckDB file that keeps everything measured.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no messages; numbers and errors only.")]


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
