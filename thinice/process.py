"""Who is running: the name that tells a process from every other one, and whether it is still alive."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "this_process"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process on a machine; `started` tells it from a later one that got the same pid, where the system says."""

    host: str
    pid: int
    started: str | None

    @property
    def is_gone(self) -> bool:
        """Whether it is certainly gone: False for one that lives, and for one that cannot be seen from here."""
        if self.host != socket.gethostname() or sys.platform == "win32":
            return False
        try:
            os.kill(self.pid, 0)  # asks only: signal 0 is never delivered
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        now = _started(self.pid)
        return now == "zombie" or (None not in (self.started, now) and now != self.started)


def this_process() -> Process:
    """Return the process that asks.

    >>> this_process().is_gone
    False
    """
    return Process(socket.gethostname(), os.getpid(), _started(os.getpid()))


def _started(pid: int) -> str | None:
    """Return the start of a process in clock ticks since the system's, "zombie" for a dead one, None if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "zombie" if fields[0] in "ZX" else fields[19]
