"""The minimum-norm attacks of a published study with exactly its settings, through foolbox: ``cw`` and ``bb``.

F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face of Adversaries", 2021, attack pruned networks with three
attacks; the third, ``pgd``, works at a fixed budget (`thinice.robustness`). The study gave them probabilities where
they expect logits, which made its l2 distances far too large; here they get logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.attack import AttackRow, Setting
from thinice.attacks.foolbox import L0BrendelBethgeAttack, foolbox_row, foolbox_search
from thinice.attacks.result import FORWARD, Candidates, Model, predict
from thinice.numerics import column
from thinice.types import Norm

__all__ = ["BB", "CW", "bb_row", "cw_row"]

CW: Mapping[str, Setting] = MappingProxyType(
    {
        "binary_search_steps": 9,
        "steps": 5000,
        "stepsize": 1.0,
        "confidence": 0,
        "initial_const": 100.0,
        "abort_early": True,
    }
)
"""Of Carlini and Wagner's l2 attack in the study: 9 constants from 100 on, 5000 steps of 1 each, or fewer without
progress."""
BB: Mapping[str, Setting] = MappingProxyType(
    {"steps": 500, "lr": 1e7, "lr_decay": 0.5, "lr_num_decay": 30, "binary_search_steps": 30}
)
"""Of Brendel and Bethge's l0 attack in the study."""
UNCHANGED = 1e-4
"""Foolbox's l0 variant takes entries that changed by less for unchanged."""


def cw_row() -> AttackRow:
    """Return the registry row of Carlini and Wagner's attack with the study's settings.

    >>> cw_row().defaults["steps"], cw_row().norms
    (5000, ('l2',))
    """
    row = foolbox_row("L2CarliniWagnerAttack")
    return replace(row, defaults={**row.defaults, **CW})


def bb_row() -> AttackRow:
    """Return the registry row of Brendel and Bethge's attack with the study's settings.

    Each sample starts from another one of its batch, drawn at random among those of other classes; where there is
    none, from blended uniform noise. So what it finds may depend on the batch.

    >>> bb_row().defaults["lr"], bb_row().norms
    (10000000.0, ('l0',))
    """
    row = foolbox_row("L0BrendelBethgeAttack")
    return replace(
        row,
        search=_brendel_bethge,
        defaults={**row.defaults, **BB},
        fixed={**row.fixed, "starts": "batch", "recipe": 2},
    )


def _brendel_bethge(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    seed: int,
    **settings: Setting,
) -> Candidates:
    claims = foolbox_search(
        L0BrendelBethgeAttack,
        model,
        inputs,
        labels,
        sample_ids,
        norm=norm,
        seed=seed,
        others=partial(_others, inputs, labels, sample_ids, seed),
        **settings,
    )
    return _trimmed(model, inputs, labels, claims)


def _others(inputs: Tensor, labels: Tensor, sample_ids: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return for each sample another one of a different class, and where there is one; all are classified correctly.

    The draw is a sample's own: ranks of all others by its own random numbers.
    """
    draws = [torch.Generator().manual_seed((seed * 1_000_003 + sample_id) % 2**63) for sample_id in sample_ids.tolist()]
    ranks = torch.stack([torch.rand(len(labels), generator=draw) for draw in draws]).to(inputs.device)
    differs = labels[:, None] != labels[None]
    chosen = torch.where(differs, ranks, -1.0).argmax(1)
    return inputs[chosen], differs.any(1)


def _trimmed(model: Model, inputs: Tensor, labels: Tensor, claims: Candidates) -> Candidates:
    """Return the claims with entries that hardly changed put back, where that is still an adversarial.

    The attack does not count such entries, and the judge counts every one.
    """
    delta = claims.candidates - inputs
    trimmed = torch.where(delta.abs() <= UNCHANGED, inputs, claims.candidates)
    reached = predict(model, trimmed)
    stands = column((reached >= 0) & (reached != labels), inputs)
    candidates = torch.where(stands, trimmed, claims.candidates)
    return replace(claims, candidates=candidates, evaluations=claims.evaluations + FORWARD)
