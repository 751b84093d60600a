"""Settings of TMN, what each effort sets, and every other number of the attack.

`docs/tmn.md` has the same numbers by step. Other modules read them as `constants.NAME`, so that an ablation has one
place to change them. Lengths and distances are in the attack's norm. Where an origin is known it stands with the
number; all others were chosen by trial on small networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from thinice.types import Effort, Norm

__all__ = ["EFFORTS", "RANGES", "CurvedPasses", "TmnSettings"]


class CurvedPasses(NamedTuple):
    """Step 4: the passes of a descent, and how many searches there may be."""

    steps: int
    searches: int

    @property
    def enough(self) -> int:
        """So many searches that end alike: more than two thirds of what there may be, and not one alone."""
        return max(2, 2 * self.searches // 3 + 1)


@dataclass(frozen=True, slots=True)
class TmnSettings:
    """What users can set of TMN, beside the seed; the defaults are those of effort ``standard``.

    Attributes
    ----------
    steps : int
        About so many passes for a sample around which the network is curved, if its searches disagree; half of them in
        l0 and l1, and about a third where the network is nearly linear. Every length follows from it.
    classes : int
        Screen at most this many classes, those with the largest logits.
    everywhere : bool
        In l2 and linf: search every sample as if the network were curved around it, after what is done anyway.

    """

    steps: int = 200
    classes: int = 9
    everywhere: bool = False

    @property
    def descent(self) -> int:
        """Passes of one descent: with more passes, descents grow as much as their number."""
        return max(1, round(DESCENT * math.sqrt(self.steps)))

    @property
    def rounds(self) -> int:
        """Rounds of the selection, at most."""
        return max(2, self.descent // PART)

    @property
    def curved(self) -> CurvedPasses:
        """What is spent where the network is curved."""
        return CurvedPasses(self.descent, max(1, int(self.steps / (self.descent * (1 + FROM_SAMPLE) / 2))))

    @property
    def starts(self) -> int:
        """Starts of the random vertex search: what half of the passes buy, but two, for one confirms nothing."""
        return max(2, self.steps // 2 // LONG)


EFFORTS: Mapping[Effort, Mapping[str, int | float]] = MappingProxyType(
    {
        "quick": {"steps": 60},
        "standard": {},
        "thorough": {"steps": 800},
        "exhaustive": {"steps": 1000, "everywhere": True},
    }
)
"""What each effort sets; the rest keeps the defaults of `TmnSettings`."""
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({"steps": (1, 10**6), "classes": (1, 10**6)})
"""The least and the greatest value of each setting."""

# ---- tolerances ------------------------------------------------------------------------------------------------------

OVERSHOOT = 0.0005
"""Radii aim by this share beyond the predicted boundary: at 0 searches end just before it."""
AGREEMENT = 0.002
"""Two lengths that differ by no more than this share are the same."""
CONVERGED = 0.01
"""A descent has converged if its last quarter gained less than this share; strides end with this share of the first."""

# ---- evaluate, step, descend -----------------------------------------------------------------------------------------

MEMORY: Mapping[Norm, float] = MappingProxyType({"linf": 0.5, "l2": 0.3, "l1": 0.3, "l0": 0.6})
"""Share of the running mean of gradients that an evaluation keeps."""
TRUST = 2.0
"""After the first crossing a radius changes by at most this factor; before it, it grows by at most this."""
BEYOND = 1.05
"""A restart's radius passes the best length by at most this factor; descents that end farther beyond are lost."""
STRIDE: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 2.0})
"""First step of a descent, and every step of the screen, the selection and the bracketing, in units of the radius. For
linf two would serve descents as well, and does serve those from elsewhere, but the selection would see the classes from
too far away to tell them apart."""
NOISE: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 1.5})
"""Noise at the start of a descent, in units of the radius. In l2 1 is 1.4 points worse on an adversarially trained
network."""
NOISE_ENDS = 0.6
"""Noise, and the reach of chords, has decreased to zero after this share of a descent."""
LONG = 28
"""Descents of fewer passes start with less noise, in proportion; starts of the random vertex search have so many."""
DESCENT = 1.7
"""A descent has so many times the square root of the passes: 13, 24 and 48 by effort."""
PART = 3
"""One in so many passes of a descent goes to the bracketing, of a start in l1 to its refinement; the selection has a
round for so many, and the shortest descents are so many times shorter."""

# ---- 1 screen, 2 probe, 3 nearly linear ------------------------------------------------------------------------------

GRADIENT_CLASSES = 3
"""Gradients are taken for so many classes at the sample; of the others the screen has only the logits."""
STEEPER = 1.6
"""The other classes' gradients are taken to be at most this factor longer than the longest seen."""
PROBE_STEP = 0.25
"""Euclidean length of the probe's random step, in units of the first step towards the nearest class."""
CURVATURE = 0.2
"""Above this difference between the two predicted distances, as |log ratio|, the network counts as curved; so it
does where the boundary turns out closer by as much. Classes expected within 1 + this times the nearest take part in the
selection."""
USUAL_DISAGREEMENT = 0.05
"""Typical share of a gradient's dual length that the previous direction does not explain."""

# ---- 4 curved --------------------------------------------------------------------------------------------------------

FROM_SAMPLE = 2
"""A descent from the sample itself to any class has so many times the passes of another; every other search is one."""

# ---- l0 and l1 -------------------------------------------------------------------------------------------------------

SPREAD = 2.0
"""First standard deviation of the log-normal factors; it falls to zero with the square of the steps left."""
SHRINK, GROW = 0.7, 1.1
"""Once something is found, lengths change at most by these factors."""
OUTSIDE = 1.5
"""A first start that ends beyond this many times the predicted distance leaves the rest to another search."""
ONE_ENTRY = 1.0
"""l1: so does a predicted distance below the span of one entry: there parts of many entries are nearer."""
GRADIENT_ERROR = 0.7
"""l0: where gradients are wrong about single entries by more than this share, entries are added greedily."""
TRIES = 12
"""l0: so many entries tell how wrong a gradient is, and are tried for a removal."""
ADDITIONS = 7
"""l0: so many additions share the passes."""

# ---- technical: what float32 resolves, the time a search takes, which random signs are stored ------------------------

TINY = 1e-12
"""Nothing divides by less, and no radius is smaller."""
VANISHED = 1e3
"""Gradient masking: the nearest predicted boundary lies this many box widths away, or nowhere."""
NORMAL_SIGNS = 8
"""So many random signs add up to a number that is nearly normal."""
BANK = 1 << 20
"""So many random signs are stored; a vector of signs is read from one place among them."""
CACHED_PIXELS = 48 * 3 * 32 * 32
"""A processor evaluates so many pixels at a time fastest."""
PIXELS_AT_ONCE = 1 << 26
"""Greedy search: so many pixels are tried at a time, at most."""
IMAGES_AT_ONCE = 64
"""And so many images, or as many as the batch has."""
