"""Network slimming's pre-activation ResNets: layers behind a batch norm see only the channels that were selected."""

from __future__ import annotations

from thinice.models.research_formats import RawCheckpoint

__all__ = ["spread_selected_channels"]

FOLLOWERS = ("fc.weight", "linear.weight", "conv1.weight")
"""What a selection precedes: at the end of the network the classifier, in a block its first convolution."""


def spread_selected_channels(checkpoint: RawCheckpoint) -> None:
    """Give the layers behind a ``select.indexes`` their full width, with zeros where channels were not selected.

    The batch norm before it still has all channels: the result computes the same.
    """
    layers = checkpoint.layers("select.indexes")
    weights = checkpoint.weights
    for layer in layers:
        selected = weights.pop(f"{layer}select.indexes") != 0
        follower = next((layer + name for name in FOLLOWERS if layer + name in weights), "")
        narrow = weights.get(follower)
        count = int(selected.sum())
        if narrow is None or narrow.shape[1] != count:
            raise checkpoint.fail(
                f"{layer}select.indexes selects {count} channels, which no layer behind it takes: save the network "
                "as it was pruned"
            )
        full = narrow.new_zeros((narrow.shape[0], len(selected), *narrow.shape[2:]))
        full[:, selected] = narrow
        weights[follower] = full
    if layers:
        checkpoint.note(f"{len(layers)} selections of channels written as zeros into the weights behind them")
