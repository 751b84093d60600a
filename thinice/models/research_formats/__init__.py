"""Checkpoints as research code leaves them, as plain weights: nested, prefixed, with masks, scores or factors.

Each reader recognises the parameter names of one family of programs, turns its tensors into plain weights with
zeros, and leaves a note. The rules are those of the published code of each method. A new format is one file with a
reader ``(RawCheckpoint) -> None`` that leaves other files as they are, and one row in `READERS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from thinice.errors import CheckpointError
from thinice.models.files import MOST_TENSORS
from thinice.models.pickles import plain
from thinice.models.wrappers import unwrap
from thinice.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from thinice.models.normalization import Normalization

__all__ = ["PREFIXES", "READERS", "RawCheckpoint", "check_numbers", "find_weights", "plain_weights"]

NESTS = ("state_dict", "net", "model", "model_state_dict", "weights", "state_dict_ema", "ema", "params")
PREFIXES = (
    "module.basic_model.",
    "basic_model.",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "0.",
    "1.",
)
LONGEST_NAME = 500
"""Letters in the name of a parameter."""


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
        The entries around the nested weights: masks may lie there.
    density : float, optional
        The fraction of weights that pruning scores keep, where the user gave it.
    expected : frozenset of str, optional
        The parameter names of a network by the user's own code. Where the weights have these names, nothing more is
        converted: what is left (a normalisation, scores, a common prefix) is part of that network.
    normalization : (mean, std), optional
        Of a layer that was taken out of the weights.
    notes : list of str
        One sentence for the user for each conversion.
    """

    where: str
    weights: dict[str, Tensor]
    outer: Mapping[str, Any]
    density: float | None = None
    expected: frozenset[str] | None = None
    normalization: Normalization | None = None
    notes: list[str] = field(default_factory=list)

    def layers(self, leaf: str) -> list[str]:
        """Return the layers that have a tensor of this name, as prefixes that end in a dot (or are empty)."""
        return [name[: -len(leaf)] for name in self.weights if name == leaf or name.endswith(f".{leaf}")]

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


Reader = Callable[[RawCheckpoint], None]
OUTER_MASKS = "outer_masks"
"""Masks that no parameter name shows: they count also where the names are those that are expected."""

READERS: Registry[Reader] = Registry(
    "reader",
    {
        name: (f"{__name__}.{target}", summary)
        for name, target, summary in (
            ("copies", "housekeeping:drop_copies", "every tensor twice (Li et al. 2020)"),
            ("unused", "housekeeping:drop_unused", "layers that no input passes (TRADES, HYDRA), profilers' counters"),
            ("selection", "channel_selection:spread_selected_channels", "selected channels (network slimming)"),
            ("prune", "torch_masks:apply_pruning_masks", "torch.nn.utils.prune"),
            ("parametrize", "torch_masks:apply_parametrized_masks", "torch.nn.utils.parametrize"),
            ("harp", "popup_scores:apply_harp_scores", "scores with a learned rate for each layer (HARP)"),
            ("hydra", "popup_scores:apply_hydra_scores", "scores, the same rate in each layer (HYDRA)"),
            ("rst", "popup_scores:apply_rst_scores", "scores, the same rate in each layer (robust scratch tickets)"),
            ("mad", "mad_twinrep:apply_mad_masks", "soft masks (MAD)"),
            ("twinrep", "mad_twinrep:multiply_twinrep_weights", "weights times their twins (TwinRep)"),
            ("atmc", "atmc:multiply_atmc_factors", "factored weights (ATMC)"),
            ("masks", "torch_masks:apply_masks_beside", "masks beside the weights"),
            (OUTER_MASKS, "torch_masks:apply_outer_masks", "masks outside the state dict (FlyingBird)"),
            ("batch_norm", "housekeeping:complete_batch_norm", "batch norm without scale and shift (RST)"),
        )
    },
)
"""The readers, in the order in which they are tried."""


def find_weights(held: object, where: str, *, density: float | None = None) -> RawCheckpoint:
    """Return the state dict inside what a file holds: itself, or nested under a usual name.

    Raises
    ------
    CheckpointError
        No weights in it, naming the entries that are.

    Examples
    --------
    >>> import torch
    >>> checkpoint = find_weights({"epoch": 3, "state_dict": {"weight": torch.zeros(2)}}, "a.pt")
    >>> list(checkpoint.weights), checkpoint.notes
    (['weight'], ['weights found under state_dict'])
    """
    outer: Mapping[str, Any] = {}
    path: list[str] = []
    visited: dict[int, bool] = {}
    while isinstance(held, Mapping):
        tensors = {name: value for name, value in held.items() if isinstance(value, Tensor) and isinstance(name, str)}
        nest = next((key for key in NESTS if _holds_tensors(held.get(key), visited)), None)
        if tensors and nest is None:
            _check_names(tensors, where)
            checkpoint = RawCheckpoint(where, {name: value.detach() for name, value in tensors.items()}, outer, density)
            if path:
                checkpoint.note(f"weights found under {'.'.join(path)}")
            if others := sorted(plain(name) for name in held.keys() - tensors.keys()):
                checkpoint.note(f"entries beside the weights were not used: {', '.join(others[:5])}")
            return checkpoint
        if nest is None:
            break
        outer = dict(outer) | {key: value for key, value in held.items() if key != nest}
        path.append(nest)
        held = held[nest]
    entries = ", ".join(plain(name) for name in list(held)[:8]) if isinstance(held, Mapping) else type(held).__name__
    raise CheckpointError(f"{where}: holds no weights, only {entries or 'nothing'}: save the network's state_dict()")


def _check_names(weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse what is no state dict of a network: too many tensors, and names that no program writes."""
    if len(weights) > MOST_TENSORS:
        raise CheckpointError(f"{where}: holds more than {MOST_TENSORS} tensors: save the network's state_dict()")
    for name in weights:
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise CheckpointError(f"{where}: {plain(name)} is no name of a parameter: save the network's state_dict()")


def _holds_tensors(held: object, visited: dict[int, bool]) -> bool:
    """Return whether something is a mapping with tensors in it, or in one under a usual name; each is visited once."""
    if not isinstance(held, Mapping):
        return False
    if id(held) not in visited:
        visited[id(held)] = False  # until it is known: what contains itself holds no more for that
        visited[id(held)] = any(isinstance(value, Tensor) for value in held.values()) or any(
            _holds_tensors(held.get(key), visited) for key in NESTS
        )
    return visited[id(held)]


def plain_weights(checkpoint: RawCheckpoint) -> RawCheckpoint:
    """Return the same checkpoint with plain weights: conversions done, prefixes gone, normalisation taken out.

    Raises
    ------
    CheckpointError
        A format that is recognised but cannot be converted, naming the key and the way out.
    """
    try:
        if not checkpoint.as_expected():
            checkpoint.weights, notes = unwrap(checkpoint.weights)
            checkpoint.notes += notes
        strip_prefixes(checkpoint)
        for name in READERS.names():
            if name == OUTER_MASKS or not checkpoint.as_expected():
                READERS.get(name)(checkpoint)
        strip_prefixes(checkpoint)  # folding may leave a prefix that all share
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - shapes and types of a stranger's masks and scores may be anything
        reason = plain(str(error).partition("\n")[0])
        raise checkpoint.fail(
            f"its masks or scores do not fit its weights ({reason}): save the masked weights instead"
        ) from None
    return checkpoint


def check_numbers(checkpoint: RawCheckpoint, network: nn.Module | None = None) -> None:
    """Raise CheckpointError for weights that are no floating point numbers, unless they are none in the network."""
    planned = {} if network is None else network.state_dict()
    for name, value in checkpoint.weights.items():
        counts = name.endswith("num_batches_tracked") or (name in planned and not planned[name].is_floating_point())
        if not value.is_floating_point() and not counts and value.ndim > 0:
            raise checkpoint.fail(
                f"{name}: holds {value.dtype} instead of floating point numbers: save the network in float32"
            )


def strip_prefixes(checkpoint: RawCheckpoint) -> None:
    """Remove what stands before all names (wrappers, nesting), and normalisation layers, in place."""
    while not checkpoint.as_expected():
        if _take_normalization(checkpoint):
            continue
        prefix = next((prefix for prefix in PREFIXES if _is_wrapper(prefix, checkpoint)), None)
        if prefix is None:
            return
        checkpoint.weights = {name[len(prefix) :]: value for name, value in checkpoint.weights.items()}
        checkpoint.note(f"prefix {prefix} removed from all parameters")


def _is_wrapper(prefix: str, checkpoint: RawCheckpoint) -> bool:
    """Return whether a prefix stands before all names, and is not that of the user's own network."""
    if not checkpoint.weights or not all(name.startswith(prefix) for name in checkpoint.weights):
        return False
    own = bool(checkpoint.expected) and all(name.startswith(prefix) for name in checkpoint.expected or ())
    return not own or all(name.startswith(prefix + prefix) for name in checkpoint.weights)


def _take_normalization(checkpoint: RawCheckpoint) -> bool:
    """Move a layer that holds nothing but ``mean`` and ``std`` out of the weights; tell whether there was one."""
    inside = Counter(name[: dot.end()] for name in checkpoint.weights for dot in re.finditer(r"\.", name))
    for layer in checkpoint.layers("mean"):
        mean, std = checkpoint.weights[f"{layer}mean"], checkpoint.weights.get(f"{layer}std")
        if std is None or mean.shape != std.shape or mean.numel() > 4 or (layer and inside[layer] > 2):
            continue
        if any(f".{layer}mean".endswith(f".{name}") for name in checkpoint.expected or ()):
            continue  # the user's own network normalises by itself
        if checkpoint.normalization is not None:
            raise checkpoint.fail(
                f"has two normalisation layers, one of them {layer}mean: save the inner network alone"
            )
        checkpoint.normalization = _decimals(mean), _decimals(std)
        del checkpoint.weights[f"{layer}mean"], checkpoint.weights[f"{layer}std"]
        checkpoint.note(f"normalisation found inside, as {layer}mean and {layer}std")
        return True
    return False


def _decimals(values: Tensor) -> tuple[float, ...]:
    # the shortest decimal that float32 reads back exactly
    return tuple(float(str(value)) for value in values.float().flatten().numpy())
