"""Networks: the registry of architectures, and checkpoint files in and out."""

from thinice.models.architectures import ARCHITECTURES, build, find_architecture, known_architectures
from thinice.models.classifier import Classifier, as_classifier, looks_like_probabilities, same_task
from thinice.models.files import save_classifier
from thinice.models.hypotheses import decide
from thinice.models.infer_normalization import NormalizationCandidate, infer_normalization, normalization_candidates
from thinice.models.inspection import Inspection, inspect_checkpoint
from thinice.models.loading import load_classifier
from thinice.models.mask_files import load_masks, save_masks
from thinice.models.normalization import (
    NORMALIZATIONS,
    Normalization,
    NormalizationLike,
    Normalized,
    normalization_text,
    parse_normalization,
)
from thinice.models.weights import Masks, prunable_weights, sparsity

__all__ = [
    "ARCHITECTURES",
    "NORMALIZATIONS",
    "Classifier",
    "Inspection",
    "Masks",
    "Normalization",
    "NormalizationCandidate",
    "NormalizationLike",
    "Normalized",
    "as_classifier",
    "build",
    "decide",
    "find_architecture",
    "infer_normalization",
    "inspect_checkpoint",
    "known_architectures",
    "load_classifier",
    "load_masks",
    "looks_like_probabilities",
    "normalization_candidates",
    "normalization_text",
    "parse_normalization",
    "prunable_weights",
    "same_task",
    "save_classifier",
    "save_masks",
    "sparsity",
]
