"""The SQL of the project: tables, views and named queries, one .sql file each, read once."""

from functools import cache
from importlib.resources import files

__all__ = ["OwnQuery", "query", "sql"]


class OwnQuery(str):
    """A query that thinice itself brings; all others are of users."""

    __slots__ = ()


@cache
def sql(name: str) -> str:
    """Return the text of a file of this folder, without its ending.

    >>> sql("views/thin_ice").split()[:3]
    ['create', 'view', 'thin_ice']
    """
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")


@cache
def query(name: str) -> OwnQuery:
    """Return the text of a named query.

    >>> query("unmeasured").split()[0]
    'select'
    """
    return OwnQuery(sql(f"queries/{name}"))
