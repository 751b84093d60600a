"""The result of a check, and the list of all checks: what each looks for, and what to do where it is seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from thinice.types import Norm

__all__ = ["CHECKS", "Check", "Finding", "finding", "sampled_finding", "sort_by_severity"]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of `CHECKS`.

    Attributes
    ----------
    advice : str
        What to do where it is seen.
    seen : str
        What is seen, of a check that says the same each time; others say it with their numbers.
    normal : float
        The share of samples on which it is seen where all is well.

    """

    advice: str
    seen: str = ""
    normal: float = 0.0


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        # of one network: network.py
        "randomized_output": Check(
            "switch dropout and noise off, or average gradients and verdicts over many passes (EOT)",
            "the same input gives other logits each time",
        ),
        "batch_effects": Check(
            "put the network in eval mode; batch statistics must not come from what is attacked",
            "the logits of a sample depend on the batch it is in",
        ),
        "softmax_output": Check(
            "attack what comes before the softmax: margins of probabilities saturate and their gradients vanish",
            "the outputs are probabilities, not logits",
        ),
        "few_classes": Check(
            "leave out targeted DLR, and DLR too for fewer than 3: they need the third logit; take cross-entropy or "
            "margin",
            "there are fewer than 4 classes",
        ),
        "hidden_ends": Check(
            "other programs' attacks will look too weak here, these take gradients a hair inside: leave the clamp out "
            "where it changes nothing in [0, 1]",
            "a clamp of the inputs hides the gradient of every pixel at 0 or 1",
        ),
        "unavailable_gradients": Check(
            "replace what cannot be differentiated (BPDA), or attack without gradients (Square)",
            "no gradient reaches the input",
        ),
        "zero_gradients": Check(
            "the softmax has saturated: take the margin or DLR loss, or scale the logits down",
            "the gradient of the cross-entropy is exactly 0",
        ),
        "unstable_predictions": Check(
            "smooth the network or average the gradient over noise (EOT), and take larger steps",
            "a little random noise changes the margin as much as it is large",
            normal=0.25,
        ),
        # of one attack on it: attack_failure.py
        "unconstrained_attack_failure": Check(
            "trust no robust verdict: mend the attack (loss, gradients, step size) before anything else",
            "no adversarial was met anywhere in [0, 1]",
        ),
        "silent_success": Check(
            "keep the best point met, not the last",
            "the attack passed an adversarial and returned something else",
        ),
        "incomplete_optimization": Check(
            "give it more steps or another step size",
            "the attack was still getting better when it stopped",
        ),
        "transfer_failure": Check(
            "attack the network itself, or a surrogate closer to it",
            "what fools the surrogate does not fool the network",
        ),
        "black_box_stronger": Check(
            "gradients may be masked: try other losses, more steps and adaptive attacks",
            "an attack without gradients broke what those with gradients could not",
        ),
        # between two attacks on it: contradictions.py
        "verified": Check(
            "nothing can be there: the verifier, the network or the data differ, or an adversarial is none"
        ),
        "clean": Check("one of them has the clean sample wrong: networks, data or labels differ"),
        "norm": Check(
            "an adversarial in hand in one norm is nearer than this in the other: is the attack given probabilities "
            "instead of logits, or too few steps?"
        ),
        "budget": Check("an adversarial within the budget is in hand: the sample is not robust"),
        "steps": Check("more steps change the result: the search has not converged, so give it more"),
        "attack": Check(
            "another attack found nearer adversarials: run it longer or with other settings, and take the nearer"
        ),
        # between the networks of a study: study_patterns.py
        "below_reported": Check(
            "the reported evaluation was weaker: attack it with theirs too, and compare budgets and data"
        ),
        "above_reported": Check(
            "this evaluation is weaker than the reported one: give the attack more steps, check its indicators, and "
            "compare budgets and data"
        ),
        "trends_disagree": Check(
            "clean and robust accuracy go opposite ways: check the indicators of both networks, for the loss of "
            "gradients looks like robustness"
        ),
        "jumps_over_sparsity": Check(
            "pruning more cannot help and harm in turn: look for one seed a sparsity, a loading that lost weights, or "
            "an attack that failed on some networks"
        ),
        "no_separation": Check(
            "lost samples do not lie nearer than kept ones as far as these samples tell: take more samples or a "
            "stronger attack before saying that thin ice explains the losses"
        ),
    }
)
"""All checks by name, in the order in which findings are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; made by `finding` and `sampled_finding`, which take the words from `CHECKS`.

    Attributes
    ----------
    check : str
        Its name in `CHECKS`.
    subjects : tuple of str
        What it is about, where the caller does not know: the networks of a study, or two attacks, the one whose claim
        is refuted and the one whose adversarials refute it.
    samples : tuple of int
        Ids of the samples on which it was seen; of a contradiction the worst first, and no more than were asked for.
    seen, advice : str
        What was seen, and what to do.
    raised : bool
        Whether that is more than is normal, and the numbers are in doubt.
    count, of : int
        On how many samples it was seen, and how many were looked at; 0 of 0 where it is not about samples.
    value : float, optional
        The mean of the indicator over the samples, where it is a number and not a flag.
    norms : tuple of str
        The norms of two attacks.
    claimed, bounds : tuple of float
        Of each of the samples, what the one attack claims, and what the adversarial of the other allows at most, both
        in the norm of the claim.

    Examples
    --------
    >>> print(sampled_finding("silent_success", samples=(3, 8), of=64))
    silent_success, 2 of 64 samples: the attack passed an adversarial and returned something else; keep the best \
point met, not the last

    """

    check: str
    subjects: tuple[str, ...]
    samples: tuple[int, ...]
    seen: str
    advice: str
    raised: bool = True
    count: int = 0
    of: int = 0
    value: float | None = None
    norms: tuple[Norm, ...] = ()
    claimed: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """On which share of the samples it was seen; 0 where there are none."""
        return self.count / self.of if self.of else 0.0

    def __str__(self) -> str:
        samples = f"{self.count} of {self.of} samples"
        if self.norms:
            attacks = (f"{attack} ({norm})" for attack, norm in zip(self.subjects, self.norms, strict=True))
            return f"{' against '.join(attacks)}: {samples}; {self.seen}: {self.advice}"
        head = [self.check, *self.subjects, *([] if self.subjects else [samples])]
        return f"{', '.join(head)}: {self.seen}; {self.advice}"

    def to_dict(self) -> dict[str, str | int | bool | float | list[int] | list[str] | None]:
        """Return what can be stored as JSON."""
        return {
            "check": self.check,
            "subjects": list(self.subjects),
            "raised": self.raised,
            "samples": self.count,
            "of": self.of,
            "value": self.value,
            "sample_ids": list(self.samples),
            "seen": self.seen,
            "advice": self.advice,
        }


def sampled_finding(check: str, samples: Iterable[int], of: int, value: float | None = None) -> Finding:
    """Return the finding of a check that looked at `of` samples and was seen on the `samples` with these ids."""
    row, ids = CHECKS[check], tuple(samples)
    raised = len(ids) > row.normal * of
    return Finding(check, (), ids, row.seen, row.advice, raised=raised, count=len(ids), of=of, value=value)


def finding(check: str, where: Tensor, sample_ids: Tensor, values: Tensor | None = None) -> Finding:
    """Return the finding of a check that was seen ``where`` (N,) bool is true, of the samples (N,) looked at.

    Its value is the mean of ``values`` (N,).
    """
    value = None if values is None or not len(values) else float(values.double().mean())
    return sampled_finding(check, sample_ids[where].tolist(), len(where), value)


def sort_by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that are raised, the one on the largest share of samples first."""
    return tuple(sorted((finding for finding in findings if finding.raised), key=lambda raised: -raised.share))
