"""Settings of TMN: those that users choose, what each effort sets, and every other number of the attack.

`docs/tmn.md` has the same numbers beside the formulas, by step. Other modules read them as `constants.NAME`, so that an
ablation has one place to change them. Lengths and distances are in the attack's norm. Where an origin is known it
stands with the number; all others were chosen by trial on small networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from thinice.types import Effort, Norm

__all__ = ["EFFORTS", "RANGES", "UNUSED", "TmnSettings"]


@dataclass(frozen=True, slots=True)
class TmnSettings:
    """What users can set of TMN; the defaults are those of effort ``standard``.

    Attributes
    ----------
    classes : int
        Screen at most this many classes, those with the largest logits (1).
    selection_rounds : int
        Passes of each candidate class in the selection, at most (3a).
    steps : int
        Passes of the descent where gradients agree as much as is usual; other descents take between a third of it and
        three times as many (3b). Where runner-up classes get descents too, all share one and a half times this.
    runner_up_classes : int
        Where the chosen class ends closer than predicted, so many other classes get a descent as well (3c).
    noise : float
        Noise at the start of the descent: 1 is the usual, 0 none (3b).
    bracket_steps : int
        Curved regions: passes from the probe to a first adversarial, and of the bisection after it (4a).
    restarts, restart_steps : int
        Curved regions: descents, each from another starting point, and passes of each (4b).
    fmn_steps : int
        Curved regions: passes of FMN, the search of another kind (4c).
    second_opinions : int
        Curved regions: where the searches disagree, descents from the sample to the class found, and passes of FMN, so
        many times (4d).
    sparse_restarts, sparse_steps : int
        l0 and l1: starts of the random vertex search, and passes of each (S2). What other searches spend in its place
        follows from these (S3, S4).

    """

    classes: int = 9
    selection_rounds: int = 6
    steps: int = 27
    runner_up_classes: int = 1
    noise: float = 1.0
    bracket_steps: int = 9
    restarts: int = 2
    restart_steps: int = 23
    fmn_steps: int = 50
    second_opinions: int = 1
    sparse_restarts: int = 3
    sparse_steps: int = 28


EFFORTS: Mapping[Effort, Mapping[str, int | float]] = MappingProxyType(
    {
        "quick": {
            "selection_rounds": 3,
            "steps": 11,
            "runner_up_classes": 0,
            "noise": 0.0,
            "bracket_steps": 8,
            "restarts": 1,
            "restart_steps": 12,
            "fmn_steps": 25,
            "second_opinions": 0,
            "sparse_restarts": 2,
            "sparse_steps": 22,
        },
        "standard": {},
        "thorough": {
            "steps": 75,
            "runner_up_classes": 2,
            "restarts": 10,
            "restart_steps": 32,
            "fmn_steps": 100,
            "second_opinions": 2,
            "sparse_restarts": 11,
            "sparse_steps": 33,
        },
    }
)
"""What each effort sets; the rest keeps the defaults of `TmnSettings`."""
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "classes": (1, 10**6),
        "selection_rounds": (1, 10**6),
        "steps": (1, 10**6),
        "runner_up_classes": (0, 10**6),
        "noise": (0, 10),
        "bracket_steps": (0, 10**6),
        "restarts": (1, 10**6),
        "restart_steps": (1, 10**6),
        "fmn_steps": (0, 10**6),
        "second_opinions": (0, 10**3),
        "sparse_restarts": (1, 10**6),
        "sparse_steps": (1, 10**6),
    }
)
"""The least and the greatest value of each setting."""
UNUSED: Mapping[Norm, tuple[str, ...]] = MappingProxyType(
    {
        "linf": ("sparse_restarts", "sparse_steps"),
        "l2": ("sparse_restarts", "sparse_steps"),
        "l1": ("selection_rounds", "steps", "runner_up_classes", "noise", "fmn_steps", "second_opinions"),
        "l0": (
            "selection_rounds",
            "steps",
            "runner_up_classes",
            "noise",
            "bracket_steps",
            "restarts",
            "restart_steps",
            "fmn_steps",
            "second_opinions",
        ),
    }
)
"""The settings that change nothing in a norm."""

# ---- every step ------------------------------------------------------------------------------------------------------

TINY = 1e-12
"""Nothing divides by less, and no radius is smaller."""
AGREEMENT = 0.002
"""Two lengths that differ by no more than this share are the same."""
OVERSHOOT = 1.0005
"""Radii aim this factor beyond the predicted boundary; at 1 searches end just before it."""
MEMORY: Mapping[Norm, float] = MappingProxyType({"linf": 0.5, "l2": 0.3, "l1": 0.3, "l0": 0.6})
"""Share of the running mean of gradients that an evaluation keeps."""
RADIUS_CHANGE = 2.0
"""After the first crossing a radius changes by at most this factor; halved where a network has no logits."""
BRACKET_SLACK = 0.02
"""A Newton radius may leave the bracket of the last two evaluations by this share; beyond it the secant counts."""
BEYOND = 1.05
"""By this factor the first points of l1 and l0 pass the predicted boundary, and a descent's radius its best length."""
LAST_STRIDE = 0.01
"""Every annealed stride, and every annealed limit of a radius's change, ends with this share."""

# ---- 1 screen --------------------------------------------------------------------------------------------------------

GRADIENT_CLASSES = 3
"""Gradients are taken for so many classes at the sample; of the others the screen has only the logits."""
STEEPER = 1.6
"""The other classes' gradients are taken to be at most this factor longer than the longest seen."""
SCREEN_STRIDE = 2.0
"""First step of each candidate, in units of the radius, in l2 and linf."""
VANISHED = 1e3
"""Gradient masking: the nearest predicted boundary lies this many box widths away, or nowhere."""

# ---- 2 probe ---------------------------------------------------------------------------------------------------------

PROBE_STEP = 0.25
"""Euclidean length of the probe's random step, in units of the first step towards the nearest class."""
CURVATURE_LIMIT = 0.2
"""Above this difference between the two predicted distances, as |log ratio|, the network counts as curved."""
CLOSER = 0.4
"""An adversarial at less than this share of the predicted distance makes a sample curved after all."""
CROSS_CHECK_CURVATURE, CROSS_CHECK_PREDICTION = 0.1, 0.7
"""Above these differences, of the probe and of the best length from the prediction (log), FMN is asked as well."""

# ---- 3a select -------------------------------------------------------------------------------------------------------

SELECTION_SLACK = 1.15
"""Classes predicted within this factor of the nearest take part from the first round."""
KEEP: Mapping[str, float] = MappingProxyType({"linf": 1.1, "l2": 1.3})
"""Classes expected within this factor of the best stay. In l2 first estimates tell less: on an adversarially trained
network 1.15 drops the right class so often that epsilons lie 8 % too far on average, with 1.3 5 %."""
CURVATURE_SHARE = 0.5
"""This share of the curvature widens the slack, and of its last change the tolerance of an estimate."""
MIN_EVALUATIONS = 2
"""A class is chosen after so many evaluations at the earliest."""

# ---- 3b descend, 3c runners-up ---------------------------------------------------------------------------------------

STRIDE: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 2.0})
"""First step of a descent and every step of the selection, in units of the radius. For linf two would serve descents
as well, but the selection would see the classes from too far away to tell them apart."""
NOISE: Mapping[str, float] = MappingProxyType({"linf": 1.0, "l2": 1.5})
"""Noise at the start of a descent, in units of the radius and of the setting `noise`."""
FULL_NOISE_STEPS = 28
"""Descents of fewer steps start with less noise, in proportion."""
NOISE_ENDS = 0.6
"""Noise has decreased to zero after this share of a descent."""
USUAL_DISAGREEMENT = 0.06
"""Typical share of a gradient's dual length that the previous direction does not explain."""
STEPS_POWER = 0.4
"""The number of steps grows with (measured share / usual share) to this power."""
STEPS_RANGE = 3.0
"""Steps are at most multiplied or divided by this."""
IMPROVEMENT: Mapping[str, float] = MappingProxyType({"linf": 0.5, "l2": 0.2})
"""Where the chosen class turns out closer than predicted by more than this (log), runner-up classes get a descent."""
SHARED_STEPS = 1.5
"""There the chosen class and the runners-up share this many times the steps."""
CONVERGED = 0.99
"""A descent has converged if its best length after three quarters, times this, is no more than at the end."""

# ---- 4a bracket ------------------------------------------------------------------------------------------------------

BRACKET_STRIDE = 2.0
"""Every step of the bracketing, in units of the radius."""
BRACKET_GROWTH = 2.0
"""Until something is found a radius grows by at most this factor of the current length."""
BRACKET_MEETS, BRACKET_REOPENS = 1.1, 0.7
"""An adversarial shorter than the first times the longest failure means the bracket was wrong: the failure's length
becomes the second times the adversarial's."""

# ---- 4b restart, 4c FMN ----------------------------------------------------------------------------------------------

RESTART_STRIDE: Mapping[str, float] = MappingProxyType({"linf": 2.0, "l2": 2.0, "l1": 1.0})
"""First step of a descent, in units of the radius."""
RESTART_NOISE = 0.5
"""Noise at the start of a descent, in units of the radius."""
RESTART_TRUST = 0.5
"""At first a radius may differ from the current length by this share."""
NOISE_START = 2.0
"""Length of a starting point that is noise, in units of the best."""
UNFOUND_START = 0.5
"""Where nothing is found, the best length is taken to be this share of the longest in the box."""
L1_MIN_FMN_STEPS = 40
"""l1: fewer passes of FMN than these improve nothing; it is left out then."""
L1_THIRDS = 3
"""l1: one part in so many of the passes goes to the restarts of a dense search, or of the vertex search to FMN."""
L1_FEWER_RESTARTS = 5
"""l1: the dense search has this many times fewer restarts than l2 and linf, and longer ones."""

# ---- S2 random vertex search -----------------------------------------------------------------------------------------

SPREAD: Mapping[Norm, float] = MappingProxyType({"l0": 2.5, "l1": 2.0})
"""First standard deviation of the log-normal factors; it falls to zero with the square of the steps left."""
NORMAL_SIGNS = 8
"""So many random signs add up to a number that is nearly normal."""
FIRST_LENGTH = 3.0
"""Length of the first step, at most."""
SPARSE_SHRINK, SPARSE_GROW = 0.7, 1.1
"""Once something is found, lengths change at most by these factors."""
SPARSE_LEAST_GROWTH, SPARSE_MOST_GROWTH = 1.5, 2.0
"""Before, they grow by factors between these."""
OUTSIDE: Mapping[Norm, float] = MappingProxyType({"l0": 2.5, "l1": 1.5})
"""A first start that ends beyond this many times the predicted distance needs another search."""
L1_ONE_ENTRY = 1.0
"""l1: so does a predicted distance below the span of one entry: there parts of many entries are nearer."""
REFINEMENT_SHARE = 3
"""l1: one pass in so many of a start is local refinement."""
REFINE_OWN = 1.1
"""l1: a start that ends within this factor of the best is refined itself, else the best is."""
REFINEMENT_MEMORY = 0.5
"""l1: share of the running mean of gradients that an evaluation keeps in the refinement."""
REFINEMENT_TRUST = 0.3
"""l1: at first the refinement's radius may differ from the current length by this share."""
REFINEMENT_STRIDE = 0.8
"""l1: first step of the refinement, of the entry with the largest gradient."""

# ---- S3 greedy entries, S4 spare entries (l0) ------------------------------------------------------------------------

GRADIENT_ERROR = 0.7
"""Where gradients are wrong about single entries by more than this share, entries are added greedily."""
PROBED_ENTRIES = 12
"""So many entries tell how wrong a gradient is."""
FIRST_ADDITIONS = 5
"""So many first additions, on which the others depend, share two thirds of the passes."""
FEWER_TRIES = 4
"""Later additions try this many times fewer entries."""
GREEDY_PASSES = 2
"""Where nothing is found yet, the greedy search may spend this many times its passes."""
REMOVED_ENTRIES = 3
"""At most so many entries are removed in the end."""
REMOVAL_TRIES = 12
"""So many of the smallest entries are tried for each removal, at most."""

# ---- technical: the time a search takes, and which random signs are stored -------------------------------------------

BANK = 1 << 20
"""So many random signs are stored; a vector of signs is read from one place among them."""
CACHED_PIXELS = 48 * 3 * 32 * 32
"""A processor evaluates so many pixels at a time fastest."""
PIXELS_AT_ONCE = 1 << 26
"""Greedy search: so many pixels are tried at a time, at most."""
IMAGES_AT_ONCE = 64
"""And so many images, or as many as the batch has."""
