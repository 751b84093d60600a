"""Entries of l0 tried one by one: what a gradient promises of an entry, and what it does when it is changed.

A gradient says little of a step as wide as the box: on natural networks an entry that promises most often does nothing,
or the opposite. A forward pass tells, for a third of the price of a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thinice.attacks.nearest import FORWARD
from thinice.attacks.search import ANY, TINY, Search

__all__ = ["add_entries", "broken_promises", "drop_entries"]

SOUNDED = 12
"""So many entries tell how far a gradient can be trusted."""
SURE = 5
"""The first additions, of which the others depend, get two thirds of the passes."""
FEWER = 4
"""Later ones try so many times fewer entries."""
AT_ONCE = 1 << 26
"""So many pixels are tried at a time, at most."""
DROPPED = 12
"""So many entries are tried whether they can be spared, at most."""


def broken_promises(search: Search, target: Tensor, gap: Tensor, gradient: Tensor) -> Tensor:
    """Return how wrong the gradients are about single entries, (N,): 0 is right, 1 worthless.

    They are those (N, D) of the gaps (N,) between the logits of a target (N,) and of the true class. Of the entries
    that promise most, it is what their effects differ by from the promises, over what was promised.
    """
    everyone = torch.arange(len(target), device=target.device)
    promise, edge = _promises(search, everyone, gradient.nan_to_num())
    promised, entries = _most(promise, SOUNDED)
    logits = _try(search, everyone, torch.zeros_like(gradient), entries, edge.gather(1, entries))
    towards, away = (of[:, None, None].expand(-1, logits.shape[1], 1) for of in (target, search.labels))
    effect = (logits.gather(2, towards) - logits.gather(2, away)).squeeze(2) - gap[:, None]
    return ((effect - promised).abs().sum(1) / promised.sum(1).clamp(min=TINY)).nan_to_num(torch.inf)


def add_entries(search: Search, who: Tensor, passes: int) -> None:
    """Change one entry after the other, always the one that does most, until something is found.

    It tries those of which the gradient promises most, and spends about so many passes, twice as many where nothing is
    known yet. What is found is in the search's `best` and `best_delta`.
    """
    target = torch.full_like(who, ANY) if search.targets is None else search.targets[who]
    rows = search.rows(who, target, torch.zeros_like(search.flat[who]))
    tries, spent, added = max(1, round((2 * passes / 3 / SURE - 1) / FORWARD)), 0.0, 0
    search.memory = 0
    while True:
        search.look(rows)
        search.keep(rows)
        spent += 1
        known = search.best[rows.sample]
        on = rows.best.isinf() & (rows.length + 1 < known) & (known.isinf() | (spent < passes))
        rows = rows[on.nonzero().squeeze(1)]
        if spent >= 2 * passes or not len(rows):
            return
        promise, edge = _promises(search, rows.sample, rows.momentum)
        promise = promise.masked_fill(rows.delta != 0, -torch.inf)
        _, entries = _most(promise, tries if added < SURE else max(1, tries // FEWER))
        values = edge.gather(1, entries)
        leads = _leads(search, rows.sample, _try(search, rows.sample, rows.delta, entries, values))
        best = leads.argmax(1, keepdim=True)
        rows.delta = rows.delta.scatter(1, entries.gather(1, best), values.gather(1, best))
        spent += FORWARD * entries.shape[1]
        added += 1


def drop_entries(search: Search, rounds: int) -> Tensor:
    """Take back entries of the best points that can be spared, one a round; return which had any, (N,) bool."""
    before = search.best
    search.best = before.clone()
    who = (search.best.isfinite() & (search.best > 1)).nonzero().squeeze(1)
    for _ in range(rounds):
        if not len(who):
            break
        known = search.best_delta[who]
        sizes, entries = known.abs().masked_fill(known == 0, torch.inf).sort(dim=1, stable=True)
        sizes, entries = sizes[:, :DROPPED], entries[:, :DROPPED]
        leads = _leads(search, who, _try(search, who, known, entries, torch.zeros_like(sizes)))
        lead, place = leads.masked_fill(sizes.isinf(), -torch.inf).max(1, keepdim=True)
        fewer = (lead > 0).squeeze(1).nonzero().squeeze(1)
        search.best_delta[who[fewer]] = known[fewer].scatter(1, entries.gather(1, place)[fewer], 0)
        search.best[who[fewer]] -= 1
        who = who[fewer]
        who = who[search.best[who] > 1]
    return search.best < before


def _promises(search: Search, sample: Tensor, uphill: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each entry gains at the box's edge, to first order, and the way there (R, D)."""
    start = search.flat[sample]
    edge = torch.where(uphill > 0, 1 - start, -start)
    return uphill * edge, edge


def _most(promise: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest promises (R, M) and whose they are; of equal ones the first count."""
    sizes, entries = promise.sort(dim=1, descending=True, stable=True)
    return sizes[:, :count], entries[:, :count]


def _try(search: Search, sample: Tensor, delta: Tensor, entries: Tensor, values: Tensor) -> Tensor:
    """Return the logits (R, M, K) where one of the entries (R, M) of each perturbation (R, D) has another value."""
    logits, rows = [], max(1, AT_ONCE // (delta.shape[1] * entries.shape[1]))
    for part in torch.split(torch.arange(len(sample), device=sample.device), rows):
        trials = delta[part, None].repeat(1, entries.shape[1], 1)
        trials.scatter_(2, entries[part, :, None], values[part, :, None])
        points = trials.add_(search.flat[sample[part], None]).clamp_(0, 1)
        with torch.no_grad():
            logits.append(search.model(points.view(-1, *search.shape)))
    search.spend(sample, FORWARD * entries.shape[1])
    return torch.cat(logits).view(*entries.shape, -1)


def _leads(search: Search, sample: Tensor, logits: Tensor) -> Tensor:
    """Return how far beyond the boundary logits (R, M, K) are, negative on this side; NaN counts as infinitely far."""
    wanted = search.labels[sample] if search.targets is None else search.targets[sample]
    place = wanted[:, None, None].expand(-1, logits.shape[1], 1)
    one, others = logits.gather(2, place).squeeze(2), logits.scatter(2, place, -torch.inf).amax(2)
    return (others - one if search.targets is None else one - others).nan_to_num(-torch.inf, neginf=-torch.inf)
