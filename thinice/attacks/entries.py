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
"""The first additions, on which the others depend, get two thirds of the passes."""
FEWER = 4
"""Later ones try so many times fewer entries."""
AT_ONCE = 1 << 26
"""So many pixels are tried at a time, at most."""
FEW_IMAGES = 64
"""And so many images, or as many as the batch has."""
DROPPED = 12
"""So many entries are tried whether they can be spared, at most."""


def broken_promises(search: Search, who: Tensor, target: Tensor, gap: Tensor, gradient: Tensor) -> Tensor:
    """Return how wrong gradients of samples are about single entries, (R,): 0 is right, 1 worthless.

    They are those (R, D) of the gaps (R,) between the logits of a target (R,) and of the true class. Of the entries
    that promise most, it is what their effects differ by from the promises, over what was promised.
    """
    if not len(who):
        return gap.new_zeros(0)
    promise, edge = _promises(search, who, gradient.nan_to_num())
    promised, entries = _most(promise, SOUNDED)
    logits = _try(search, who, torch.zeros_like(gradient), entries, edge.gather(1, entries))
    towards, away = (of[:, None, None].expand(-1, logits.shape[1], 1) for of in (target, search.labels[who]))
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
    while len(rows):
        search.look(rows)
        search.keep(rows)
        spent += 1
        promise, edge = _promises(search, rows.sample, rows.momentum)
        unused = (rows.delta == 0) & (edge != 0)
        known = search.best[rows.sample]
        on = rows.best.isinf() & (rows.length + 1 < known) & (known.isinf() | (spent < passes)) & unused.any(1)
        if spent >= 2 * passes or not on.any():
            return
        rows, promise, edge = rows[on], promise.masked_fill(~unused, -torch.inf)[on], edge[on]
        promised, entries = _most(promise, tries if added < SURE else max(1, tries // FEWER))
        values = edge.gather(1, entries).masked_fill(promised.isinf(), torch.nan)
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
        values = torch.zeros_like(sizes).masked_fill(sizes.isinf(), torch.nan)
        leads = _leads(search, who, _try(search, who, known, entries, values))
        lead, place = leads.max(1, keepdim=True)
        fewer = (lead > 0).squeeze(1).nonzero().squeeze(1)
        search.best_delta[who[fewer]] = known[fewer].scatter(1, entries.gather(1, place)[fewer], 0)
        search.best[who[fewer]] -= 1
        who = who[fewer]
        who = who[search.best[who] > 1]
    return search.best < before


def _promises(search: Search, sample: Tensor, uphill: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each entry gains at the box's edge, to first order, and the way there (R, D)."""
    start = search.flat[sample]
    up = (uphill > 0) | ((uphill == 0) & (start < 0.5))
    edge = torch.where(up, 1 - start, -start)
    return uphill * edge, edge


def _most(promise: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest promises (R, M) and whose they are; of equal ones the first count."""
    sizes, entries = promise.sort(dim=1, descending=True, stable=True)
    return sizes[:, :count], entries[:, :count]


def _try(search: Search, sample: Tensor, delta: Tensor, entries: Tensor, values: Tensor) -> Tensor:
    """Return the logits (R, M, K) where one of the entries (R, M) of each perturbation (R, D) has another value.

    Where the value is NaN nothing is tried, and the logits are NaN; something must be.
    """
    wanted = ~values.isnan()
    images = min(max(FEW_IMAGES, len(search.limit)), max(1, AT_ONCE // delta.shape[1]))
    row, place = wanted.nonzero(as_tuple=True)
    logits = []
    for part in torch.split(torch.arange(len(row), device=row.device), images):
        of, entry = row[part], entries[row[part], place[part], None]
        points = search.boxed(sample[of], delta[of].scatter(1, entry, values[of, place[part], None]))
        points += search.flat[sample[of]]
        with torch.no_grad():
            logits.append(search.model(points.view(-1, *search.shape)))
    search.spend(sample[row], FORWARD)
    tried = torch.cat(logits)
    return tried.new_full((*wanted.shape, tried.shape[1]), torch.nan).index_put((row, place), tried)


def _leads(search: Search, sample: Tensor, logits: Tensor) -> Tensor:
    """Return how far beyond the boundary logits (R, M, K) are, negative on this side; NaN counts as infinitely far."""
    wanted = search.labels[sample] if search.targets is None else search.targets[sample]
    place = wanted[:, None, None].expand(-1, logits.shape[1], 1)
    one, others = logits.gather(2, place).squeeze(2), logits.scatter(2, place, -torch.inf).amax(2)
    return (others - one if search.targets is None else one - others).nan_to_num(-torch.inf, neginf=-torch.inf)
