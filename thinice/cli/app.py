"""The application: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from thinice.cli.check import check
from thinice.cli.compare import compare
from thinice.cli.demo import demo
from thinice.cli.doctor import doctor, versions
from thinice.cli.evaluate import evaluate
from thinice.cli.measure import measure
from thinice.cli.output import accept_any_encoding
from thinice.cli.report import report
from thinice.cli.runs import runs
from thinice.cli.sql import export, sql
from thinice.cli.stopping import stoppable
from thinice.errors import StoreWarning, ThinIceError
from thinice.printable import LONGEST_MESSAGE, shown

__all__ = ["app", "main"]

app = typer.Typer(
    name="thinice",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (demo, compare, measure, evaluate, check, report, runs, sql, export, doctor):
    app.command()(stoppable(command))


def _version(asked: bool) -> None:
    if asked:
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
    """Tell which samples pruning loses, and how close to the decision boundary they lay.

    Start with `thinice demo`, then `thinice compare dense.pt pruned.pt`.
    """


def _warn(others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:  # noqa: ANN401 - whatever Python adds
    """Show what thinice warns of as one line, and other warnings as Python does."""
    if issubclass(category, StoreWarning):
        print(f"thinice: warning: {shown(str(message), LONGEST_MESSAGE)}", file=sys.stderr, flush=True)
    else:
        others(message, category, *where)


def main() -> None:
    """Run the command line; errors that a user can mend end it with one line and exit code 1."""
    accept_any_encoding()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", StoreWarning)
            warnings.showwarning = partial(_warn, warnings.showwarning)
            app()
    except ThinIceError as error:
        sys.exit(f"thinice: {error}")
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # a full disk, say
        sys.exit(f"thinice: {shown(str(error), LONGEST_MESSAGE)}")
