"""Any attack of foolbox, of both kinds, verified like our own; imported when one is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import isabstract, isclass, signature
from typing import Any

import torch
from torch import Tensor

from thinice.attacks.external import CommonNoise, PassCounter, global_seed
from thinice.attacks.result import Candidates, Model
from thinice.attacks.rows import BudgetSearch, FixedBudgetRow, MinNormRow, Setting, keyword_defaults
from thinice.errors import InputError, MissingExtraError
from thinice.types import NORMS, Norm

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox 3.3.4 uses names that SciPy has moved
    import foolbox
    from foolbox import attacks, distances
    from foolbox.attacks.base import FixedEpsilonAttack, FlexibleDistanceMinimizationAttack, MinimizationAttack
    from foolbox.attacks.blended_noise import LinearSearchBlendedUniformNoiseAttack
    from foolbox.attacks.brendel_bethge import L0BrendelBethgeAttack
    from foolbox.attacks.carlini_wagner import L2CarliniWagnerAttack
    from foolbox.attacks.fast_minimum_norm import FMNAttackLp
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel

__all__ = [
    "L0BrendelBethgeAttack",
    "L2CarliniWagnerAttack",
    "budget_search",
    "fixed_budget_attacks",
    "foolbox_attacks",
    "foolbox_row",
    "foolbox_search",
    "minimisation_row",
]

NOT_SETTINGS = {
    "distance",
    "constraint",
    "init_attack",
    "tensorboard",
}  # given by the norm, and objects
FAILURES = (AssertionError, IndexError, NotImplementedError, TypeError, ValueError)  # how foolbox says that it cannot


def foolbox_attacks() -> dict[str, type[MinimizationAttack]]:
    """Return foolbox's minimisation attacks by class name.

    >>> sorted(foolbox_attacks())[:3]
    ['BinarizationRefinementAttack', 'BinarySearchContrastReductionAttack', 'BoundaryAttack']
    """
    return {
        name: found
        for name, found in vars(attacks).items()
        if isclass(found) and issubclass(found, MinimizationAttack) and not isabstract(found)
    }


def fixed_budget_attacks() -> dict[str, type[FixedEpsilonAttack]]:
    """Return foolbox's attacks at a fixed budget by class name, or one of foolbox's short names.

    >>> "LinfProjectedGradientDescentAttack" in fixed_budget_attacks()
    True
    """
    return {
        name: found
        for name, found in vars(attacks).items()
        if isclass(found) and issubclass(found, FixedEpsilonAttack) and not isabstract(found)
    }


def foolbox_row(name: str) -> MinNormRow | FixedBudgetRow:
    """Return the registry row of the foolbox attack with this class name.

    Its settings are the keywords of its constructor, with foolbox's own values; efforts other than ``"standard"``
    mean nothing to it. Random ones repeat with a seed, but what they find of a sample may depend on its batch. Those
    that start from an adversarial point get one from foolbox's blended noise; a sample without one is not found.

    Raises
    ------
    InputError
        For a name that is none of foolbox's attacks, with the nearest.

    Examples
    --------
    >>> row = foolbox_row("LInfFMNAttack")
    >>> row.kind, row.norms, row.defaults["steps"]
    ('minimum norm', ('linf',), 100)
    >>> row = foolbox_row("LinfFastGradientAttack")
    >>> row.kind, row.norms, row.defaults
    ('fixed budget', ('linf',), {'random_start': False})

    """
    minimising, fixed = foolbox_attacks(), fixed_budget_attacks()
    if name in minimising:
        return minimisation_row(minimising[name])
    if name in fixed:
        return FixedBudgetRow(
            searches=partial(_budget_searches, f"foolbox:{name}", fixed[name]),
            version=1,
            norms=tuple(norm for norm in NORMS if fixed[name].distance is getattr(distances, norm)),
            defaults=keyword_defaults(fixed[name], skip=("distance",)),
            recorded={"foolbox": foolbox.__version__},
        )
    known = [*minimising, *fixed]
    close = get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
    raise InputError(f"`attack` 'foolbox:{name}' is unknown: did you mean foolbox:{' or foolbox:'.join(close)}?")


def minimisation_row(attack: type[MinimizationAttack]) -> MinNormRow:
    """Return the registry row of a foolbox attack that minimises a norm.

    >>> minimisation_row(L0BrendelBethgeAttack).norms
    ('l0',)
    """
    return MinNormRow(
        search=partial(foolbox_search, attack),
        version=2,
        defaults=keyword_defaults(attack, skip=tuple(NOT_SETTINGS)),
        efforts={"standard": {}},
        norms=_norms(attack),
        recorded={"foolbox": foolbox.__version__},
    )


def _norms(attack: type[MinimizationAttack]) -> tuple[Norm, ...]:
    if issubclass(attack, FlexibleDistanceMinimizationAttack):
        return NORMS
    if "constraint" in signature(attack).parameters:
        return ("l2", "linf")
    return tuple(norm for norm in NORMS if attack.distance is getattr(distances, norm))


def foolbox_search(
    attack: type[MinimizationAttack],
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,  # noqa: ARG001 (foolbox draws for the whole batch)
    *,
    norm: Norm,
    seed: int,
    others: Callable[[], tuple[Tensor, Tensor]] | None = None,
    **settings: Setting,
) -> Candidates:
    """Return the candidates of a foolbox attack that minimises a norm, for correctly classified samples.

    Parameters
    ----------
    attack, model, inputs, labels, sample_ids, norm, seed, **settings
        As of every search, with foolbox's class in front.
    others : callable, optional
        Where the attack starts from an adversarial point: returns points (N, C, H, W), and where they are some, (N,);
        the rest starts from blended noise, as foolbox would.

    """
    network = PassCounter(model).eval()
    foolbox_model = PyTorchModel(network, bounds=(0, 1), device=inputs.device)
    searcher = _build(attack, norm, settings)
    candidates, evaluations = inputs.clone(), torch.zeros(len(inputs), device=inputs.device)
    with global_seed(seed, inputs.device):
        start, keywords = torch.ones_like(labels, dtype=torch.bool), dict[str, Any]()
        try:
            if _needs_start(attack):
                points, start = _starting_points(foolbox_model, inputs, labels, others)
                evaluations += network.passes_per_sample(len(inputs))
                keywords = {"starting_points": points[start]}
            if start.any():
                criterion = Misclassification(labels[start])
                candidates[start] = searcher.run(foolbox_model, inputs[start], criterion, **keywords)
        except FAILURES as error:
            reason = str(error).strip().split("\n")[0] or "a check of its own failed"
            message = (
                f"attack 'foolbox:{attack.__name__}' cannot run on these samples ({type(error).__name__}: {reason})"
            )
            raise InputError(message) from error
    evaluations[start] += network.passes_per_sample(int(start.sum()))
    gradient_masked, masked = torch.zeros_like(start), network.gradient_masked(int(start.sum()))
    if masked is not None:
        gradient_masked[start] = masked
    return Candidates(candidates, evaluations, gradient_masked=gradient_masked)


def _build(attack: type[MinimizationAttack], norm: Norm, settings: dict[str, Setting]) -> MinimizationAttack:
    keywords: dict[str, Any] = dict(settings)
    parameters = signature(attack).parameters
    if "distance" in parameters:
        keywords["distance"] = getattr(distances, norm)
    if "constraint" in parameters:
        keywords["constraint"] = norm
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="At the first initialisation", category=UserWarning)  # numba
            return attack(**keywords)
    except ImportError as error:
        raise MissingExtraError(f"attack 'foolbox:{attack.__name__}'", "numba") from error
    except FAILURES as error:
        raise InputError(f"attack 'foolbox:{attack.__name__}' refuses its settings: {error}") from error


def _needs_start(attack: type[MinimizationAttack]) -> bool:
    return "starting_points" in signature(attack.run).parameters and not issubclass(attack, FMNAttackLp)


def _starting_points(
    foolbox_model: PyTorchModel,
    inputs: Tensor,
    labels: Tensor,
    others: Callable[[], tuple[Tensor, Tensor]] | None,
) -> tuple[Tensor, Tensor]:
    """Return adversarial points and where there are any: given ones, else blended noise, as foolbox would choose."""
    points, given = others() if others else (inputs.clone(), torch.zeros_like(labels, dtype=torch.bool))
    rest = ~given
    if rest.any():
        blend = LinearSearchBlendedUniformNoiseAttack(steps=50)
        with warnings.catch_warnings():
            message = ".*failed to draw sufficient random inputs"
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
            points[rest] = blend.run(foolbox_model, inputs[rest], Misclassification(labels[rest]))
    with torch.no_grad():
        return points, foolbox_model(points).argmax(1) != labels


def budget_search(
    name: str, attack: type[FixedEpsilonAttack], *, budget: float, seed: int, settings: Mapping[str, Setting]
) -> BudgetSearch:
    """Return the search of a foolbox attack at a budget; all samples get the same random starts (`CommonNoise`).

    Attacks that draw from NumPy repeat with their seed too, but what they find may depend on the batch.

    Raises
    ------
    InputError
        For settings that the attack refuses.

    """
    try:
        searcher = attack(**settings)
    except FAILURES as error:
        raise InputError(f"attack 'foolbox:{attack.__name__}' refuses its settings: {error}") from error
    return BudgetSearch(name=name, search=partial(_budget_search, searcher, budget=budget, seed=seed))


def _budget_searches(
    name: str,
    attack: type[FixedEpsilonAttack],
    *,
    norm: Norm,  # noqa: ARG001 (the attack has but one)
    budget: float,
    seed: int,
    classes: int,  # noqa: ARG001 (foolbox asks the network)
    shape: Sequence[int],  # noqa: ARG001 (as above)
    **settings: Setting,
) -> tuple[BudgetSearch]:
    return (budget_search(name, attack, budget=budget, seed=seed, settings=settings),)


def _budget_search(
    searcher: FixedEpsilonAttack,
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,  # noqa: ARG001 (foolbox draws for the whole batch)
    *,
    budget: float,
    seed: int,
) -> Candidates:
    network = PassCounter(model).eval()
    foolbox_model = PyTorchModel(network, bounds=(0, 1), device=inputs.device)
    with global_seed(seed, inputs.device), CommonNoise((2, 4)):
        try:
            candidates = searcher.run(foolbox_model, inputs, Misclassification(labels), epsilon=budget)
        except FAILURES as error:
            reason = str(error).strip().split("\n")[0] or "a check of its own failed"
            name = f"foolbox:{type(searcher).__name__}"
            message = f"attack {name!r} cannot run on these samples ({type(error).__name__}: {reason})"
            raise InputError(message) from error
    spent = network.passes_per_sample(len(inputs))
    return Candidates(candidates.detach(), torch.full((len(inputs),), spent, device=inputs.device))
