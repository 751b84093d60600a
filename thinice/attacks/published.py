"""The minimum-norm attacks of a published study with exactly its settings, through foolbox: ``cw`` and ``bb``.

F. Merkle, M. Samsinger, P. Schöttle, "Pruning in the Face of Adversaries", 2021, attack pruned networks with three
attacks; the third, ``pgd``, works at a fixed budget (`thinice.attacks.pgd`). The study gave them probabilities where
they expect logits, which made its l2 distances far too large; here they get logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.foolbox import (
    L0BrendelBethgeAttack,
    L2CarliniWagnerAttack,
    foolbox_search,
    minimisation_row,
)
from thinice.attacks.result import FORWARD, Candidates, Model, predict
from thinice.attacks.rows import Setting
from thinice.numerics import column
from thinice.types import Norm

__all__ = ["BB", "BB_ROW", "CW", "CW_ROW"]

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
    found = foolbox_search(
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
    return _trimmed(model, inputs, labels, found)


def _others(inputs: Tensor, labels: Tensor, sample_ids: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return for each sample another one of a different class, and where there is one; all are classified correctly.

    The draw is a sample's own: ranks of all others by its own random numbers.
    """
    draws = [torch.Generator().manual_seed((seed * 1_000_003 + sample_id) % 2**63) for sample_id in sample_ids.tolist()]
    ranks = torch.stack([torch.rand(len(labels), generator=draw) for draw in draws]).to(inputs.device)
    differs = labels[:, None] != labels[None]
    chosen = torch.where(differs, ranks, -1.0).argmax(1)
    return inputs[chosen], differs.any(1)


def _trimmed(model: Model, inputs: Tensor, labels: Tensor, found: Candidates) -> Candidates:
    """Return the candidates with entries that hardly changed put back, where that is still an adversarial.

    The attack does not count such entries, and verification counts every one.
    """
    delta = found.candidates - inputs
    trimmed = torch.where(delta.abs() <= UNCHANGED, inputs, found.candidates)
    predictions = predict(model, trimmed)
    adversarial = column((predictions >= 0) & (predictions != labels), inputs)
    candidates = torch.where(adversarial, trimmed, found.candidates)
    return replace(found, candidates=candidates, evaluations=found.evaluations + FORWARD)


_CW, _BB = minimisation_row(L2CarliniWagnerAttack), minimisation_row(L0BrendelBethgeAttack)
CW_ROW = replace(_CW, defaults={**_CW.defaults, **CW}, published=True)
"""Carlini and Wagner's attack in the registry."""
BB_ROW = replace(
    _BB,
    search=_brendel_bethge,
    defaults={**_BB.defaults, **BB},
    recorded={**_BB.recorded, "starts": "batch"},
    published=True,
)
"""Brendel and Bethge's attack in the registry.

Each sample starts from another one of its batch, drawn at random among those of other classes; where there is none,
from blended uniform noise. So what it finds may depend on the batch.
"""
