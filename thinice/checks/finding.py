"""The list of all checks: what each looks for, and what to do where it is seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from thinice.results import Finding

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CHECKS", "Check", "finding", "sampled_finding"]


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


def sampled_finding(check: str, samples: Iterable[int], of: int, value: float | None = None) -> Finding:
    """Return the finding of a check that looked at `of` samples and was seen on the `samples` with these ids.

    Examples
    --------
    >>> print(sampled_finding("silent_success", samples=(3, 8), of=64))
    silent_success, 2 of 64 samples: the attack passed an adversarial and returned something else; keep the best \
point met, not the last

    """
    row, ids = CHECKS[check], tuple(samples)
    raised = len(ids) > row.normal * of
    return Finding(check, (), ids, row.seen, row.advice, raised=raised, count=len(ids), of=of, value=value)


def finding(check: str, where: Tensor, sample_ids: Tensor, values: Tensor | None = None) -> Finding:
    """Return the finding of a check that was seen ``where`` (N,) bool is true, of the samples (N,) looked at.

    Its value is the mean of ``values`` (N,).
    """
    value = None if values is None or not len(values) else float(values.double().mean())
    return sampled_finding(check, sample_ids[where].tolist(), len(where), value)
