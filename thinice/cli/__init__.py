"""The command line: each command is a line of the Python API and a printer; the only room that prints."""

from thinice.cli.app import main

__all__ = ["main"]
