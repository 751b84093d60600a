"""How epsilons are written: linf in n/255, the step of an 8-bit image, the others on the [0, 1] scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thinice.errors import InputError
from thinice.types import Norm

__all__ = ["UNITS", "Unit", "unit_of"]


@dataclass(frozen=True, slots=True)
class Unit:
    """The display unit of one norm's epsilons."""

    label: str
    """What stands at an axis."""
    scale: float = 1.0
    """A stored epsilon times this is what an axis shows."""
    suffix: str = ""

    def text(self, epsilon: float) -> str:
        """Return a stored epsilon as people read it: ``3.1/255`` or ``0.482``."""
        return f"{epsilon * self.scale:.3g}{self.suffix}"


ELL = "\N{SCRIPT SMALL L}"
UNITS: Mapping[Norm, Unit] = {
    "l0": Unit(f"ε ({ELL}0, values changed)"),
    "l1": Unit(f"ε ({ELL}1, [0, 1] scale)"),
    "l2": Unit(f"ε ({ELL}2, [0, 1] scale)"),
    "linf": Unit(f"ε ({ELL}∞, n/255)", scale=255.0, suffix="/255"),
}


def unit_of(norm: Norm) -> Unit:
    """Return the display unit of a norm, or raise InputError for one that is unknown.

    Examples
    --------
    >>> unit_of("linf").text(2 / 255), unit_of("l2").text(0.5)
    ('2/255', '0.5')
    """
    if norm not in UNITS:
        raise InputError(f"`norm` is {norm!r}: the norms are {', '.join(UNITS)}")
    return UNITS[norm]
