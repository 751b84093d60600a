"""What stands inside a page that needs no other file: style, script, palette, and the hashes that let them run."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from thinice.plots import TRANSITIONS
from thinice.types import Transition

__all__ = ["csp_hash", "palette", "source"]


def palette() -> str:
    """Return the colours of the transitions as CSS: those of the figures, and lighter ones for a dark page."""

    def mixed(color: str) -> str:
        channels = (int(color[k : k + 2], 16) for k in (1, 3, 5))
        return "#" + "".join(f"{round(value + 0.35 * (255 - value)):02x}" for value in channels)

    names = {f"--{name.name.lower()}": TRANSITIONS[name].color for name in Transition}
    light = "".join(f"{name}:{color};" for name, color in names.items())
    dark = "".join(f"{name}:{mixed(color)};" for name, color in names.items())
    return f":root{{{light}}}:root[data-theme=dark]{{{dark}}}"


def source(name: str) -> str:
    """Return the text of a file of this folder: the style, the script or the frame of a page."""
    return files("thinice.report").joinpath(name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """Return what a Content-Security-Policy knows an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
