"""Which normalisation a network expects, inferred from its accuracy on labelled samples where that decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thinice.models.hypotheses import decide, hypotheses, usual_normalizations

if TYPE_CHECKING:
    from torch import Tensor

    from thinice.models.classifier import Classifier
    from thinice.models.hypotheses import Inputs
    from thinice.models.normalization import Normalization

__all__ = ["NormalizationCandidate", "infer_normalization", "normalization_candidates"]


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
    >>> import torch
    >>> from thinice.models import as_classifier
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> candidates = normalization_candidates(as_classifier(network), torch.rand(8, 1, 2, 2), torch.zeros(8).long())
    >>> sorted(candidate.name for candidate in candidates)
    ['fashion-mnist', 'half', 'mnist', 'none']
    """
    usual = usual_normalizations(inputs.shape[1])
    return tuple(
        NormalizationCandidate(hypothesis.normalization_name, hypothesis.normalization, hypothesis.correct)
        for hypothesis in hypotheses(classifier, inputs, labels, usual, [classifier.architecture])
    )


def infer_normalization(classifier: Classifier, inputs: Inputs, labels: Tensor) -> Classifier:
    """Return the classifier with the normalisation under which it is clearly more accurate than under any other.

    Its architecture stays; `decide` asks for that too. A classifier whose normalisation is known comes back as it is.

    Raises
    ------
    InputError
        No candidate is clearly better; all accuracies and the option to give are named.

    Examples
    --------
    >>> import torch
    >>> from thinice.models import as_classifier
    >>> classifier = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))
    >>> infer_normalization(classifier, torch.rand(8, 1, 2, 2), torch.zeros(8).long()) is classifier
    True
    """
    if classifier.normalization_known:
        return classifier
    return decide(replace(classifier, architecture_known=True, alternatives=()), inputs, labels)
