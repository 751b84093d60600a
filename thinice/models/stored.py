"""How a network is entered in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinice.models.classifier import Classifier
    from thinice.store import Run

__all__ = ["store_checkpoint"]


def store_checkpoint(run: Run, classifier: Classifier, classes: int) -> int:
    """Return the store's key of a network; `classes` is what is stored where the network does not tell their number."""
    return run.checkpoint(
        fingerprint=classifier.fingerprint,
        name=classifier.name,
        architecture=classifier.architecture,
        classes=classifier.classes or classes,
        sparsity=classifier.sparsity,
        weights=classifier.weights,
        path=classifier.path,
        class_names=classifier.class_names,
        data=classifier.data,
        normalization=classifier.normalization,
        notes=classifier.notes,
        parent=classifier.parent,
    )
