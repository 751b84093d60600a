"""The colours of thinice, one place for all figures: safe for colour-blind eyes and, by dashes, for grey print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinice.types import Transition

__all__ = ["INK", "MUTED", "NETWORKS", "REFERENCE", "TRANSITIONS", "Style", "network_style", "tint"]

INK = "#222222"
MUTED = "#666666"
REFERENCE: Mapping[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": (0, (1, 1.5))}
"""Lines to compare with: a budget, chance, the average."""

Dashes = tuple[int, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Style:
    """How one group of samples, or one network, looks in every figure."""

    color: str
    dashes: Dashes
    marker: str
    word: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """The keywords of a matplotlib line."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": 1.8}


SOLID: Dashes = (0, ())
DASHED: Dashes = (0, (5, 1.6))
DOTTED: Dashes = (0, (1.2, 1.2))
DASH_DOT: Dashes = (0, (6, 1.5, 1.2, 1.5))
LONG: Dashes = (0, (9, 2))

# The eight colours of Okabe and Ito for colour-blind readers, as far as they are needed.
TRANSITIONS: Mapping[Transition, Style] = {
    Transition.KEPT: Style("#0072B2", SOLID, "o", "kept"),
    Transition.LOST: Style("#D55E00", DASHED, "X", "lost"),
    Transition.GAINED: Style("#009E73", DASH_DOT, "^", "gained"),
    Transition.WRONG: Style("#CC79A7", DOTTED, "s", "wrong"),
}
NETWORKS: tuple[Style, ...] = (
    Style("#000000", SOLID, "o"),
    Style("#E69F00", DASHED, "X"),
    Style("#56B4E9", DASH_DOT, "^"),
    Style("#009E73", DOTTED, "s"),
    Style("#CC79A7", LONG, "D"),
)
"""The dense network first, then pruned ones; `network_style` goes on from there."""


def network_style(place: int) -> Style:
    """Return the look of a network by its place: five colours in turn, each time round with other dashes and marks.

    Examples
    --------
    >>> network_style(0) == NETWORKS[0], network_style(5).color == NETWORKS[0].color
    (True, True)
    >>> len({(network_style(k).color, network_style(k).dashes) for k in range(25)})
    25
    """
    rounds, turn = divmod(place, len(NETWORKS))
    other = NETWORKS[(turn + rounds) % len(NETWORKS)]
    return Style(NETWORKS[turn].color, other.dashes, other.marker)


def tint(color: str, share: float = 0.3) -> str:
    """Return a colour thinned with white, opaque: what lies below does not shine through.

    Examples
    --------
    >>> tint("#000000", 0.2)
    '#cccccc'
    """
    parts = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)
