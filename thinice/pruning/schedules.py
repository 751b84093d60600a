"""When pruning happens: at once, after a search where the method needs one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinice.training import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from torch import nn

    from thinice.data import Samples
    from thinice.models.weights import Masks
    from thinice.pruning import PruningMethod
    from thinice.training import Epoch, Objective, Recipe

__all__ = ["Pruned", "one_shot"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned copy of a network, ready to be fine-tuned, and the masks that hold its zeros in place.

    ``history`` has one row for each epoch of the search, none for methods that need no search.
    """

    module: nn.Module
    masks: Masks
    history: tuple[Epoch, ...] = ()


def one_shot(
    module: nn.Module,
    method: PruningMethod,
    *,
    samples: Samples | None = None,
    recipe: Recipe | None = None,
    objective: str | Objective = "natural",
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
) -> Pruned:
    """Return the module itself, pruned in place: let the method search, if samples and a recipe say how, then cut.

    Which parameters need a gradient is afterwards what it was before.
    """
    trainable = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    history: tuple[Epoch, ...] = ()
    if samples is None or recipe is None:
        method.prepare(module)
    else:
        history = train(module, samples, recipe, objective=objective, hooks=[method], progress=progress, resume=resume)
    masks = method.masks(module)
    method.finish(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trainable[name])
    masks.apply_(module)
    return Pruned(module, masks, history)
