"""Doubts about a network, from its answers to some labelled samples before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinice.models import looks_like_probabilities
from thinice.models.architectures.variants import variants_of
from thinice.models.hypotheses import DENSE
from thinice.models.recorded import SURPRISING, chance_of

if TYPE_CHECKING:
    from torch import Tensor

    from thinice.data import Samples
    from thinice.models import Classifier

__all__ = ["doubts"]

PROBABILITIES = (
    "the outputs look like probabilities, not logits: a softmax inside starves attacks of gradients, and epsilons come "
    "out too large; export the network without it"
)
NEAR_CHANCE = 0.1
"""Of the way from chance to all samples right."""
ENOUGH = 8
"""Fewer samples than these do not tell where labels count from."""
FEW = 0.1
"""Share of a network's classes that labels use, up to which they are probably numbered in another way."""


def doubts(classifier: Classifier, logits: Tensor, samples: Samples) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what speaks against a network's being the one that is meant, one sentence each: what is grave, the rest.

    Parameters
    ----------
    classifier : Classifier
        The network.
    logits : Tensor
        (N, K), its answers.
    samples : Samples
        What it answered.

    Examples
    --------
    >>> import thinice, torch
    >>> classifier = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=100)
    >>> doubts(classifier, classifier(samples.inputs), samples)
    ((), ())
    >>> doubts(classifier, torch.zeros(100, 10), samples)[1][0][:41]
    'accuracy is 0.100 on 100 samples, which c'
    """
    count, classes = logits.shape
    right = int((logits.argmax(1) == samples.labels).sum())
    labelled = len(samples.classes)
    grave = (
        PROBABILITIES if looks_like_probabilities(logits) else "",
        _other_than_recorded(classifier, right, count),
        _undefined_logits(logits),
        _shifted_labels(logits, samples.labels),
    )
    light = (
        _near_chance(classifier, right, count, classes),
        f"labels use {labelled} of the network's {classes} classes: they must be its own numbers of these classes"
        if labelled <= FEW * classes
        else "",
    )
    return tuple(filter(None, grave)), tuple(filter(None, light))


def _undefined_logits(logits: Tensor) -> str:
    """Return a sentence where logits are no numbers.

    >>> import torch
    >>> _undefined_logits(torch.tensor([[0.0, torch.nan], [1.0, -torch.inf]]))
    '1 of 2 samples have logits that are NaN, and so no class: they count as wrong, and have no epsilon'
    """
    count = int(logits.isnan().any(1).sum())
    undefined = f"{count} of {len(logits)} samples have logits that are NaN, and so no class"
    return f"{undefined}: they count as wrong, and have no epsilon" if count else ""


def _shifted_labels(logits: Tensor, labels: Tensor) -> str:
    """Return a sentence where a network is right on labels that count from another number, and not on these.

    >>> import torch
    >>> _shifted_labels(torch.eye(12), torch.arange(12) + 1)
    '0 of 12 samples are right with the labels as they are, and 12 with labels - 1: where do labels count from?'
    """
    count, predictions = len(labels), logits.argmax(1)
    as_is, *shifted = (int((predictions == labels + shift).sum()) for shift in (0, -1, 1))
    if count < ENOUGH or len(set(labels.tolist())) < 3 or max(shifted) <= count / 2 or as_is >= count / 4:
        return ""
    sign = "-" if shifted[0] > shifted[1] else "+"
    right = f"{as_is} of {count} samples are right with the labels as they are, and {max(shifted)} with labels {sign} 1"
    return f"{right}: where do labels count from?"


def _other_than_recorded(classifier: Classifier, right: int, count: int) -> str:
    if classifier.recorded_accuracy is None:
        return ""
    name, recorded = classifier.recorded_accuracy
    p_value = chance_of(right, count, recorded)
    if p_value >= SURPRISING:
        return ""
    return (
        f"accuracy is {right / count:.3f} on {count} samples, but the file records {name} {recorded:.3f}, which "
        f"differs by more than chance (p = {p_value:.1g}): another network with the same parameters"
        f"{_variants(classifier)}, another normalisation, other data, or an accuracy of another kind (under attack)"
    )


def _near_chance(classifier: Classifier, right: int, count: int, classes: int) -> str:
    from scipy.stats import binomtest  # noqa: PLC0415 - needed here alone

    chance = 1 / classes
    near = chance + NEAR_CHANCE * (1 - chance)
    if classifier.sparsity >= DENSE or binomtest(right, count, near, alternative="less").pvalue >= NEAR_CHANCE:
        return ""
    return (
        f"accuracy is {right / count:.3f} on {count} samples, which chance would give, and the network is not pruned: "
        f"another network with the same parameters{_variants(classifier)}, another normalisation, or other data"
    )


def _variants(classifier: Classifier) -> str:
    """Return the networks with the same parameters, in brackets."""
    others = variants_of(classifier.architecture, classifier.arguments)
    return f" (--architecture: {', '.join(others)})" if others else ""
