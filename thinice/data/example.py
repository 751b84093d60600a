"""The embedded example: a dense network for the digits and two pruned ones, in the package."""

from __future__ import annotations

from pathlib import Path

from thinice.errors import DataError

__all__ = ["example_checkpoints"]

_NAMES = ("dense", "pruned-90", "pruned-95")
_PACKAGE = Path(__file__).resolve().parent.parent


def example_checkpoints() -> dict[str, Path]:
    """Return the paths of the example's checkpoints: ``dense``, ``pruned-90`` and ``pruned-95``.

    Examples
    --------
    >>> sorted(example_checkpoints())
    ['dense', 'pruned-90', 'pruned-95']

    """
    for folder in (_PACKAGE / "_data" / "digits", _PACKAGE.parent / "data" / "digits"):
        paths = {name: folder / f"{name}.pt" for name in _NAMES}
        if all(path.is_file() for path in paths.values()):
            return paths
    raise DataError(f"the embedded example is not in {_PACKAGE}: install thinice again, or run data/digits/make.py")
