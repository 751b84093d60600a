"""Pruning: a network in, a copy with zeros and the masks that hold them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from thinice.errors import InputError
from thinice.models import Classifier
from thinice.models.normalization import inner
from thinice.models.weights import Layer, Masks, prunable_weights
from thinice.pruning.schedules import HALVINGS, Pruned, masks_before, one_shot, sparsity_of, stages, trainable_copy
from thinice.registry import Registry, told_settings
from thinice.training import Hook

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn

    from thinice.data import Samples
    from thinice.training import Epoch, Objective, Recipe

__all__ = [
    "HALVINGS",
    "MERKLE_METHODS",
    "METHODS",
    "Layer",
    "Masks",
    "Pruned",
    "PruningMethod",
    "prune",
    "prune_in_stages",
    "sparsity_of",
]


def check_sparsity(sparsity: object) -> None:
    """Raise InputError for what is no sparsity."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise InputError(f"`sparsity` must be a fraction from 0 to below 1, got {sparsity!r}: 0.9 zeroes 90 %")


@dataclass(kw_only=True)
class PruningMethod(Hook, ABC):
    """How the weights that go are found; one file each, and one row in `METHODS`.

    A dataclass whose fields are the method's settings. It takes part in the training that searches as a
    `thinice.training.Hook`: scores, duals or learned rates are made in `prepare` (as parameters of the model, by
    ``torch.nn.utils.parametrize``, or as `parameters` of its own) while the weights may be frozen; what is not in the
    model belongs in `state_dict`. A method whose `searches` is False needs no training: it has `masks` alone. One that
    searches names in `search_recipe` which of the recipes in `thinice.training.RECIPES` it is trained by where nobody
    names another.

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
    search_recipe: ClassVar[str] = "natural"
    sparsity: float = 0.9

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)

    @abstractmethod
    def masks(self, model: nn.Module) -> Masks:
        """Return which weights are kept, by their names in the network as it was before `prepare`."""

    def masks_within(self, model: nn.Module, before: Masks) -> Masks:
        """Return masks of a network that was pruned before: what went stays away."""
        return self.masks(model) & before

    def ranked(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of the weights that `sparsity` is a fraction of; here, all prunable ones."""
        return tuple(prunable_weights(inner(model)))

    def expected(self, model: nn.Module) -> Masks | None:
        """Return masks that keep as many weights of each layer as those to be found; None where the search decides."""
        return None if self.searches else self.masks(model)

    def check_search(self, recipe: Recipe, steps: int) -> None:
        """Take note of how the search will be trained, in so many steps of the optimiser, before it begins.

        Raises
        ------
        InputError
            Where the method would not do in it what its settings ask for.

        """

    def after_search(self, model: nn.Module, samples: Samples, objective: Objective, seed: int) -> None:
        """Measure what the search came to, after its last epoch and before `masks`."""

    def described(self) -> dict[str, object]:
        """Return the method's name and settings as plain values, for files."""
        name = next((name for name in METHODS.names() if METHODS.get(name) is type(self)), type(self).__name__)
        return {"method": name} | told_settings(self)

    def notes(self) -> tuple[str, ...]:
        """Return what of a search did not go as asked, one sentence each."""
        return ()

    def measured(self) -> dict[str, object]:
        """Return what a search measured on its way, as plain values, for files."""
        return {}

    def finish(self, model: nn.Module) -> None:
        """Take back what `prepare` did to the layers, after `masks`: leave plain weights under their old names."""


METHODS: Registry[Callable[..., PruningMethod]] = Registry(
    "method",
    {
        "magnitude": ("thinice.pruning.magnitude:Magnitude", "the smallest weights, kernels or filters go"),
        "random": ("thinice.pruning.magnitude:Random", "weights, kernels or filters go by chance"),
        "lwm": ("thinice.pruning.hydra:LowestMagnitude", "the smallest weights go, as many in each layer"),
        "hydra": ("thinice.pruning.hydra:Hydra", "scores are trained while weights are frozen (HYDRA, S2AP)"),
        "harp": ("thinice.pruning.harp:Harp", "the same with a learned rate for each layer (HARP)"),
        "r-admm": ("thinice.pruning.radmm:RADMM", "weights that adversarial training under ADMM could do without go"),
        "flyingbird": ("thinice.pruning.flyingbird:FlyingBird", "masks change while the weights are trained"),
        "rst": ("thinice.pruning.rst:RobustScratchTicket", "scores are trained on random weights (scratch tickets)"),
        "atmc": ("thinice.pruning.atmc:ATMC", "numbers go from factors of the weights that are trained in their place"),
    },
)
"""How pruning can choose, by name."""

MERKLE_METHODS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        f"{method}-{scope}-{name}": {"method": method, "scope": scope, "structure": structure, "skip": "shortcuts"}
        for name, structure in (("unstructured", "weight"), ("kernel", "kernel"), ("filter", "filter"))
        for method, scope in (("magnitude", "global"), ("magnitude", "local"), ("random", "local"))
    }
)
"""The nine methods of Merkle, Samsinger and Schöttle (2022) by the names of their files, as arguments of `prune`.

Structures are those of convolutions; 1x1 convolutions of shortcuts are never pruned, and no part of the sparsity.
"""


def prune(
    network: nn.Module | Classifier,
    method: str | PruningMethod = "magnitude",
    *,
    samples: Samples | None = None,
    recipe: Recipe | None = None,
    objective: str | Objective = "natural",
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    hooks: Sequence[Hook] = (),
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
    samples, recipe, objective, progress, resume, hooks
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
    method, name = make_method(method, settings)
    training = {"samples": samples, "recipe": recipe}
    missing = [argument for argument, value in training.items() if value is None]
    if method.searches and missing:
        raise InputError(f"`{missing[0]}` must be given: method {name!r} finds its masks by training")
    optional = training | {"progress": progress, "resume": resume}
    extra = [argument for argument, value in optional.items() if value is not None]
    extra += ["objective"] if objective != "natural" else []
    extra += ["hooks"] if hooks else []
    if not method.searches and extra:
        raise InputError(
            f"`{extra[0]}` changes nothing: method {name!r} finds its masks without training; "
            "to fine-tune, call thinice.training.train with the masks"
        )
    return one_shot(
        trainable_copy(network),
        method,
        samples=samples,
        recipe=recipe,
        objective=objective,
        progress=progress,
        resume=resume,
        before=masks_before(network),
        hooks=hooks,
    )


def prune_in_stages(
    network: nn.Module | Classifier,
    method: str | PruningMethod = "magnitude",
    *,
    sparsities: Sequence[float],
    samples: Samples,
    recipe: Recipe,
    objective: str | Objective = "natural",
    validation: Samples | None = None,
    rewind: nn.Module | Classifier | None = None,
    reinitialise: bool = False,
    progress: Callable[[Epoch], object] | None = None,
    resume: str | PathLike[str] | None = None,
    overwrite: bool = False,
    hooks: Sequence[Hook] = (),
    **settings: object,
) -> Iterator[Pruned]:
    """Yield one network a sparsity: pruned further out of the one before, then trained again under its masks.

    Iterative pruning (Merkle et al. 2022: half of what is left each time, rates 2 to 64). Each network is a copy.

    Parameters
    ----------
    network, method, **settings
        As of `prune`; a method that searches does not go in stages.
    sparsities : sequence of float
        Rising; one alone is pruning and fine-tuning. ``[sparsity_of(rate) for rate in HALVINGS]`` halves six times.
    samples, recipe, objective, validation, progress, hooks
        How every stage is trained, as in `thinice.training.train`. Where `progress` has a method ``begin``, that is
        called before each training with its name, such as ``"stage 1/2"``, and the number of its epochs.
    rewind : nn.Module or Classifier, optional
        The network whose weights every stage starts from, under its masks: an early state of the dense one (Frankle
        et al. 2020). By default each goes on from the weights that were kept.
    reinitialise : bool
        Every stage starts from new weights, as torch draws them, by the recipe's seed.
    resume : path, optional
        A folder that keeps a snapshot of each stage. Where it has some, pruning goes on there, with the same networks
        as an undisturbed run, to the bit on a CPU.
    overwrite : bool
        Where `resume` belongs to another pruning, remove its snapshots and begin, instead of refusing.

    Raises
    ------
    InputError
        As `prune` and `thinice.training.train`; for sparsities that do not rise, and a `rewind` of another
        architecture. Before anything is trained.
    CheckpointError
        Where `resume` belongs to another pruning.

    Examples
    --------
    >>> from thinice.data import load_samples
    >>> from thinice.models import build
    >>> from thinice.training import Recipe
    >>> halved = prune_in_stages(
    ...     build("digits_cnn"),
    ...     sparsities=[sparsity_of(rate) for rate in (2, 4)],
    ...     samples=load_samples("digits", limit=50),
    ...     recipe=Recipe(epochs=1),
    ... )
    >>> [round(pruned.masks.compression_rate) for pruned in halved]
    [2, 4]

    """
    method, _ = make_method(method, settings)
    return stages(
        trainable_copy(network),
        method,
        sparsities,
        samples=samples,
        recipe=recipe,
        objective=objective,
        validation=validation,
        rewind=rewind.module if isinstance(rewind, Classifier) else rewind,
        reinitialise=reinitialise,
        progress=progress,
        resume=resume,
        overwrite=overwrite,
        before=masks_before(network),
        hooks=hooks,
    )


def make_method(method: str | PruningMethod, settings: Mapping[str, object]) -> tuple[PruningMethod, str]:
    """Return a method and what messages call it."""
    if not isinstance(method, PruningMethod):
        return METHODS.make(method, **settings), method
    name = type(method).__name__
    if settings:
        raise InputError(f"`{next(iter(settings))}` is a setting of the method: give it to {name}(…)")
    return method, name
