"""Checks of an evaluation: of the network, of the attack on it, and of what the store holds of both already.

Every check returns a `Finding`: where it was seen, what that means, and what to do. `CHECKS` is their registry; those
of an evaluation are run by `thinice.checks.run`, those of a store by `thinice.checks.stored`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.registry import Registry
from thinice.results import Finding

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CHECKS", "Check", "Finding", "finding", "sampled_finding"]


@dataclass(frozen=True, slots=True)
class Check:
    """What `CHECKS` knows of a check beside what is seen.

    Attributes
    ----------
    advice : str
        What to do where it is seen.
    normal : float
        The share of samples on which it is seen where all is well.

    """

    advice: str
    normal: float = 0.0


CHECKS: Registry[Check] = Registry(
    "check",
    {
        "randomized_output": (
            Check("switch dropout and noise off, or average gradients and verdicts over many passes (EOT)"),
            "the same input gives other logits each time",
            "network",
        ),
        "batch_effects": (
            Check("put the network in eval mode; batch statistics must not come from what is attacked"),
            "the logits of a sample depend on the batch it is in",
            "network",
        ),
        "softmax_output": (
            Check("attack what comes before the softmax: margins of probabilities saturate and their gradients vanish"),
            "the outputs are probabilities, not logits",
            "network",
        ),
        "few_classes": (
            Check(
                "leave out targeted DLR, and DLR too for fewer than 3: they need the third logit; take cross-entropy "
                "or margin"
            ),
            "there are fewer than 4 classes",
            "network",
        ),
        "hidden_ends": (
            Check(
                "other programs' attacks will look too weak here, these take gradients a hair inside: leave the clamp"
                " out where it changes nothing in [0, 1]"
            ),
            "a clamp of the inputs hides the gradient of every pixel at 0 or 1",
            "network",
        ),
        "unavailable_gradients": (
            Check("replace what cannot be differentiated (BPDA), or attack without gradients (Square)"),
            "no gradient reaches the input",
            "network",
        ),
        "zero_gradients": (
            Check("the softmax has saturated: take the margin or DLR loss, or scale the logits down"),
            "the gradient of the cross-entropy is exactly 0",
            "network",
        ),
        "unstable_predictions": (
            Check("smooth the network or average the gradient over noise (EOT), and take larger steps", normal=0.25),
            "a little random noise changes the margin as much as it is large",
            "network",
        ),
        "unconstrained_attack_failure": (
            Check("trust no robust verdict: mend the attack (loss, gradients, step size) before anything else"),
            "no adversarial was met anywhere in [0, 1]",
            "attack",
        ),
        "silent_success": (
            Check("keep the best point met, not the last"),
            "the attack passed an adversarial and returned something else",
            "attack",
        ),
        "incomplete_optimization": (
            Check("give it more steps or another step size"),
            "the attack was still getting better when it stopped",
            "attack",
        ),
        "transfer_failure": (
            Check("attack the network itself, or a surrogate closer to it"),
            "what fools the surrogate does not fool the network",
            "attack",
        ),
        "black_box_stronger": (
            Check("gradients may be masked: try other losses, more steps and adaptive attacks"),
            "an attack without gradients broke what those with gradients could not",
            "attack",
        ),
        "verified": (
            Check("nothing can be there: the verifier, the network or the data differ, or an adversarial is none"),
            "an adversarial where a verifier has proved that there is none",
            "contradiction",
        ),
        "clean": (
            Check("one of them has the clean sample wrong: networks, data or labels differ"),
            "a clean sample that one attack calls right and the other wrong",
            "contradiction",
        ),
        "norm": (
            Check(
                "an adversarial in hand in one norm is nearer than this in the other: is the attack given "
                "probabilities instead of logits, or too few steps?"
            ),
            "an adversarial in one norm that is nearer than what an attack claims in another",
            "contradiction",
        ),
        "budget": (
            Check("an adversarial within the budget is in hand: the sample is not robust"),
            "an adversarial within the budget of a sample that is called robust",
            "contradiction",
        ),
        "steps": (
            Check("more steps change the result: the search has not converged, so give it more"),
            "a nearer adversarial of the same attack with other steps",
            "contradiction",
        ),
        "attack": (
            Check(
                "another attack found nearer adversarials: run it longer or with other settings, and take the nearer"
            ),
            "a nearer adversarial of another attack",
            "contradiction",
        ),
        "far_from_proved": (
            Check("the search has failed here, and perhaps elsewhere: measure again with --effort thorough"),
            "a second search found a nearer adversarial where epsilon lay far above the proved radius",
            "certification",
        ),
        "below_reported": (
            Check("the reported evaluation was weaker: attack it with theirs too, and compare budgets and data"),
            "a robust accuracy below the reported one",
            "study",
        ),
        "above_reported": (
            Check(
                "this evaluation is weaker than the reported one: give the attack more steps, check its indicators, "
                "and compare budgets and data"
            ),
            "a robust accuracy above the reported one",
            "study",
        ),
        "trends_disagree": (
            Check(
                "clean and robust accuracy go opposite ways: check the indicators of both networks, for the loss of "
                "gradients looks like robustness"
            ),
            "clean and robust accuracy that go opposite ways",
            "study",
        ),
        "jumps_over_sparsity": (
            Check(
                "pruning more cannot help and harm in turn: look for one seed a sparsity, a loading that lost "
                "weights, or an attack that failed on some networks"
            ),
            "a robust accuracy that jumps over the sparsities",
            "study",
        ),
        "no_separation": (
            Check(
                "lost samples do not lie nearer than kept ones as far as these samples tell: take more samples or a "
                "stronger attack before saying that thin ice explains the losses"
            ),
            "lost samples that lie no nearer than kept ones",
            "study",
        ),
    },
)
"""All checks by name, in the order in which findings are listed: what is seen where a check is raised, and its kind."""


def sampled_finding(check: str, samples: Iterable[int], of: int, value: float | None = None) -> Finding:
    """Return the finding of a check that looked at `of` samples and was seen on the `samples` with these ids.

    Examples
    --------
    >>> print(sampled_finding("silent_success", samples=(3, 8), of=64))
    silent_success, 2 of 64 samples: the attack passed an adversarial and returned something else; keep the best \
point met, not the last

    """
    row, ids, seen = CHECKS.get(check), tuple(samples), CHECKS.summaries()[check]
    raised = len(ids) > row.normal * of
    return Finding(check, (), ids, seen, row.advice, raised=raised, count=len(ids), of=of, value=value)


def finding(check: str, where: Tensor, sample_ids: Tensor, values: Tensor | None = None) -> Finding:
    """Return the finding of a check that was seen ``where`` (N,) bool is true, of the samples (N,) looked at.

    Its value is the mean of ``values`` (N,).
    """
    value = None if values is None or not len(values) else float(values.double().mean())
    return sampled_finding(check, sample_ids[where].tolist(), len(where), value)
