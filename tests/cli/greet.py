"""A command as somebody else would add it."""

from typing import Annotated

import typer

from thinice.cli.options import FormatOptions, options
from thinice.cli.output import put
from thinice.errors import InputError


@options
def greet(name: Annotated[str, typer.Argument(help="Whom.")], *, printing: FormatOptions) -> None:
    """Say hello."""
    if name == "nobody":
        raise InputError("nobody is there")
    put(f"hello {name} {printing.format}")
