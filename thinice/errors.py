"""The errors of thinice: each message names the argument, the value and the way out, on one line."""

from __future__ import annotations

from collections.abc import Sequence

from thinice.printable import LONGEST_MESSAGE, shown

__all__ = [
    "CheckpointError",
    "DataError",
    "DoubtfulWarning",
    "InputError",
    "MissingExtraError",
    "StoreError",
    "StoreWarning",
    "ThinIceError",
    "TrainingWarning",
    "WrongFileError",
]


class ThinIceError(Exception):
    """The base of every error that a user can mend; the command line prints it without a traceback.

    Messages hold names that strangers gave: each is printable and bounded in length, whatever these are.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message, LONGEST_MESSAGE))


class InputError(ThinIceError, ValueError):
    """An argument has a value that cannot be used."""


class CheckpointError(ThinIceError):
    """A file is not a checkpoint, or does not fit the network that it should fill."""


class WrongFileError(CheckpointError):
    """A file that no option can read: it is not there, damaged, or of another task. Another file is the way out."""


class DataError(ThinIceError):
    """A data set is unknown, absent, damaged, or not downloadable."""


class StoreError(ThinIceError):
    """A store is locked by another process, newer than this version, or not a store."""


class StoreWarning(UserWarning):
    """A store was opened, but not all that lies beside it belongs to it or could be read."""


class DoubtfulWarning(UserWarning):
    """A network cannot be measured as it is, or checks of an evaluation were raised: numbers may be wrong.

    Attributes
    ----------
    texts : tuple of str
        What was seen, and what to do: a sentence each.
    network : str or None
        On which network; None where several together are in doubt.

    """

    def __init__(self, texts: Sequence[str], network: str | None = None) -> None:
        told = "; ".join(texts)
        super().__init__(told if network is None else f"{shown(network)}: {told}")
        self.texts, self.network = tuple(texts), network


class TrainingWarning(UserWarning):
    """A training went back to an earlier epoch, because a later one had spoilt the network; or it begins wrongly."""


class MissingExtraError(ThinIceError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an extra that is not installed: pip install 'thinice[{extra}]'")
        self.extra = extra
