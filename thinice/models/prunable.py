"""What pruning may touch, and how much of it is zero: the one definition of both."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

__all__ = ["prunable_weights", "sparsity"]


def prunable_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name, in the order of the network.

    Prunable are the weights of convolutions and of linear layers, the packed input projections of attention
    among them: no biases, no normalisation layers, no embeddings. A weight that two layers share counts once.
    A whole program (ONNX) whose operations are not layers answers with its own list.

    Examples
    --------
    >>> list(prunable_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))))
    ['0.weight', '2.weight']
    """
    found: dict[str, nn.Parameter] = {}
    for prefix, layer in module.named_modules():
        if isinstance(layer, nn.Linear | _ConvNd):
            names = ["weight"]
        elif isinstance(layer, nn.MultiheadAttention):
            names = ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"]
        else:
            names = list(getattr(layer, "prunable_names", ()))
        for name in names:
            path = f"{prefix}.{name}" if prefix else name
            owner, _, leaf = path.rpartition(".")
            weight = getattr(module.get_submodule(owner), leaf)
            if isinstance(weight, nn.Parameter) and not any(weight is other for other in found.values()):
                found[path] = weight
    return found


def sparsity(module: nn.Module) -> float:
    """Return the fraction of prunable weights that are zero; 0 where there are none.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> _ = nn.init.constant_(layer.weight, 0.0)
    >>> sparsity(layer)
    1.0
    """
    weights = [weight.detach() for weight in prunable_weights(module).values()]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0
