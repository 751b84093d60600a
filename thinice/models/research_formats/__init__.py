"""Checkpoints as research code leaves them, as plain weights: nested, prefixed, with masks, scores or factors.

Each reader recognises the parameter names of one family of programs, turns its tensors into plain weights with
zeros, and leaves a note. The rules are those of the published code of each method. A new format is one file with a
reader ``(RawCheckpoint) -> None`` that leaves other files as they are, and one row in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thinice.errors import ThinIceError
from thinice.models.pickles import plain
from thinice.models.research_formats.entries import NESTS, find_weights, is_zero_one, pick_network
from thinice.models.research_formats.normalization_layers import take_normalization
from thinice.models.research_formats.raw_checkpoint import RawCheckpoint
from thinice.models.research_formats.unused_entries import note_unused
from thinice.models.wrappers import unwrap
from thinice.registry import Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "NESTS",
    "NORMALIZATION",
    "PREFIXES",
    "READERS",
    "RawCheckpoint",
    "apply_entries",
    "check_numbers",
    "find_weights",
    "plain_weights",
]

PREFIXES = (
    "module.basic_model.",
    "basic_model.",
    "module.",
    "_orig_mod.",
    "nncf_module.",
    "model.",
    "net.",
    "network.",
    "0.",
    "1.",
)

Reader = Callable[[RawCheckpoint], None]
NORMALIZATION = "thinice_normalization"
"""The entry by which thinice says in files of others' formats, which have no place for it, that there is none."""
COPIES = "copies"
OUTER_MASKS = ("outer_masks", "index_masks")
"""Masks that no parameter name shows: they count also where the names are those that are expected."""

READERS: Registry[Reader] = Registry(
    "reader",
    {
        name: (f"{__name__}.{target}", summary)
        for name, target, summary in (
            (COPIES, "housekeeping:drop_copies", "every tensor twice (Li et al. 2020, Madry's robustness)"),
            ("unused", "housekeeping:drop_unused", "layers that no input passes (TRADES, HYDRA), profilers' counters"),
            ("selection", "channel_selection:spread_selected_channels", "selected channels (network slimming)"),
            ("known", "unreadable:refuse_unreadable", "formats that are known, but cannot be read"),
            ("nncf", "nncf:apply_nncf_masks", "NNCF's magnitude and movement masks"),
            ("prune", "torch_masks:apply_pruning_masks", "torch.nn.utils.prune"),
            ("weight_norm", "weight_norm:multiply_weight_norms", "lengths and directions (torch's weight norm)"),
            ("parametrize", "torch_masks:apply_parametrized_masks", "torch.nn.utils.parametrize"),
            ("harp", "hydra_harp_rst:apply_harp_scores", "scores with a learned rate for each layer (HARP)"),
            ("hydra", "hydra_harp_rst:apply_hydra_scores", "scores, the same rate in each layer (HYDRA)"),
            ("rst", "hydra_harp_rst:apply_rst_scores", "scores, the same rate in each layer (robust scratch tickets)"),
            ("mad", "mad_twinrep:apply_mad_masks", "soft masks (MAD), or zeros and ones of the same name"),
            ("twinrep", "mad_twinrep:multiply_twinrep_weights", "weights times their twins (TwinRep)"),
            ("atmc", "atmc:multiply_atmc_factors", "factored weights (ATMC)"),
            ("masks", "torch_masks:apply_masks_beside", "masks beside the weights"),
            (
                "outer_masks",
                "outer_masks:apply_outer_masks",
                "masks outside the state dict (FlyingBird, NNI), or given",
            ),
            ("index_masks", "index_masks:apply_index_masks", "places of weights that are kept, or pruned"),
            ("left_masks", "torch_masks:refuse_left_masks", "masks that no other reader knows"),
            ("batch_norm", "housekeeping:complete_batch_norm", "batch norm without scale and shift (RST)"),
        )
    },
)
"""The readers, in the order in which they are tried."""


def plain_weights(checkpoint: RawCheckpoint) -> RawCheckpoint:
    """Return the same checkpoint with plain weights: conversions done, prefixes gone, normalisation taken out.

    Raises
    ------
    CheckpointError
        A format that is recognised but cannot be converted, naming the key and the way out.
    """
    try:
        strip_wrappers(checkpoint)
        _refuse_masks_alone(checkpoint)
        if not checkpoint.as_expected():
            READERS.get(COPIES)(checkpoint)
            pick_network(checkpoint)
        if not checkpoint.as_expected():
            checkpoint.weights, notes = unwrap(checkpoint.weights)
            checkpoint.notes += notes
        strip_prefixes(checkpoint)
        for name in READERS.names():
            if name in OUTER_MASKS or not checkpoint.as_expected():
                READERS.get(name)(checkpoint)
        strip_prefixes(checkpoint)  # folding may leave a prefix that all share
        note_unused(checkpoint)
    except ThinIceError:
        raise
    except Exception as error:  # noqa: BLE001 - shapes and types of a stranger's masks and scores may be anything
        reason = plain(str(error).partition("\n")[0])
        raise checkpoint.fail(
            f"its masks or scores do not fit its weights ({reason}): save the masked weights instead"
        ) from None
    return checkpoint


def apply_entries(checkpoint: RawCheckpoint) -> None:
    """Apply the masks beside weights that are plain already, and note what else lies beside them.

    Raises
    ------
    CheckpointError
        Masks that fit no parameter.
    """
    for name in OUTER_MASKS:
        READERS.get(name)(checkpoint)
    note_unused(checkpoint)


def _refuse_masks_alone(checkpoint: RawCheckpoint) -> None:
    """Raise CheckpointError where a file holds zeros and ones alone, unless the user's own network has its names."""
    weights = checkpoint.weights.values()
    if not checkpoint.as_expected() and any(value.ndim > 1 for value in weights) and all(map(is_zero_one, weights)):
        raise checkpoint.fail(
            "holds masks alone (nothing but zeros and ones): load the checkpoint with the weights, and give this file "
            "as masks= (--masks)"
        )


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
    strip_wrappers(checkpoint)
    while not checkpoint.as_expected() and take_normalization(checkpoint):
        strip_wrappers(checkpoint)


def strip_wrappers(checkpoint: RawCheckpoint) -> None:
    """Remove what stands before all names (wrappers, nesting), in place."""
    while not checkpoint.as_expected():
        prefix = next((prefix for prefix in PREFIXES if _is_wrapper(prefix, checkpoint)), None)
        if prefix is None:
            return
        checkpoint.without_prefix(prefix)
        checkpoint.note(f"prefix {prefix} removed from all parameters")


def _is_wrapper(prefix: str, checkpoint: RawCheckpoint) -> bool:
    """Return whether a prefix stands before all names, and is not that of the user's own network."""
    if not checkpoint.weights or not all(name.startswith(prefix) for name in checkpoint.weights):
        return False
    own = bool(checkpoint.expected) and all(name.startswith(prefix) for name in checkpoint.expected or ())
    return not own or all(name.startswith(prefix + prefix) for name in checkpoint.weights)
