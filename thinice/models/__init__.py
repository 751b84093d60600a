"""Networks: the registry of architectures, and checkpoint files in and out."""

from thinice.models.checkpoint import load_classifier
from thinice.models.classifier import Classifier, as_classifier, looks_like_probabilities, same_task
from thinice.models.deciding import Hypothesis, decide_normalization, normalization_hypotheses
from thinice.models.normalization import (
    NORMALIZATIONS,
    Normalization,
    NormalizationLike,
    Normalized,
    normalization_text,
    parse_normalization,
)
from thinice.models.prunable import prunable_weights, sparsity
from thinice.models.registry import build, find_architecture, known_architectures, register
from thinice.models.saving import save_classifier

__all__ = [
    "NORMALIZATIONS",
    "Classifier",
    "Hypothesis",
    "Normalization",
    "NormalizationLike",
    "Normalized",
    "as_classifier",
    "build",
    "decide_normalization",
    "find_architecture",
    "known_architectures",
    "load_classifier",
    "looks_like_probabilities",
    "normalization_hypotheses",
    "normalization_text",
    "parse_normalization",
    "prunable_weights",
    "register",
    "same_task",
    "save_classifier",
    "sparsity",
]
