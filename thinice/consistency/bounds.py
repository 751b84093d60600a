"""How long a perturbation is at most in one norm, given its length in another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinice.consistency.evidence import FloatColumn
from thinice.errors import InputError
from thinice.types import NORMS, Norm

__all__ = ["implied_bound"]


def implied_bound(length: npt.ArrayLike, known: Norm, wanted: Norm, entries: int) -> FloatColumn:
    """Return how long a perturbation is at most in one norm, given its length (N,) in another.

    A perturbation within the box [0, 1] moves none of its ``entries`` by more than 1:

    ======  =================  ==================  =========  =======
    known   linf               l2                  l1         l0
    ======  =================  ==================  =========  =======
    linf e  e                  e √n                e n        n
    l2 e    min(e, 1)          e                   e √n       n
    l1 e    min(e, 1)          min(e, √e)          e          n
    l0 m    1                  √m                  m          m
    ======  =================  ==================  =========  =======

    Nothing in the box is longer than 1, √n, n and n. A length of 0 is 0 in all, and an infinite one, of no
    perturbation at all, stays so.

    Parameters
    ----------
    length : array_like
        (N,) at least 0.
    known, wanted : {"l0", "l1", "l2", "linf"}
        The norm of ``length``, and the one asked for.
    entries : int
        Number of entries of an input, channels x height x width.

    Examples
    --------
    >>> implied_bound([4 / 255, 0.0], "linf", "l2", 3 * 32 * 32).round(3)
    array([0.869, 0.   ])
    >>> implied_bound([9.0], "l0", "l2", 100)
    array([3.])

    """
    if entries < 1:
        raise InputError(f"`entries` must be a whole number of at least 1, got {entries!r}")
    for name, value in (("known", known), ("wanted", wanted)):
        if value not in NORMS:
            raise InputError(f"`{name}` must be one of {', '.join(NORMS)}, got {value!r}")
    given = np.asarray(length, dtype=np.float64)
    root = float(np.sqrt(entries))
    whole = {"linf": 1.0, "l2": root, "l1": float(entries), "l0": float(entries)}[wanted]
    implied = {
        ("linf", "l2"): given * root,
        ("linf", "l1"): given * entries,
        ("l2", "linf"): given,
        ("l2", "l1"): given * root,
        ("l1", "linf"): given,
        ("l1", "l2"): np.minimum(given, np.sqrt(given)),
        ("l0", "l2"): np.sqrt(given),
        ("l0", "l1"): given,
        (wanted, wanted): given,
    }.get((known, wanted), np.full_like(given, whole))
    return np.where((given == 0) | np.isinf(given), given, np.minimum(implied, whole))
