"""Pruned networks written as the programs of their authors write them: what the readers beside this file read.

A format is a function from a classifier to what `torch.save` is to write, and one row in `WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.files import temporary_folder
from thinice.models.files import writable_checkpoint
from thinice.models.research_formats import NORMALIZATION
from thinice.models.research_formats.hydra_harp_rst import HARP_ALPHA, harp_rate, number_kept
from thinice.models.weights import Masks
from thinice.registry import Registry

if TYPE_CHECKING:
    from os import PathLike

    from thinice.models.classifier import Classifier

__all__ = [
    "UNIFORM",
    "WITHOUT_NORMALIZATION",
    "WRITERS",
    "atmc_file",
    "harp_file",
    "hydra_file",
    "radmm_file",
    "save_as",
]

Writer = Callable[["Classifier"], dict[str, Any]]

WRITERS: Registry[Writer] = Registry(
    "also",
    {
        "hydra": (f"{__name__}:hydra_file", "scores, the same density in each layer"),
        "harp": (f"{__name__}:harp_file", "scores, and a density for each layer"),
        "r-admm": (f"{__name__}:radmm_file", "weights with zeros"),
        "atmc": (f"{__name__}:atmc_file", "factors, of which one is the weight"),
    },
)
"""The formats of other programs that pruned networks can be written in."""

UNIFORM = frozenset({"hydra"})
"""Those of them that can hold masks alone that keep the same part of each layer."""

WITHOUT_NORMALIZATION = frozenset({"r-admm", "atmc"})
"""Those that have no place for a normalisation, nor for a word that there is none: who reads the file names it."""

PREFIX = "module."
"""Before all names: these programs train on several GPUs."""


def save_as(classifier: Classifier, path: str | PathLike[str], program: str, *, overwrite: bool | None = None) -> Path:
    """Return the path of the file written, in the format of another program: a name in `WRITERS`.

    Raises
    ------
    InputError
        For an unknown format, a network that it cannot hold, and a file that must not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> from thinice.data.digits import example_checkpoints
    >>> from thinice.models import load_classifier
    >>> pruned = load_classifier(example_checkpoints()["pruned-90"])
    >>> path = save_as(pruned, Path(tempfile.mkdtemp()) / "pruned.pth.tar", "harp")
    >>> load_classifier(path).fingerprint == pruned.fingerprint
    True

    """
    entries = WRITERS.get(program)(classifier)
    target = writable_checkpoint(Path(path), argument="path", overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target.parent) as unfinished:
        partial = unfinished / target.name
        with partial.open("wb") as file:
            torch.save(entries, file)
        partial.replace(target)
    return target


def hydra_file(classifier: Classifier) -> dict[str, Any]:
    """Return a network as HYDRA writes it: weights, and scores that are 1 where the masks keep and 0 elsewhere.

    HYDRA does not write its density, which the masks depend on; here it is there, as ``k``.

    Raises
    ------
    InputError
        For layers that keep different parts, and weights that are not those of a layer alone.

    """
    layers = _layers(classifier)
    sparsity = _common_sparsity(classifier, layers)
    scores = {f"{layer}popup_scores": mask.float() for layer, mask in layers.items()}
    return _entries(classifier, scores, density=1 - sparsity)


def harp_file(classifier: Classifier) -> dict[str, Any]:
    """Return a network as HARP writes it: weights, scores of 1 and 0, and what says each layer's density.

    Scores are those of input channels where the recipe says that these were pruned. HARP does not write the density
    of the whole, which the others depend on; here it is there, as ``k``.

    Raises
    ------
    InputError
        For a layer that keeps less than a tenth of what the others do, which HARP cannot say, and weights that are
        not those of a layer alone.

    """
    layers, pruning = _layers(classifier), _pruning(classifier)
    channels = pruning.get("structure") == "channel"
    if channels:
        layers = {layer: mask for layer, mask in layers.items() if mask.ndim > 2}
    density = Masks(layers).density
    sparsity = pruning.get("sparsity")
    if isinstance(sparsity, float) and 0 < sparsity < 1:
        density = min(density, 1 - sparsity)
    scores: dict[str, Tensor] = {}
    for layer, whole in layers.items():
        mask = whole.any(0, keepdim=True).flatten(2).any(2).view(1, -1, *[1] * (whole.ndim - 2)) if channels else whole
        if not torch.equal(mask.expand_as(whole), whole):
            raise InputError(f"`also` 'harp': {layer}weight keeps parts of its channels: leave the format out")
        count, number = int(mask.sum()), mask.numel()
        score = _rate_score(count, number, density, channels=channels)
        if score is None:
            raise InputError(
                f"`also` 'harp': {layer}weight keeps {count} of {number}, which HARP cannot say where the network "
                f"keeps {density:.4g}: leave the format out"
            )
        scores |= {f"{layer}popup_scores": mask.float(), f"{layer}k_score": score}
    return _entries(classifier, scores, density=density)


def radmm_file(classifier: Classifier) -> dict[str, Any]:
    """Return the weights as R-ADMM writes them: plain, with zeros where pruned, named as within its attack.

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> list(radmm_file(as_classifier(torch.nn.Linear(2, 1), classes=1)))
    ['module.basic_model.weight', 'module.basic_model.bias']

    """
    state = classifier.network.state_dict()
    return {f"{PREFIX}basic_model.{name}": value.detach().cpu().clone() for name, value in state.items()}


def atmc_file(classifier: Classifier) -> dict[str, Any]:
    """Return a network as ATMC writes it, with the weight itself as one of its factors, and zeros as the others.

    That holds any network, with as many non-zero numbers as it has. The factors that ATMC's own search ended with are
    in no checkpoint: `thinice.pruning.atmc.atmc_state` writes them.

    Raises
    ------
    InputError
        For weights that are not those of a layer alone.

    """
    state = {name: value.detach().cpu().clone() for name, value in classifier.network.state_dict().items()}
    for layer, mask in _layers(classifier).items():
        weight = state.pop(f"{layer}weight")
        rows, columns = weight.flatten(1).shape
        axes = [1] * (weight.ndim - 2)
        first, second = weight, weight.new_zeros(rows, rows)  # (B + I) A + C
        if rows >= columns:  # B (A + I) + C
            first, second = weight.new_zeros(columns, *mask.shape[1:]), weight.flatten(1)
        state |= {
            f"{layer}weightA": first,
            f"{layer}weightB": second.reshape(*second.shape, *axes),
            f"{layer}weightC": torch.zeros_like(weight),
            f"{layer}eye_const": torch.eye(min(rows, columns), dtype=weight.dtype),
        }
    return state


def _rate_score(count: int, number: int, density: float, *, channels: bool) -> Tensor | None:
    """Return the score from the middle of the rates at which HARP keeps so many; None where there is none."""
    smallest = HARP_ALPHA * density
    low, high = (count - 0.5, count + 0.5) if channels else (count - 1, count)
    low, high = max(low / number, smallest), min(high / number, 1.0)
    if low >= high:
        return None
    score = torch.logit(torch.tensor(((low + high) / 2 - smallest) / (1 - smallest), dtype=torch.float64)).float()
    rate = harp_rate(score, density)
    kept = int(torch.round(rate * number)) if channels else number_kept(rate, number)
    return score if kept == count else None


def _pruning(classifier: Classifier) -> Mapping[str, Any]:
    """Return what the recipe says of the pruning; nothing where it says nothing."""
    pruning = (classifier.recipe or {}).get("pruning")
    return pruning if isinstance(pruning, Mapping) else {}


def _layers(classifier: Classifier) -> dict[str, Tensor]:
    """Return the mask of each layer by what stands before the names of its parameters."""
    masks = Masks.of(classifier.network) if classifier.masks is None else classifier.masks
    if not masks.kept:
        raise InputError("`network` has no weights that can be pruned: there is nothing to score")
    for name in masks.kept:
        if name.rpartition(".")[2] != "weight":
            raise InputError(f"`also`: {name} is no weight of a layer of its own, which scores are for: leave it out")
    return {name.removesuffix("weight"): mask.cpu() for name, mask in masks.kept.items()}


def _common_sparsity(classifier: Classifier, layers: Mapping[str, Tensor]) -> float:
    """Return a sparsity at which HYDRA keeps as many weights of each layer as the masks do."""
    sizes = {layer: (mask.numel(), int(mask.sum())) for layer, mask in layers.items()}
    low = max((size - kept) / size for size, kept in sizes.values())
    high = min((size - kept + 1) / size for size, kept in sizes.values())
    asked = _pruning(classifier).get("sparsity")
    for sparsity in ([asked] if isinstance(asked, float) else []) + [(low + high) / 2]:
        if all(number_kept(1 - sparsity, size) == kept for size, kept in sizes.values()):
            return sparsity
    parts = [(kept / size, layer) for layer, (size, kept) in sizes.items()]
    (least, sparse), (most, dense) = min(parts), max(parts)
    raise InputError(
        f"`also` 'hydra': layers keep different parts, {sparse}weight {least:.4g} and {dense}weight {most:.4g}, which "
        "HYDRA cannot say: write 'harp'"
    )


def _entries(classifier: Classifier, scores: dict[str, Tensor], *, density: float) -> dict[str, Any]:
    """Return all of the file."""
    state = {name: value.detach().cpu() for name, value in classifier.network.state_dict().items()} | scores
    if classifier.normalization is not None:
        mean, std = classifier.normalization
        state |= {"normalize.mean": torch.tensor(mean), "normalize.std": torch.tensor(std)}
    none = classifier.normalization is None and classifier.normalization_known
    return {
        "arch": classifier.architecture,
        **({NORMALIZATION: "none"} if none else {}),
        "k": density,
        "state_dict": {f"{PREFIX}{name}": value.contiguous() for name, value in state.items()},
    }
