"""Which normalisation a network expects, inferred from its accuracy on labelled samples where that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models.classifier import Classifier, OneByOne, assemble
from thinice.models.normalization import NORMALIZATIONS, Normalization, Normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn import Module

__all__ = ["NormalizationCandidate", "infer_normalization", "normalization_candidates"]

ALPHA = 0.05
"""Chance of choosing a normalisation that is no better than another, over all comparisons together."""
BATCH = 250
SAME = 1e-3
"""Normalisations whose numbers differ by less are one candidate: no data set tells them apart."""


class Inputs(Protocol):
    """A tensor (N, C, H, W), or what decodes to one when it is sliced."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, C, H, W)."""
        ...

    def __getitem__(self, part: slice, /) -> Tensor:
        """Return some of the samples."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NormalizationCandidate:
    """A normalisation by name, and which samples (N,) the network gets right under it."""

    name: str
    normalization: Normalization | None
    correct: Tensor

    @property
    def accuracy(self) -> float:
        """Fraction of the samples that are right."""
        return float(self.correct.float().mean())


def normalization_candidates(
    classifier: Classifier, inputs: Inputs, labels: Tensor
) -> tuple[NormalizationCandidate, ...]:
    """Return the named normalisations with the clean accuracy under each, the best first.

    Parameters
    ----------
    classifier
        Its own normalisation does not matter.
    inputs, labels
        Samples (N, C, H, W) in [0, 1] and their true classes (N,).

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> candidates = normalization_candidates(as_classifier(network), torch.rand(8, 1, 2, 2), torch.zeros(8).long())
    >>> sorted(candidate.name for candidate in candidates)
    ['fashion-mnist', 'half', 'mnist', 'none']
    """
    channels = inputs.shape[1]
    candidates: list[NormalizationCandidate] = []
    for name, normalization in NORMALIZATIONS.items():
        fits = normalization is None or name == "half" or len(normalization[0]) == channels
        if fits and not any(_alike(normalization, earlier.normalization) for earlier in candidates):
            candidates.append(
                NormalizationCandidate(name, normalization, _correct(classifier, normalization, inputs, labels))
            )
    return tuple(sorted(candidates, key=lambda candidate: -candidate.accuracy))


def _alike(first: Normalization | None, second: Normalization | None) -> bool:
    if first is None or second is None:
        return first is second
    numbers = zip(first[0] + first[1], second[0] + second[1], strict=False)
    return len(first[0]) == len(second[0]) and all(abs(a - b) < SAME for a, b in numbers)


def _correct(classifier: Classifier, normalization: Normalization | None, inputs: Inputs, labels: Tensor) -> Tensor:
    network: Module = classifier.network
    if normalization is not None:
        network = Normalized(network, mean=normalization[0], std=normalization[1]).to(classifier.device)
    network = OneByOne(network) if classifier.one_by_one else network
    with torch.no_grad():
        correct = [
            network(inputs[slice(start, start + BATCH)].to(classifier.device)).argmax(1).cpu()
            == labels[start : start + BATCH].cpu()
            for start in range(0, len(labels), BATCH)
        ]
    return torch.cat(correct)


def infer_normalization(classifier: Classifier, inputs: Inputs, labels: Tensor) -> Classifier:
    """Return the classifier with the normalisation under which it is clearly more accurate than under any other.

    Clearly: the exact McNemar test (of the samples that are right under only one of two normalisations, the share of
    the better one) against each other candidate gives p < 0.05 divided by their number. A classifier whose
    normalisation is known comes back as it is.

    Raises
    ------
    InputError
        No candidate is clearly better; all accuracies and the option to give are named.

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> classifier = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))
    >>> infer_normalization(classifier, torch.rand(8, 1, 2, 2), torch.zeros(8).long()) is classifier
    True
    """
    if classifier.normalization_known:
        return classifier
    from scipy.stats import binomtest  # noqa: PLC0415 - needed here alone

    candidates = normalization_candidates(classifier, inputs, labels)
    best, *others = candidates
    accuracies = ", ".join(f"{candidate.name} {candidate.accuracy:.3f}" for candidate in candidates)
    for other in others:
        only_best = int((best.correct & ~other.correct).sum())
        only_other = int((other.correct & ~best.correct).sum())
        pvalue = binomtest(only_best, only_best + only_other).pvalue if only_best + only_other else 1.0
        if pvalue >= ALPHA / len(others):
            raise InputError(
                f"`normalization` is missing for {classifier.name!r} and {len(labels)} samples do not decide: "
                f"accuracy is {accuracies}; {best.name} and {other.name} may differ by chance alone "
                f"(p = {pvalue:.2g}): give one of them (--normalization)"
            )
    chosen = (
        f"normalisation {best.name} chosen on {len(labels)} samples, clearly better than every other (exact paired "
        f"test, p < {ALPHA:g} over all): accuracy is {accuracies}"
    )
    unchanged = {
        name: getattr(classifier, name) for name in ("class_names", "data", "input_shape", "recipe", "parent", "path")
    }
    return assemble(
        classifier.network,
        name=classifier.name,
        architecture=classifier.architecture,
        arguments=classifier.arguments,
        classes=classifier.classes,
        normalization=best.normalization,
        normalization_known=True,
        one_by_one=classifier.one_by_one,
        notes=(*(note for note in classifier.notes if not note.startswith("normalisation is not known")), chosen),
        **unchanged,
    )
