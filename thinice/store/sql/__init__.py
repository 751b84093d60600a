"""Named queries: one .sql file each, read once."""

from functools import cache
from importlib.resources import files

__all__ = ["query"]


@cache
def query(name: str) -> str:
    """Return the text of a named query.

    >>> query("unmeasured").split()[0]
    'select'
    """
    return (files(__name__) / "queries" / f"{name}.sql").read_text(encoding="utf-8")
