"""What a check has seen: on which samples, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["INDICATORS", "Finding", "Indicator", "black_box_stronger", "finding", "worst_first"]


@dataclass(frozen=True, slots=True)
class Indicator:
    """One row of `INDICATORS`: what is seen where it fails, what to do, and on which share of samples it is normal."""

    seen: str
    advice: str
    normal: float = 0.0


INDICATORS: Mapping[str, Indicator] = MappingProxyType(
    {
        "randomized_output": Indicator(
            "the same input gives other logits each time",
            "switch dropout and noise off, or average gradients and verdicts over many passes (EOT)",
        ),
        "batch_effects": Indicator(
            "the logits of a sample depend on the batch it is in",
            "put the network in eval mode; batch statistics must not come from what is attacked",
        ),
        "softmax_output": Indicator(
            "the outputs are probabilities, not logits",
            "attack what comes before the softmax: margins of probabilities saturate and their gradients vanish",
        ),
        "few_classes": Indicator(
            "there are fewer than 4 classes",
            "leave out targeted DLR, and DLR too for fewer than 3: they need the third logit; take cross-entropy or "
            "margin",
        ),
        "hidden_ends": Indicator(
            "a clamp of the inputs hides the gradient of every pixel at 0 or 1",
            "other programs' attacks will look too weak here, these take gradients a hair inside: leave the clamp out "
            "where it changes nothing in [0, 1]",
        ),
        "unavailable_gradients": Indicator(
            "no gradient reaches the input",
            "replace what cannot be differentiated (BPDA), or attack without gradients (Square)",
        ),
        "zero_gradients": Indicator(
            "the gradient of the cross-entropy is exactly 0",
            "the softmax has saturated: take the margin or DLR loss, or scale the logits down",
        ),
        "unstable_predictions": Indicator(
            "a little random noise changes the margin as much as it is large",
            "smooth the network or average the gradient over noise (EOT), and take larger steps",
            normal=0.25,
        ),
        "unconstrained_attack_failure": Indicator(
            "no adversarial was met anywhere in [0, 1]",
            "trust no robust verdict: mend the attack (loss, gradients, step size) before anything else",
        ),
        "silent_success": Indicator(
            "the attack passed an adversarial and returned something else",
            "keep the best point met, not the last",
        ),
        "incomplete_optimization": Indicator(
            "the attack was still getting better when it stopped",
            "give it more steps or another step size",
        ),
        "transfer_failure": Indicator(
            "what fools the surrogate does not fool the network",
            "attack the network itself, or a surrogate closer to it",
        ),
        "black_box_stronger": Indicator(
            "an attack without gradients broke what those with gradients could not",
            "gradients may be masked: try other losses, more steps and adaptive attacks",
        ),
    }
)
"""The checks by name. All are zero on a healthy network with a good attack, but the one that says otherwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    name : str
        A name in `INDICATORS`.
    sample_ids : tuple of int
        The samples on which it was seen.
    of : int
        The samples that were looked at.
    value : float, optional
        The mean of the indicator over them, where it is a number and not a flag.

    Examples
    --------
    >>> print(Finding("silent_success", sample_ids=(3, 8), of=64))
    silent_success, 2 of 64 samples: the attack passed an adversarial and returned something else; keep the best \
point met, not the last

    """

    name: str
    sample_ids: tuple[int, ...]
    of: int
    value: float | None = None

    @property
    def samples(self) -> int:
        """On how many samples it was seen."""
        return len(self.sample_ids)

    @property
    def share(self) -> float:
        """On which share of the samples; 0 where there are none."""
        return self.samples / self.of if self.of else 0.0

    @property
    def raised(self) -> bool:
        """Whether that is more than is normal, and the evaluation in doubt."""
        return self.share > INDICATORS[self.name].normal

    @property
    def seen(self) -> str:
        """What it means where it is seen."""
        return INDICATORS[self.name].seen

    @property
    def advice(self) -> str:
        """What to do."""
        return INDICATORS[self.name].advice

    def __str__(self) -> str:
        return f"{self.name}, {self.samples} of {self.of} samples: {self.seen}; {self.advice}"

    def to_dict(self) -> dict[str, str | int | bool | float | list[int] | None]:
        """Return what can be stored as JSON."""
        return {
            "name": self.name,
            "raised": self.raised,
            "samples": self.samples,
            "of": self.of,
            "value": self.value,
            "sample_ids": list(self.sample_ids),
            "seen": self.seen,
            "advice": self.advice,
        }


def finding(name: str, where: Tensor, sample_ids: Tensor, values: Tensor | None = None) -> Finding:
    """Return the finding of a check that was seen ``where`` (N,) bool is true, of the samples (N,) looked at."""
    value = None if values is None or not len(values) else float(values.double().mean())
    return Finding(name, tuple(sample_ids[where].tolist()), len(where), value)


def black_box_stronger(sample_ids: Sequence[int], broken_by: Sequence[str | None], black_box: Iterable[str]) -> Finding:
    """Return which samples fell to an attack without gradients, having withstood all others.

    Parameters
    ----------
    sample_ids : sequence of int
        (N,) the samples attacked, by one attack after the other.
    broken_by : sequence of str or None
        (N,) the attack that broke each, None where none did.
    black_box : iterable of str
        The attacks without gradients, which came last.

    Examples
    --------
    >>> black_box_stronger([5, 6, 7], ["apgd-ce", "square", None], ["square"]).sample_ids
    (6,)

    """
    names = set(black_box)
    where = torch.tensor([attack in names for attack in broken_by], dtype=torch.bool)
    return finding("black_box_stronger", where, torch.as_tensor(sample_ids, dtype=torch.int64))


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return those that are raised, the one on the largest share of samples first."""
    return tuple(sorted((one for one in findings if one.raised), key=lambda one: -one.share))
