"""The search in l0 and l1: corners of the box, drawn at random, and ever less so.

Which entries to change is a choice among very many sets, and a gradient says little of a step as wide as the box. So
each step draws a set: entries by what a running mean of gradients promises of them, times random factors whose spread
fades to none. The points drawn are where the gradients are taken: the mean learns what entries do together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD
from thinice.attacks.tmn.state import ANY, MEMORY, SAME, TINY, VANISHED, Rows, Search
from thinice.types import Norm

__all__ = ["add_entries", "broken_promises", "draw_corners", "drop_entries"]

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


SPREAD: Mapping[Norm, float] = MappingProxyType({"l0": 2.5, "l1": 2.0})
"""The first spread of the random factors: of their logarithm, one standard deviation."""
SIGNS = 8
"""So many random signs add up to a number that is nearly normal."""
FEW = 3.0
"""The length of the first step, at most."""
SHRINK, GROW = 0.7, 1.1
"""Lengths change by these factors at most, once something is found."""
MORE, MOST = 1.5, 2.0
"""Before, they grow by factors between these."""
NEAR = 1.1
"""A start whose end is within this factor of the best is polished itself, else the best is."""
ASTRAY: Mapping[Norm, float] = MappingProxyType({"l0": 2.5, "l1": 1.5})
"""Where the first start ends beyond this many times the screened distance, corners lead astray."""
BROKEN = 0.7
"""In l0, where the gradient is wrong about single entries by this share, they are tried one by one."""
SPAN = 1.0
"""In l1 also where the screened distance is below the span of an entry: parts of many entries are nearer."""


def draw_corners(
    search: Search, *, classes: int = 9, starts: int = 3, steps: int = 28
) -> tuple[Tensor, Tensor, Tensor]:
    """Search in l0 or l1; return which have settled, had no gradient to go by, and are led astray, (N,) bool each.

    Each start heads for another class, the nearest in the linear picture first, until it is adversarial at all; from
    then on any class will do. Where the first start ends far beyond the linear picture, corners lead astray: a natural
    network may call for small changes. There no other start is made, and another search is worth its passes; in l1,
    none at all where the linear picture itself calls for less than one whole entry. In l0, entries are tried one by one
    instead where gradients are wrong about them. What is found is in the search's `best` and `best_delta`.

    Parameters
    ----------
    search : Search
        The samples, in ``l0`` or ``l1``.
    classes : int
        Screen at most this many classes, those with the largest logits.
    starts, steps : int
        Starts, and passes of each; in l1 a third of them are a descent from its end: corners miss entries that end
        within the box. A sample of which nothing is found gets more starts, until each class had its own.

    Examples
    --------
    >>> plane = torch.tensor([[4.0, 2.0, 1.0, 1.0], [-4.0, -2.0, -1.0, -1.0]])
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    >>> def model(inputs):
    ...     return inputs.flatten(1) @ plane.T + torch.tensor([-1.5, 1.5])
    >>> search = Search(model, inputs, first, first, norm="l0", seed=0)
    >>> _ = draw_corners(search)
    >>> search.best
    tensor([2.])

    """
    everyone = torch.arange(len(search.limit), device=search.limit.device)
    order, gaps, gradients = search.differences(everyone, classes)
    flat = gradients.flatten(0, 1)
    here = search.flat.repeat_interleave(order.shape[1], 0)
    distances = search.norm.length(search.norm.cross(-flat, -gaps.flatten(), here)).view_as(gaps)
    slope = search.norm.dual_length(flat).clamp(min=TINY).view_as(gaps)
    gradient_masked = ~((-gaps / slope).amin(1) < VANISHED * search.flat.shape[1])  # true of NaN, too
    rank, ends = distances.argsort(dim=1, stable=True), []
    broken = torch.zeros_like(gradient_masked)
    if search.norm.name == "l0":
        who = (~gradient_masked).nonzero().squeeze(1)
        first = (who, rank[who, 0])
        broken[who] = broken_promises(search, who, order[first], gaps[first], gradients[first]) > BROKEN
        add_entries(search, broken.nonzero().squeeze(1), starts * steps)
    tried = broken & search.best.isfinite()
    astray = (distances.amin(1) < SPAN) & (search.norm.name == "l1") & ~gradient_masked
    for start in range(max(starts, rank.shape[1])):
        lost = search.best.isinf()
        who = (~astray & ~tried & (lost & ~gradient_masked if start >= starts else True)).nonzero().squeeze(1)
        nearest = rank[who, start % rank.shape[1]]
        rows = search.rows(who, order[who, nearest], torch.zeros_like(search.flat[who]))
        rows.momentum = gradients[who, nearest].nan_to_num()
        leap = lost[who] & (start > 0)  # few entries have led nowhere yet
        screened = distances[who, nearest]
        radius = search.within(who, torch.where(leap, screened, screened.clamp(max=FEW)))
        if len(who):
            polish = steps // 3 if search.norm.name == "l1" else 0
            _draw(search, rows, radius, steps - polish)
            if polish:
                _polish(search, rows, polish)
        ends.append(torch.full_like(search.best, torch.inf).index_copy(0, who, rows.best))
        if start == 0 and search.targets is None:
            astray |= ~broken & search.best.isfinite() & (search.best > ASTRAY[search.norm.name] * distances.amin(1))
    settled = (torch.stack(ends) <= (1 + SAME) * search.best).sum(0) > 1
    return settled & search.best.isfinite(), gradient_masked, astray


def _draw(search: Search, rows: Rows, radius: Tensor, steps: int) -> None:
    """Draw corners of these lengths, then of those that a look finds fit, less and less at random."""
    name, search.memory = search.norm.name, MEMORY[search.norm.name]
    for k in range(steps):
        noise = torch.stack([search.signs(rows.sample) for _ in range(SIGNS)]).sum(0) / SIGNS**0.5
        spread = SPREAD[name] * (1 - k / steps) ** 2
        rows.delta = _corner(search, rows, radius, (spread * noise).exp_())
        radius, length, found = search.look(rows), rows.length, rows.best.isfinite()
        most = torch.maximum(GROW * length, length + (name == "l0"))
        radius = torch.where(
            found, radius.clamp(SHRINK * length, most), radius.clamp(MORE * length, MOST * length.clamp(min=1))
        )
        radius = torch.minimum(radius, rows.best)
        if name == "l0":
            radius = torch.minimum(radius.round(), rows.best - 1).clamp(min=1)
        if search.targets is None:
            rows.target = torch.where(found, ANY, rows.target)
    search.keep(rows)


def _corner(search: Search, rows: Rows, radius: Tensor, factor: Tensor) -> Tensor:
    """Return the entries that promise most for what they cost, times the factor, at the box's edge: as many as fit."""
    uphill, start = rows.momentum, search.flat[rows.sample]
    edge = torch.where(uphill > 0, 1 - start, -start)
    whole = search.norm.name == "l0"
    cost = torch.ones_like(edge) if whole else edge.abs()
    promise = (uphill * edge if whole else uphill.abs()) * factor
    order = promise.argsort(dim=1, descending=True, stable=True)
    paid = cost.gather(1, order)
    share = ((radius[:, None] - paid.cumsum(1) + paid) / paid.clamp(min=TINY)).clamp_(0, 1)
    share = torch.zeros_like(share).scatter_(1, order, share.floor() if whole else share)
    return search.boxed(rows.sample, torch.where(promise > 0, share * edge, 0))


def _polish(search: Search, rows: Rows, steps: int) -> None:
    """Descend from the ends in l1 with strides and changes of length that fade; take over what is nearer."""
    search.memory = 0.5
    own = rows.best <= NEAR * search.best[rows.sample]
    delta = torch.where(own[:, None], rows.best_delta, search.best_delta[rows.sample])
    descent, start = search.rows(rows.sample, rows.target, delta), search.flat[rows.sample]
    for k in range(steps):
        fade = (1 + math.cos(math.pi * k / steps)) / 2
        radius, change = search.look(descent), 0.01 + 0.29 * fade
        radius = radius.clamp((1 - change) * descent.length, (1 + change) * torch.minimum(descent.length, descent.best))
        steepest = descent.momentum.abs().amax(1, keepdim=True).clamp(min=TINY)
        stride = (0.01 + 0.79 * fade) * descent.momentum / steepest
        descent.delta = search.boxed(rows.sample, search.norm.confine(descent.delta + stride, radius, start))
    search.keep(descent)
    mended = torch.minimum(rows.best, descent.best)
    rows.best = torch.where(own, mended, rows.best)  # what it made of another start's end is no vote
