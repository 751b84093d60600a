"""The application: the registry of its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from thinice.cli.output import accept_any_encoding
from thinice.cli.stopping import stoppable
from thinice.errors import StoreWarning, ThinIceError, TrainingWarning
from thinice.printable import LONGEST_MESSAGE, escaped, shown
from thinice.registry import Registry

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: Registry[Callable[..., None]] = Registry(
    "command",
    {
        "demo": (
            "thinice.cli.demo:demo",
            "Compare the embedded networks: the digits, dense against 90 % and 95 % pruned.",
        ),
        "compare": (
            "thinice.cli.compare:compare",
            "Show which samples pruning loses, and how close to the dense network's boundary they lay.",
        ),
        "populations": (
            "thinice.cli.populations:populations",
            "Show on which samples most pruned networks say otherwise than most dense ones, and how close these lay.",
        ),
        "measure": (
            "thinice.cli.measure:measure",
            "Measure how close each sample lies to a network's boundary, and store it: one line a network.",
        ),
        "evaluate": (
            "thinice.cli.evaluate:evaluate",
            "Evaluate which samples are robust at a budget, and store what broke the others.",
        ),
        "train": (
            "thinice.cli.train:train",
            "Train a network, and write it to a checkpoint that every other command reads.",
        ),
        "inspect": (
            "thinice.cli.inspect:inspect",
            "Show what is in a checkpoint: network, sparsity a layer, masks, and what was not read and why.",
        ),
        "check": ("thinice.cli.check:check", "Check whether the results in a store can all be true."),
        "prune": (
            "thinice.cli.prune:prune",
            "Zero the weights of a network that matter least, train what is left, and save it with its masks.",
        ),
        "study": (
            "thinice.cli.study:study",
            "Train, prune and attack all networks of a grid that one file describes; tables, figures, lost samples.",
        ),
        "benchmark": (
            "thinice.cli.benchmark:benchmark",
            "Measure pruned networks by one protocol, and rank them among those of the published leaderboards.",
        ),
        "benchmark export": (
            "thinice.cli.benchmark_files:export",
            "Write what the public benchmark asks of a contributor: taxonomy, keys, results, distances, hashes.",
        ),
        "benchmark import": (
            "thinice.cli.benchmark_files:import_file",
            "Read a distance file of the public benchmark into the store, as what its authors claim.",
        ),
        "report": (
            "thinice.cli.report:report",
            "Write a store as one HTML page that opens offline: answer, tables, figures, every sample.",
        ),
        "runs": ("thinice.cli.runs:runs", "List the runs of a store: when, by which command, and how each ended."),
        "runs list": (
            "thinice.cli.runs:runs",
            "List the runs of a store: when, by which command, and how each ended.",
        ),
        "runs show": ("thinice.cli.runs:show", "Show all that is needed to repeat a run."),
        "runs repeat": (
            "thinice.cli.runs:repeat",
            "Repeat a run into a temporary store, and show what comes out otherwise, sample by sample.",
        ),
        "sql": ("thinice.cli.sql:sql", "Ask the store in SQL, read only; without a query, list what there is to ask."),
        "export": (
            "thinice.cli.sql:export",
            "Write the store's tables, a view, or the answer to a query to Parquet or CSV.",
        ),
        "import": (
            "thinice.cli.claims:import_claims",
            "Read what verifiers claim of a network, and hold it against the store.",
        ),
        "merge": (
            "thinice.cli.merge:merge",
            "Bring the parts that --shard measured, each in a store of its own, into one store.",
        ),
        "doctor": (
            "thinice.cli.doctor:doctor",
            "Show what thinice finds here: versions, device, extras, data, the store.",
        ),
    },
)
"""Each command and the first line of its help; its module is imported when it is run or asked for help."""

READER_GONE = 141
"""The exit code of a program whose output nobody reads any more, in every shell."""

SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class Commands(TyperGroup):
    """The commands of `COMMANDS` as typer shows and runs them."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer's own type is private)
        """Run a command until it ends, or the reader of its output, `head` say, has had enough."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # typer would end with 1
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):  # what is left in them would fail again at the very end
                os.dup2(nowhere, stream.fileno())
            raise SystemExit(READER_GONE) from None
        return result

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 (typer's own types are private)
        """Return the command that the first word names, or the first two: `benchmark export`."""
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if len(args) > 1 and two in COMMANDS else args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 (typer's own type is private)
        """Return the names, in the order of the help."""
        return list(COMMANDS.names())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 (as above)
        """Return one command, imported now; None for a name that is unknown."""
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(**SETTINGS)
        alone.command(cmd_name)(stoppable(COMMANDS.get(cmd_name)))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 (as above)
        """Write the table of `thinice --help`, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.summaries().items()))


app = typer.Typer(name="thinice", cls=Commands, no_args_is_help=True, **SETTINGS)


def _version(asked: bool) -> None:
    if asked:
        from thinice.cli.doctor import versions

        print(versions())
        raise typer.Exit


@app.callback()
def thinice(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions for a bug report.",
            is_eager=True,
            callback=_version,
        ),
    ] = False,
) -> None:
    """Show which samples a network loses when it is pruned, and how close to the decision boundary they lay.

    Here epsilon is a distance that was found: the smallest perturbation that changes a sample's prediction. What papers
    on robustness call epsilon, a radius that one chooses, is the budget here: --budget.

    Start with `thinice demo`, then `thinice compare dense.pt pruned.pt`.
    """


def _warn(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:  # noqa: ANN401 - whatever Python adds
    """Show what thinice warns of as one line, and other warnings as Python does."""
    if issubclass(category, StoreWarning | TrainingWarning):
        print(f"thinice: warning: {shown(str(message), LONGEST_MESSAGE)}", file=sys.stderr, flush=True)
    else:
        others(message, category, *where)


def _printable_option(word: str) -> str:
    """Return a word of the command line, the name of an option escaped: messages repeat those that are unknown."""
    name, equals, value = word.partition("=")
    return escaped(name) + equals + value if word.startswith("-") else word


def main() -> None:
    """Run the command line; errors that a user can mend end it with one line and exit code 1."""
    accept_any_encoding()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", StoreWarning)
            warnings.simplefilter("always", TrainingWarning)
            warnings.showwarning = partial(_warn, warnings.showwarning)
            app([_printable_option(word) for word in sys.argv[1:]])
    except ThinIceError as error:
        sys.exit(f"thinice: {error}")
    except OSError as error:  # a full disk, say
        sys.exit(f"thinice: {shown(str(error), LONGEST_MESSAGE)}")
