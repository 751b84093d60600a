"""What stands around a network in a state dict: parallel and compiled modules, averages, losses and metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["shared_prefix", "unwrap"]

WRAPPERS = (
    "module",  # DataParallel, also of a part; AveragedModel
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",  # Lightning's Fabric
)
"""Parts of a name that stand for a module around another one, which computes the same."""
COUNTERS = re.compile(r"n_averaged|num_updates|global_step|step|epoch|lr|decay|pos_weight|class_weights?")
LOSSES = re.compile(r"(.*_)?(criterion|crit|loss|losses|loss_fn|loss_func|lossfunc)(_.*|\d+)?")
METRICS = re.compile(
    r"(.*_)?(metrics?|acc|acc1|acc5|accuracy|top1|top5|auroc|auc|f1|f1score|precision|recall|confmat|confusion_matrix|ece|"
    r"calibration_error|meter)(_.*|\d+)?"
)
"""How training calls what it keeps beside the network; a metric has no ``weight`` and no ``bias``."""
NEARLY_ALL = 0.8
"""The fraction of the parameters that lie under one prefix, where the others lie beside the network."""
SHOWN = 4
"""Names in a note."""


def unwrap(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights without wrappers in their names, and without what training keeps beside them; and notes.

    Examples
    --------
    >>> import torch
    >>> names, notes = unwrap({"features.module.0.weight": torch.ones(2, 2), "n_averaged": torch.tensor(3)})
    >>> list(names)
    ['features.0.weight']
    >>> notes
    ['wrapper module removed from the names of 1 parameters', 'beside the network, not used: n_averaged']
    """
    notes: list[str] = []
    kept = dict(weights)
    for wrapper in WRAPPERS:
        inner = {name: _without(wrapper, name) for name in kept}
        renamed = [name for name, new in inner.items() if new != name]
        if renamed and len(set(inner.values())) == len(inner):
            kept = {inner[name]: value for name, value in kept.items()}
            notes.append(f"wrapper {wrapper} removed from the names of {len(renamed)} parameters")
    beside = _beside(kept)
    if beside:
        kept = {name: value for name, value in kept.items() if name not in beside}
        more = f", … ({len(beside)} in all)" if len(beside) > SHOWN else ""
        notes.append(f"beside the network, not used: {', '.join(beside[:SHOWN])}{more}")
    return kept, notes


def _without(wrapper: str, name: str) -> str:
    """Return a name without the parts that are a wrapper; the first part stays, it may be a prefix of all."""
    first, *others = name.split(".")
    return ".".join([first, *(part for part in others[:-1] if part != wrapper), *others[-1:]])


def _beside(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of what training keeps beside the network."""
    names = []
    for name in weights:
        outer, _, rest = name.partition(".")
        metric = METRICS.fullmatch(outer) and rest.rpartition(".")[2] not in {"weight", "bias"}
        if (not rest and COUNTERS.fullmatch(name)) or (rest and (LOSSES.fullmatch(outer) or metric)):
            names.append(name)
    return names if len(names) < len(weights) else []


def shared_prefix(weights: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """Return the part before the first dot that (nearly) all names share, with the dot, and the names without it.

    Empty where there is none. A number is none: it tells a place in a sequence, and what stands before it may compute
    something that has no parameters.

    Examples
    --------
    >>> import torch
    >>> shared_prefix({"backbone.conv1.weight": torch.ones(1), "backbone.fc.bias": torch.ones(1)})
    ('backbone.', [])
    """
    first = Counter(name.partition(".")[0] for name in weights if "." in name)
    prefix, count = max(first.items(), key=lambda item: item[1], default=("", 0))
    if not prefix or prefix.isdecimal() or count < NEARLY_ALL * len(weights):
        return "", []
    return f"{prefix}.", [name for name in weights if not name.startswith(f"{prefix}.")]
