"""Projected gradient descent at a fixed budget with the settings of a published study, through foolbox: ``pgd``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from thinice.attacks.foolbox import budget_search, fixed_budget_attacks, foolbox_row
from thinice.attacks.rows import BudgetSearch, FixedBudgetRow, Setting
from thinice.types import Norm

__all__ = ["ROW"]

PGD: Mapping[Norm, str] = MappingProxyType(
    {
        "linf": "LinfProjectedGradientDescentAttack",
        "l2": "L2ProjectedGradientDescentAttack",
        "l1": "L1ProjectedGradientDescentAttack",
    }
)
"""Foolbox's classes."""
MERKLE_PGD: Mapping[str, Setting] = MappingProxyType({"steps": 40, "rel_stepsize": 0.1 / 3, "random_start": True})
"""40 steps of a thirtieth of the budget from a random start: F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face
of Adversaries", 2021 (there in linf)."""


def _searches(
    *,
    norm: Norm,
    budget: float,
    seed: int,
    classes: int,  # noqa: ARG001 (foolbox asks the network)
    shape: Sequence[int],  # noqa: ARG001 (as above)
    **settings: Setting,
) -> tuple[BudgetSearch]:
    """Return the search of foolbox's class for the norm."""
    attack = fixed_budget_attacks()[PGD[norm]]
    return (budget_search("pgd", attack, budget=budget, seed=seed, settings=settings),)


_FOOLBOX_ROW = foolbox_row(PGD["linf"])
ROW = FixedBudgetRow(
    searches=_searches,
    version=1,
    norms=("l1", "l2", "linf"),
    defaults={**_FOOLBOX_ROW.defaults, **MERKLE_PGD},
    recorded=_FOOLBOX_ROW.recorded,
)
"""PGD in the registry; the classes of the three norms have the same settings."""
