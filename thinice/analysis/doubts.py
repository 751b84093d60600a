"""Doubts about a network, from its answers to some labelled samples before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinice.models import looks_like_probabilities
from thinice.models.architectures.variants import variants_of

if TYPE_CHECKING:
    from torch import Tensor

    from thinice.data import Samples
    from thinice.models import Classifier

__all__ = ["doubts"]

PROBABILITIES = (
    "the outputs look like probabilities, not logits: a softmax inside starves attacks of gradients, and epsilons come "
    "out too large; export the network without it"
)
SURPRISING = 1e-3
"""p-value below which a measured accuracy is another than the recorded one."""
NEAR_CHANCE = 0.1
"""Of the way from chance to all samples right."""
DENSE = 0.05
"""Sparsity below which a network is not pruned."""
FEW = 0.1
"""Share of a network's classes that labels use, up to which they are probably numbered in another way."""


def doubts(classifier: Classifier, logits: Tensor, samples: Samples) -> tuple[str, ...]:
    """Return what speaks against a network's being the one that the user means, one sentence each.

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
    ()
    >>> doubts(classifier, torch.zeros(100, 10), samples)[0][:41]
    'accuracy is 0.100 on 100 samples, which c'
    """
    count, classes = logits.shape
    right = int((logits.argmax(1) == samples.labels).sum())
    known = len(samples.classes)
    possible = [
        PROBABILITIES if looks_like_probabilities(logits) else "",
        _other_than_recorded(classifier, right, count),
        _near_chance(classifier, right, count, classes),
        f"labels use {known} of the network's {classes} classes: they must be its own numbers of these classes"
        if known <= FEW * classes
        else "",
    ]
    return tuple(doubt for doubt in possible if doubt)


def _other_than_recorded(classifier: Classifier, right: int, count: int) -> str:
    if classifier.recorded_accuracy is None:
        return ""
    from scipy.stats import binomtest  # noqa: PLC0415 - needed here alone

    name, recorded = classifier.recorded_accuracy
    least = 1 / (10 * count)  # all right, or all wrong, elsewhere does not mean always
    p_value = float(binomtest(right, count, min(max(recorded, least), 1 - least)).pvalue)
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
    others = variants_of(classifier.architecture)
    return f" (--architecture: {', '.join(others)})" if others else ""
