"""The application: its commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thinice.cli.check import check
from thinice.cli.compare import compare
from thinice.cli.demo import demo
from thinice.cli.doctor import doctor, versions
from thinice.cli.evaluate import evaluate
from thinice.cli.export import export
from thinice.cli.measure import measure
from thinice.cli.report import report
from thinice.cli.runs import runs
from thinice.cli.sql import sql
from thinice.errors import ThinIceError

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
    app.command()(command)


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


def main() -> None:
    """Run the command line; errors that a user can mend end it with one line and exit code 1."""
    try:
        app()
    except ThinIceError as error:
        sys.exit(f"thinice: {error}")
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # a full disk, say
        sys.exit(f"thinice: {error}")
