"""Ctrl-C ends every command within a second, with one line and exit code 130, whatever the command is doing."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec

from thinice.printable import LONGEST_MESSAGE, shown

__all__ = ["exit_on_interrupt", "stoppable", "watch_for_stop"]

Arguments = ParamSpec("Arguments")

STOPPED = 130
"""The exit code of a program that Ctrl-C ended, in every shell."""

GRACE = 0.7
"""Seconds that a command gets to undo unfinished work; what is left then is undone by the next command."""


class _Stop:
    """State of this process, which runs one command that Ctrl-C ends once."""

    asked = False
    in_command = False
    way_on = ""
    line_printed = threading.Lock()


def watch_for_stop() -> None:
    """From now on Ctrl-C ends this process; inside a `stoppable` command it raises KeyboardInterrupt first."""
    signal.signal(signal.SIGINT, _on_stop)
    if sys.platform != "win32":  # there only a socket would do, and the handler alone is nearly as fast
        ears, mouth = os.pipe()
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        threading.Thread(target=_end_after_grace, args=(ears,), daemon=True).start()


def stoppable(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Return a command that Ctrl-C ends with one line and exit code 130."""

    @functools.wraps(command)
    def stopped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        _Stop.in_command, _Stop.way_on, _Stop.line_printed = True, "", threading.Lock()
        try:
            command(*args, **kwargs)
        except BaseException as error:
            if _Stop.asked or isinstance(error, KeyboardInterrupt):  # an import turns it into an error of its own
                _tell()
                raise SystemExit(STOPPED) from None
            raise
        finally:
            _Stop.in_command = False

    return stopped


@contextmanager
def exit_on_interrupt(way_on: str) -> Iterator[None]:
    """Add how to go on to the line that Ctrl-C ends a command with."""
    _Stop.way_on = way_on
    yield
    _Stop.way_on = ""  # not after an exception: it may be the one of Ctrl-C


def _on_stop(_signal: int, _frame: object) -> None:
    if _Stop.in_command and not _Stop.asked:
        _Stop.asked = True
        raise KeyboardInterrupt
    _end()


def _end_after_grace(ears: int) -> None:
    """Wait for a signal, then for its handler; code that does not come back to Python in time is not waited for."""
    while signal.SIGINT not in os.read(ears, 64):
        pass
    time.sleep(GRACE)
    _end()


def _end() -> NoReturn:
    """End the process here and now; the line goes past `sys.stderr`, which the main thread may be writing to."""
    if _Stop.line_printed.acquire(blocking=False):
        os.write(2, _line().encode("ascii", "backslashreplace"))
    os._exit(STOPPED)


def _tell() -> None:
    if _Stop.line_printed.acquire(blocking=False):
        sys.stderr.write(_line())
        sys.stderr.flush()


def _line() -> str:
    after_progress = "\n" if sys.stderr.isatty() else ""
    return f"{after_progress}thinice: {shown(f'stopped. {_Stop.way_on}'.strip(), LONGEST_MESSAGE)}\n"
