"""The weights of one file on their way to plain ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from thinice.errors import CheckpointError
from thinice.models.weights import Masks, prunable_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from thinice.models.normalization import Normalization

__all__ = ["RawCheckpoint"]


@dataclass(slots=True)
class RawCheckpoint:
    """The weights of one file on their way to plain ones, and what was done to them.

    Attributes
    ----------
    where : str
        The file, for messages.
    weights : dict of str to Tensor
        Changed by the readers, in place.
    outer : mapping
        The entries around the nested weights, by their dotted names: masks may lie there.
    density : float, optional
        The fraction of weights that pruning scores keep, where the user gave it.
    expected : frozenset of str, optional
        The parameter names of a network by the user's own code. Where the weights have these names, nothing more is
        converted: what is left (a normalisation, scores, a common prefix) is part of that network.
    normalization : (mean, std), optional
        Of a layer that was taken out of the weights.
    masks : mapping or list, optional
        Masks that the user gave, beside the file.
    masks_from : str, optional
        Where these come from: a file, an entry of ``outer``, or "none", which leaves out all masks in ``outer``.
    ordered : bool
        The weights are in the order of the network, so that a list of masks can be laid on them.
    used : set of str
        The entries of ``outer`` that were used.
    without_masks : set of str
        The weights whose masks are not in the state dict, though they have some.
    versions : mapping
        The versions of layers that torch stores with a state dict, by the name of the layer.
    kept : mapping
        Each weight that masks were applied to, and which of its numbers they keep, by the identity of the tensor: names
        may still change.
    of_factors : float, optional
        Of a file that writes weights as factors: 1 - non-zero numbers of the factors over weights.
    notes : list of str
        One sentence for the user for each conversion.
    """

    where: str
    weights: dict[str, Tensor]
    outer: dict[str, Any]
    density: float | None = None
    expected: frozenset[str] | None = None
    normalization: Normalization | None = None
    masks: Mapping[Any, Any] | Sequence[Any] | None = None
    masks_from: str | None = None
    ordered: bool = True
    used: set[str] = field(default_factory=set)
    without_masks: set[str] = field(default_factory=set)
    versions: dict[str, Any] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    of_factors: float | None = None
    notes: list[str] = field(default_factory=list)

    def layers(self, leaf: str) -> list[str]:
        """Return the layers that have a tensor of this name, as prefixes that end in a dot (or are empty)."""
        return [name[: -len(leaf)] for name in self.weights if name == leaf or name.endswith(f".{leaf}")]

    def masked(self, weight: Tensor, keeps: Tensor) -> Tensor:
        """Return the weight with zeros where it is not kept, and remember which those are."""
        result = torch.where(keeps, weight, torch.zeros_like(weight))
        _, before = self.kept.get(id(weight), (weight, keeps))
        self.kept[id(result)] = result, keeps & before
        self.kept.pop(id(weight), None)
        return result

    def product(self, weight: Tensor) -> Tensor:
        """Return a weight out of several tensors of the file; its zeros, where there are any, are what these prune."""
        keeps = weight != 0
        return weight if bool(keeps.all()) else self.masked(weight, keeps)

    def masks_for(self, network: nn.Module) -> Masks | None:
        """Return the masks of a network with these weights; ``None`` where there were none, or not all are found again.

        Layers without a mask are kept whole.
        """
        names = prunable_weights(network)
        applied = {name: self.kept[id(value)][1] for name, value in self.weights.items() if id(value) in self.kept}
        if not applied or len(applied) < len(self.kept) or not applied.keys() & names.keys():
            return None
        masks = Masks.whole(network) & Masks({name: applied[name] for name in names if name in applied})
        return masks if masks.hold(network) else None

    def without_prefix(self, prefix: str) -> None:
        """Leave out weights whose names do not begin so, and the beginning of all others."""
        length = len(prefix)
        self.weights = {name[length:]: value for name, value in self.weights.items() if name.startswith(prefix)}
        self.versions = {name[length:]: value for name, value in self.versions.items() if name.startswith(prefix)}

    def fail(self, message: str) -> CheckpointError:
        """Return an error that names the file."""
        return CheckpointError(f"{self.where}: {message}")

    def note(self, message: str) -> None:
        """Add a sentence for the user."""
        self.notes.append(message)

    def as_expected(self) -> bool:
        """Return whether the weights have the names that the user's own network expects, counters aside."""
        if self.expected is None:
            return False
        names = self.expected.symmetric_difference(self.weights)
        return all(name.endswith("num_batches_tracked") for name in names)
