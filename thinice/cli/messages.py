"""What goes to standard error: messages for people, silenced by --quiet."""

from __future__ import annotations

import sys

from thinice.names import LONGEST_MESSAGE, shown

__all__ = ["Speaker"]


class Speaker:
    """Says things on standard error, unless it was asked to be quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def __call__(self, message: str) -> None:
        """Say it."""
        if not self.quiet:
            print(shown(message, LONGEST_MESSAGE), file=sys.stderr, flush=True)

    def notes(self, name: str, notes: tuple[str, ...]) -> None:
        """Say what was found out about a file while it was read."""
        for note in notes:
            self(f"{name}: {note}")
