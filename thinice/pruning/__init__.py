"""Pruning: a network in, a copy with zeros and the masks that hold them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from thinice.errors import InputError
from thinice.models import Classifier, as_classifier
from thinice.models.classifier import own_copy
from thinice.models.weights import Layer, Masks
from thinice.pruning.schedules import Pruned, one_shot
from thinice.registry import Registry
from thinice.training import Hook

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn

    from thinice.data import Samples
    from thinice.training import Epoch, Objective, Recipe

__all__ = ["METHODS", "Layer", "Masks", "Pruned", "PruningMethod", "prune"]


@dataclass(kw_only=True)
class PruningMethod(Hook, ABC):
    """How the weights that go are found; one file each, and one row in `METHODS`.

    A dataclass whose fields are the method's settings. It takes part in the training that searches as a
    `thinice.training.Hook`: scores, duals or learned rates are made in `prepare` (as parameters of the model, by
    ``torch.nn.utils.parametrize``, or as `parameters` of its own) while the weights may be frozen; what is not in the
    model belongs in `state_dict`. A method whose `searches` is False needs no training: it has `masks` alone.

    Attributes
    ----------
    sparsity : float
        In [0, 1): the fraction of prunable weights that shall be zero.

    Examples
    --------
    >>> import torch
    >>> from thinice.models import prunable_weights
    >>> @dataclass(kw_only=True)
    ... class Positive(PruningMethod):
    ...     def masks(self, model):
    ...         return Masks({name: weight.detach() > 0 for name, weight in prunable_weights(model).items()})
    >>> layer = torch.nn.Linear(2, 1)
    >>> layer.weight.data = torch.tensor([[1.0, -1.0]])
    >>> prune(layer, Positive()).module.weight.tolist()
    [[1.0, 0.0]]

    """

    searches: ClassVar[bool] = False
    sparsity: float = 0.9

    def __post_init__(self) -> None:
        if isinstance(self.sparsity, bool) or not isinstance(self.sparsity, int | float) or not 0 <= self.sparsity < 1:
            raise InputError(f"`sparsity` must be a fraction from 0 to below 1, got {self.sparsity!r}: 0.9 zeroes 90 %")

    @abstractmethod
    def masks(self, model: nn.Module) -> Masks:
        """Return which weights are kept, by their names in the network as it was before `prepare`."""

    def finish(self, model: nn.Module) -> None:
        """Take back what `prepare` did to the layers, after `masks`: leave plain weights under their old names."""


METHODS: Registry[Callable[..., PruningMethod]] = Registry(
    "method",
    {
        "magnitude": ("thinice.pruning.magnitude:Magnitude", "the smallest weights, kernels or filters go"),
        "random": ("thinice.pruning.magnitude:Random", "weights, kernels or filters go by chance"),
    },
)
"""How pruning can choose, by name."""


def prune(
    network: nn.Module | Classifier,
    method: str | PruningMethod = "magnitude",
    *,
    samples: Samples | None = None,
    recipe: Recipe | None = None,
    objective: str | Objective = "natural",
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    **settings: object,
) -> Pruned:
    """Return a copy of the network with zeros for what a method removes, and the masks; nothing is fine-tuned.

    Biases and batch norm are never pruned.

    Parameters
    ----------
    network : nn.Module or Classifier
        Stays as it is. Of a classifier, the copy is trainable again; torch's own masks are folded in.
    method : str or PruningMethod
        A name in `METHODS`, or one made before.
    samples, recipe, objective, progress, resume
        How a method that searches is trained, as in `thinice.training.train`; the others take none of them.
    **settings
        Of the method, where it is given by name: ``sparsity=0.9`` (the fraction of prunable weights that shall be
        zero), and what its class lists, for ``"magnitude"`` ``scope="local"`` and ``structure="filter"``.

    Raises
    ------
    InputError
        For an unknown method or setting, a value out of range, a network without prunable weights or with weights
        that are not finite, and for a search without samples and recipe, or the other way round.

    Examples
    --------
    >>> import torch
    >>> pruned = prune(torch.nn.Linear(10, 10), sparsity=0.9)
    >>> pruned.masks
    <Masks 1 layers, 10 of 100 weights kept, sparsity 0.9000>
    >>> int((pruned.module.weight == 0).sum()), round(pruned.masks.compression_rate)
    (90, 10)

    """
    if isinstance(method, PruningMethod):
        name = type(method).__name__
        if settings:
            raise InputError(f"`{next(iter(settings))}` is a setting of the method: give it to {name}(…)")
    else:
        name = method
        method = METHODS.make(method, **settings)
    training = {"samples": samples, "recipe": recipe}
    missing = [argument for argument, value in training.items() if value is None]
    if method.searches and missing:
        raise InputError(f"`{missing[0]}` must be given: method {name!r} finds its masks by training")
    optional = training | {"progress": progress, "resume": resume}
    extra = [argument for argument, value in optional.items() if value is not None]
    extra += ["objective"] if objective != "natural" else []
    if not method.searches and extra:
        raise InputError(
            f"`{extra[0]}` changes nothing: method {name!r} finds its masks without training; "
            "to fine-tune, call thinice.training.train with the masks"
        )
    return one_shot(
        _trainable_copy(network),
        method,
        samples=samples,
        recipe=recipe,
        objective=objective,
        progress=progress,
        resume=resume,
    )


def _trainable_copy(network: nn.Module | Classifier) -> nn.Module:
    if isinstance(network, Classifier):
        return own_copy(as_classifier(network, one_by_one=False).module).requires_grad_(requires_grad=True)
    return own_copy(network)
