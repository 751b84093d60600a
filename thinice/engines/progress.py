"""How far a measurement is: `Progress`, which `ProgressCounter` counts, and three ways of showing it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from thinice.printable import shown
from thinice.types import Norm, Outcome

__all__ = ["Progress", "ProgressCounter", "Reporter", "Shown", "auto_reporter", "in_notebook"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a measurement: counts of samples, seconds, and what was found so far.

    Attributes
    ----------
    title : str
        What is measured, for example ``"dense.pt, linf, fmn"``.
    done, total : int
        Samples finished and wanted.
    resumed : int
        Samples among the finished ones that an earlier run had measured.
    found, not_found, misclassified : int
        How the finished ones ended.
    median : float
        Median epsilon of the found ones, on the [0, 1] scale; NaN before the first.
    seconds : float
        Since the start.
    norm, done_word : str
        Norm of the median, and what was done with the found ones: lower bounds are proved.

    """

    title: str
    done: int
    total: int
    resumed: int
    found: int
    not_found: int
    misclassified: int
    median: float
    seconds: float
    norm: Norm
    done_word: str = "found"

    @property
    def seconds_left(self) -> float:
        """Time left at the speed so far; NaN before the first sample is done."""
        measured = self.done - self.resumed
        return self.seconds / measured * (self.total - self.done) if measured else float("nan")

    @property
    def line(self) -> str:
        """The title, printable and bounded in length, and `text`."""
        return f"{shown(self.title)}: {self.text}"

    @property
    def text(self) -> str:
        """One line for people: ``512/1000 samples, 12 s left, 480 found, median 3.1/255``."""
        median = f"{self.median * 255:.3g}/255" if self.norm == "linf" else f"{self.median:.3g}"
        parts = [f"{self.done}/{self.total} samples"]
        if self.resumed:
            parts.append(f"{self.resumed} were stored already")
        if self.done < self.total:
            parts.append(f"{duration(self.seconds_left)} left" if self.done > self.resumed else "starting")
        else:
            parts.append(f"{duration(self.seconds)} in all")
        parts.append(f"{self.found} {self.done_word}" + (f", median {median}" if self.found else ""))
        if self.not_found:
            parts.append(f"{self.not_found} not found")
        return ", ".join(parts)


class Shown(Protocol):
    """What a reporter shows: `Progress`, and that of a training."""

    @property
    def title(self) -> str:
        """What is going on."""

    @property
    def done(self) -> int:
        """How much of it is done."""

    @property
    def total(self) -> int:
        """How much there is."""

    @property
    def text(self) -> str:
        """One line for people, without the title."""

    @property
    def line(self) -> str:
        """One line for people, with the title."""


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(7.2), duration(75), duration(4000)
    ('7 s', '1 min 15 s', '1 h 6 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


Reporter = Callable[[Shown], None]
"""Called with each new `Progress`; the last call has ``done == total``."""


class ProgressCounter:
    """Counts finished samples, and reports the count; `resumed` samples were there before the start."""

    def __init__(
        self,
        title: str,
        total: int,
        norm: Norm,
        report: Reporter | None,
        resumed: int = 0,
        *,
        done_word: str = "found",
    ) -> None:
        self._title, self._total, self._norm, self._report, self._resumed = title, total, norm, report, resumed
        self._done_word = done_word
        self._outcomes: list[Tensor] = []
        self._epsilons: list[Tensor] = []
        self._start = time.monotonic()

    def add(self, outcomes: Tensor, epsilons: Tensor) -> None:
        """Count the samples of a shard, codes of `Outcome` (N,) and epsilons (N,), and report."""
        self._outcomes.append(outcomes)
        self._epsilons.append(epsilons)
        if self._report is not None:
            self._report(self._progress())

    def _progress(self) -> Progress:
        outcomes, epsilons = torch.cat(self._outcomes), torch.cat(self._epsilons)
        found = outcomes == Outcome.FOUND
        return Progress(
            title=self._title,
            done=self._resumed + len(outcomes),
            total=self._total,
            resumed=self._resumed,
            found=int(found.sum()),
            not_found=int((outcomes == Outcome.NOT_FOUND).sum()),
            misclassified=int((outcomes == Outcome.MISCLASSIFIED).sum()),
            median=float(epsilons[found].median()) if found.any() else float("nan"),
            seconds=time.monotonic() - self._start,
            norm=self._norm,
            done_word=self._done_word,
        )


class Stream(Protocol):
    """Where a reporter writes: anything with ``write`` and ``flush``."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Show it now."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def auto_reporter() -> Reporter:
    """Return the reporter for where this process runs: notebook, terminal, or log file (a line every 30 s)."""
    if in_notebook():
        return _notebook()
    return _terminal(sys.stderr) if sys.stderr.isatty() else _log(sys.stderr, every=30.0)


def _notebook() -> Reporter:
    from IPython.display import display  # noqa: PLC0415 (present in every notebook, nowhere required)

    handles: dict[str, object] = {}

    def report(progress: Shown) -> None:
        shown = {"text/plain": progress.line}
        handle = handles.get(progress.title)
        if handle is None:
            handles[progress.title] = display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # IPython is untyped here
        else:
            handle.update(shown, raw=True)  # type: ignore[attr-defined]  # as above

    return report


def _terminal(stream: Stream) -> Reporter:
    """One line with a bar that is rewritten in place: it needs no thread, so it cannot outlive an error."""

    def report(progress: Shown) -> None:
        width = 24
        filled = width * progress.done // max(progress.total, 1)
        stream.write(f"\r\x1b[2K{shown(progress.title)} [{'#' * filled}{'.' * (width - filled)}] {progress.text}")
        if progress.done == progress.total:
            stream.write("\n")
        stream.flush()

    return report


def _log(stream: Stream, every: float) -> Reporter:
    last = time.monotonic()

    def report(progress: Shown) -> None:
        nonlocal last
        if progress.done == progress.total or time.monotonic() - last >= every:
            last = time.monotonic()
            stream.write(f"{progress.line}\n")
            stream.flush()

    return report
