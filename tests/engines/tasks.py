"""Tasks that worker processes can import: each tells what a batch was computed from, and some end their process."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from thinice.errors import InputError


@dataclass(frozen=True)
class Squares:
    """The squares of the first n numbers; a batch at `fatal` does what `deed` says, as long as `deeds` are left."""

    n: int = 10
    folder: Path | None = None
    deed: str = ""
    fatal: tuple[int, ...] = ()
    deeds: int = 1

    values = 3 * 32 * 32

    def __len__(self):
        return self.n

    def on(self, device):
        def squares(part):
            if part.start in self.fatal:
                self._do(part)
            return torch.arange(part.start, part.stop, device=device) ** 2, os.getpid(), torch.get_num_threads()

        return squares

    def _do(self, part):
        done = len(list(self.folder.iterdir()))
        if done >= self.deeds:
            return
        (self.folder / f"{done}").write_text(str(os.getpid()))
        if self.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "exit":
            os._exit(7)
        if self.deed == "pause":
            time.sleep(1)
            return
        if self.deed == "wait":
            end = time.monotonic() + 60
            while not (self.folder / "go").exists() and time.monotonic() < end:
                time.sleep(0.05)
            return
        if self.deed == "sleep":
            time.sleep(600)
        raise InputError(f"`samples` {part.start} is refused") if self.deed == "refuse" else KeyError(self.deed)


class Unreadable(Squares):
    """A task that is sent, but not received."""

    def __reduce__(self):
        return int, ("no number",)
