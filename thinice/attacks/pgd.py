"""Foolbox's attacks at a fixed budget, and PGD with the settings of a published study; imported when asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from inspect import isabstract, isclass
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.attack import Setting, keyword_defaults
from thinice.attacks.external import CommonNoise, PassCounter, global_seed
from thinice.attacks.result import Candidates, Model
from thinice.errors import InputError
from thinice.types import NORMS, Norm

__all__ = ["MERKLE_PGD", "PGD", "VERSION", "budget_search", "fixed_budget_attacks", "norms_of", "settings_of"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # foolbox 3.3.4 uses names that SciPy has moved
    import foolbox
    from foolbox import attacks, distances
    from foolbox.attacks.base import FixedEpsilonAttack
    from foolbox.criteria import Misclassification
    from foolbox.models.pytorch import PyTorchModel


VERSION: str = foolbox.__version__
FAILURES = (AssertionError, IndexError, NotImplementedError, TypeError, ValueError)  # how foolbox says that it cannot
PGD: Mapping[Norm, str] = MappingProxyType(
    {
        "linf": "LinfProjectedGradientDescentAttack",
        "l2": "L2ProjectedGradientDescentAttack",
        "l1": "L1ProjectedGradientDescentAttack",
    }
)
MERKLE_PGD: Mapping[str, Setting] = MappingProxyType({"steps": 40, "rel_stepsize": 0.1 / 3, "random_start": True})
"""Of F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face of Adversaries", 2021 (there in linf)."""


def fixed_budget_attacks() -> dict[str, type[FixedEpsilonAttack]]:
    """Return foolbox's attacks at a fixed budget by class name.

    >>> "LinfProjectedGradientDescentAttack" in fixed_budget_attacks()
    True
    """
    return {
        name: found
        for name, found in vars(attacks).items()
        if isclass(found) and issubclass(found, FixedEpsilonAttack) and not isabstract(found)
    }


def find(name: str) -> type[FixedEpsilonAttack]:
    """Return the attack of this class name, or of one of foolbox's short names.

    Raises
    ------
    InputError
        For a name that is none, with the closest.

    """
    known = fixed_budget_attacks()
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
        raise InputError(f"foolbox has no attack {name!r} at a fixed budget: did you mean {', '.join(close)}?")
    return known[name]


def norms_of(name: str) -> tuple[Norm, ...]:
    """Return the norms whose ball an attack keeps to.

    >>> norms_of("LinfFastGradientAttack")
    ('linf',)
    """
    attack = find(name)
    return tuple(norm for norm in NORMS if attack.distance is getattr(distances, norm))


def settings_of(name: str) -> dict[str, Setting]:
    """Return the keywords that an attack takes, with foolbox's own values.

    >>> settings_of("LinfFastGradientAttack")
    {'random_start': False}
    """
    return keyword_defaults(find(name), skip=("distance",))


def budget_search(name: str, *, budget: float, seed: int, settings: Mapping[str, Setting]) -> Callable[..., Candidates]:
    """Return the search of a foolbox attack at a budget; all samples meet the same random starts (`CommonNoise`).

    Attacks that draw from NumPy repeat with their seed too, but what they find may depend on the batch.

    Raises
    ------
    InputError
        For settings that the attack refuses.

    """
    attack = find(name)
    try:
        searcher = attack(**settings)
    except FAILURES as error:
        raise InputError(f"attack 'foolbox:{name}' refuses its settings: {error}") from error
    return partial(_search, searcher, name=name, budget=budget, seed=seed)


def _search(
    searcher: FixedEpsilonAttack,
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,  # noqa: ARG001 (foolbox draws for the whole batch)
    *,
    name: str,
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
            message = f"attack 'foolbox:{name}' cannot run on these samples ({type(error).__name__}: {reason})"
            raise InputError(message) from error
    spent = network.passes_per_sample(len(inputs))
    return Candidates(candidates.detach(), torch.full((len(inputs),), spent, device=inputs.device))
