"""What goes to standard error: messages for people, silenced by --quiet; and how Ctrl-C ends a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["Speaker", "interruptible"]


class Speaker:
    """Says things on standard error, unless it was asked to be quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, message: str) -> None:
        """Say it."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def notes(self, name: str, notes: tuple[str, ...]) -> None:
        """Say what was found out about a file while it was read."""
        for note in notes:
            self(f"{name}: {note}")


@contextmanager
def interruptible(way_on: str) -> Iterator[None]:
    """End a command on Ctrl-C with one line that says how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nthinice: stopped. {way_on}", file=sys.stderr)
        raise typer.Exit(130) from None
