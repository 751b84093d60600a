"""Steps of TMN in l0 and l1: random search over the vertices of the box, and greedy search over single entries.

Which entries to change is a choice among very many sets, and a gradient says little of a step as wide as the box. The
random search proposes at each step the entries with the largest expected gain (running mean of gradients times way to
0 or 1), multiplied by log-normal noise that decreases to zero, and sets them to 0 or 1. Gradients are taken at the
points proposed, so that they include interactions. The greedy search of l0 evaluates single entries instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD
from thinice.attacks.tmn import settings as constants
from thinice.attacks.tmn.stages import agree, annealed
from thinice.attacks.tmn.state import ANY, SearchState, Trajectories, draw_index

__all__ = [
    "SparseScreen",
    "gradient_error",
    "greedy_add",
    "greedy_remove",
    "random_vertex_search",
    "screen_sparse",
]


@dataclass(frozen=True, slots=True, eq=False)
class SparseScreen:
    """What the linearised network says of the samples (N) and their candidate classes (M).

    Attributes
    ----------
    classes, margins, directions : Tensor
        (N, M) int64; (N, M) at the samples; (N, M, D) the directions in which the margins fall.
    distances, rank : Tensor
        (N, M) the shortest way across each class's plane within the box; (N, M) int64, positions by distance.
    gradient_masked : Tensor
        (N,) bool: no plane is within reach.

    """

    classes: Tensor
    margins: Tensor
    directions: Tensor
    distances: Tensor
    rank: Tensor
    gradient_masked: Tensor

    @property
    def nearest(self) -> Tensor:
        """The least predicted distance (N,)."""
        return self.distances.amin(1)


def screen_sparse(search: SearchState, classes: int) -> SparseScreen:
    """1: return the predicted distance to each class, with the exact crossing of its plane within the box."""
    everyone = torch.arange(len(search.limit), device=search.limit.device)
    order, margins, directions = search.class_margins(everyone, classes)
    flat, start = directions.flatten(0, 1), search.flat.repeat_interleave(order.shape[1], 0)
    distances = search.norm.length(search.norm.cross(-flat, margins.flatten(), start)).view_as(margins)
    slope = search.norm.dual_length(flat).clamp(min=constants.TINY).view_as(margins)
    masked = search.gradient_masked((margins / slope).amin(1))
    return SparseScreen(order, margins, directions, distances, distances.argsort(dim=1, stable=True), masked)


def random_vertex_search(
    search: SearchState,
    screen: SparseScreen,
    *,
    skip: Tensor,
    never_outside: Tensor,
    starts: int,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """S2: return which samples have converged, and which need another search, (N,) bool each.

    Each start heads for another class, the nearest in the linear picture first, until it is adversarial at all; from
    then on any class will do. A sample of which nothing is found gets more starts, until each class had its own.

    Another search is needed where the first start ends far beyond the predicted distance: small changes of many entries
    are shorter there than vertices. No other start is made then; in l1, none at all where the predicted distance is
    below one entry.

    Parameters
    ----------
    search : SearchState
        The samples, in ``l0`` or ``l1``.
    screen : SparseScreen
        From step 1.
    skip : Tensor
        (N,) bool: samples to leave alone.
    never_outside : Tensor
        (N,) bool: samples of which the linear picture is known to be wrong, so that the distance tells nothing.
    starts, steps : int
        Starts, and passes of each; in l1 a third of them are local refinement: vertices miss entries that end within
        the box.

    Examples
    --------
    >>> plane = torch.tensor([[4.0, 2.0, 1.0, 1.0], [-4.0, -2.0, -1.0, -1.0]])
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    >>> def model(inputs):
    ...     return inputs.flatten(1) @ plane.T + torch.tensor([-1.5, 1.5])
    >>> search, nobody = SearchState(model, inputs, first, first, norm="l0", seed=0), torch.tensor([False])
    >>> screen = screen_sparse(search, 9)
    >>> _ = random_vertex_search(search, screen, skip=nobody, never_outside=nobody, starts=3, steps=28)
    >>> search.best
    tensor([2.])

    """
    name, rank = search.norm.name, screen.rank
    refinement = steps // constants.PART if name == "l1" else 0
    needs_other_search = torch.zeros_like(skip)
    if name == "l1":
        needs_other_search = (screen.nearest < constants.ONE_ENTRY) & ~screen.gradient_masked
    ends = []
    for start in range(max(starts, rank.shape[1])):
        unfound = search.best.isinf()
        wanted = ~needs_other_search & ~skip
        if start >= starts:
            wanted &= unfound & ~screen.gradient_masked
        sample = wanted.nonzero().squeeze(1)
        column = rank[sample, start % rank.shape[1]]
        rows = search.start(sample, screen.classes[sample, column], torch.zeros_like(search.flat[sample]))
        rows.momentum = screen.directions[sample, column].nan_to_num()
        radius = search.clip_radius(sample, screen.distances[sample, column])
        if len(sample):
            drawn = start * (steps - refinement) * constants.NORMAL_SIGNS
            _propose_vertices(search, rows, radius, steps - refinement, draw_index("vertices", step=drawn))
            if refinement:
                _local_refinement(search, rows, refinement)
        ends.append(torch.full_like(search.best, torch.inf).index_copy(0, sample, rows.best))
        if start == 0 and search.targets is None:
            outside = search.best.isfinite() & (search.best > constants.OUTSIDE * screen.nearest)
            needs_other_search |= outside & ~never_outside
    return agree(torch.stack(ends, 1), search.best, 2), needs_other_search


def _propose_vertices(search: SearchState, rows: Trajectories, radius: Tensor, steps: int, first_draw: int) -> None:
    """Evaluate vertices of these lengths (R,), then of those that each evaluation suggests, less and less at random."""
    name, draws = search.norm.name, constants.NORMAL_SIGNS
    for k in range(steps):
        numbers = range(first_draw + k * draws, first_draw + (k + 1) * draws)
        normal = torch.stack([search.signs(rows.sample, number) for number in numbers]).sum(0) / draws**0.5
        spread = constants.SPREAD * (1 - k / steps) ** 2
        rows.delta = _best_vertex(search, rows, radius, (spread * normal).exp_())
        radius, length, found = search.evaluate(rows), rows.length, rows.best.isfinite()
        most = torch.maximum(constants.GROW * length, length + (name == "l0"))
        after = radius.clamp(constants.SHRINK * length, most)
        radius = torch.minimum(torch.where(found, after, constants.TRUST * length.clamp(min=1)), rows.best)
        if name == "l0":
            radius = torch.minimum(radius.round(), rows.best - 1).clamp(min=1)
        if search.targets is None:
            rows.target = torch.where(found, ANY, rows.target)
    search.update_best(rows)


def _best_vertex(search: SearchState, rows: Trajectories, radius: Tensor, factor: Tensor) -> Tensor:
    """Return the perturbations (R, D) with as many entries at 0 or 1 as fit: the largest gain for length, times factor.

    In l1 the last entry moves in part.
    """
    uphill, start = rows.momentum, search.flat[rows.sample]
    edge = torch.where(uphill > 0, 1 - start, -start)
    whole = search.norm.name == "l0"
    cost = torch.ones_like(edge) if whole else edge.abs()
    gain = (uphill * edge if whole else uphill.abs()) * factor
    order = gain.argsort(dim=1, descending=True, stable=True)
    paid = cost.gather(1, order)
    share = ((radius[:, None] - paid.cumsum(1) + paid) / paid.clamp(min=constants.TINY)).clamp_(0, 1)
    share = torch.zeros_like(share).scatter_(1, order, share.floor() if whole else share)
    return search.clip(rows.sample, torch.where(gain > 0, share * edge, 0))


def _local_refinement(search: SearchState, rows: Trajectories, steps: int) -> None:
    """Descend from the ends in l1, with strides that fade from one entry's width; take over what is shorter."""
    descent, start = search.start(rows.sample, rows.target, rows.best_delta), search.flat[rows.sample]
    for k in range(steps):
        radius = search.evaluate(descent)
        largest = descent.momentum.abs().amax(1, keepdim=True).clamp(min=constants.TINY)
        step = annealed(torch.tensor(k / steps)) * descent.momentum / largest
        descent.delta = search.clip(rows.sample, search.norm.confine(descent.delta + step, radius, start))
    search.update_best(descent)
    rows.best = torch.minimum(rows.best, descent.best)


def gradient_error(search: SearchState, sample: Tensor, target: Tensor, margin: Tensor, direction: Tensor) -> Tensor:
    """Return how wrong the gradient is about single entries, (R,): 0 is exact, 1 as bad as predicting nothing.

    Takes the 12 entries with the largest first-order gain and sets each alone to its limit; the error is the sum of
    |actual - predicted| over the sum of predicted.

    Parameters
    ----------
    search : SearchState
        All samples.
    sample, target : Tensor
        (R,) which samples, and the class that the margin is towards.
    margin, direction : Tensor
        (R,) true logit minus the target's at the clean input; (R, D) its negative gradient.

    """
    if not len(sample):
        return margin.new_zeros(0)
    gain, edge = _first_order_gain(search, sample, direction.nan_to_num())
    predicted, entries = _largest(gain, constants.TRIES)
    logits = _try_entries(search, sample, torch.zeros_like(direction), entries, edge.gather(1, entries))
    towards, away = (of[:, None, None].expand(-1, logits.shape[1], 1) for of in (target, search.labels[sample]))
    actual = margin[:, None] - (logits.gather(2, away) - logits.gather(2, towards)).squeeze(2)
    error = (actual - predicted).abs().sum(1) / predicted.sum(1).clamp(min=constants.TINY)
    return error.nan_to_num(torch.inf)


def greedy_add(search: SearchState, sample: Tensor, passes: int) -> None:
    """S3: set one entry after the other to 0 or 1, always the one with the largest effect, until it is adversarial.

    Tries the entries with the largest first-order gain at the current point. Spends about so many passes a sample,
    twice as many where nothing is known yet, and stops where it cannot be shorter than the best.
    """
    target = torch.full_like(sample, ANY) if search.targets is None else search.targets[sample]
    rows = search.start(sample, target, torch.zeros_like(search.flat[sample]))
    tries = max(1, round((passes / constants.ADDITIONS - 1) / FORWARD))
    spent = 0.0
    while len(rows):
        search.evaluate(rows, memory=0)
        search.update_best(rows)
        spent += 1
        gain, edge = _first_order_gain(search, rows.sample, rows.momentum)
        unused = (rows.delta == 0) & (edge != 0)
        best = search.best[rows.sample]
        on = rows.best.isinf() & (rows.length + 1 < best) & (best.isinf() | (spent < passes)) & unused.any(1)
        if spent >= 2 * passes or not on.any():
            return
        rows, gain, edge = rows[on], gain.masked_fill(~unused, -torch.inf)[on], edge[on]
        gains, entries = _largest(gain, tries)
        values = edge.gather(1, entries).masked_fill(gains.isinf(), torch.nan)
        margins = _margins(search, rows.sample, _try_entries(search, rows.sample, rows.delta, entries, values))
        chosen = margins.argmin(1, keepdim=True)
        rows.delta = rows.delta.scatter(1, entries.gather(1, chosen), values.gather(1, chosen))
        spent += FORWARD * entries.shape[1]


def greedy_remove(search: SearchState) -> Tensor:
    """S4: return which samples (N,) had entries to spare, after setting these back, one a round."""
    before = search.best.clone()
    sample = (before.isfinite() & (before > 1)).nonzero().squeeze(1)
    while len(sample):
        delta = search.best_delta[sample]
        sizes, entries = delta.abs().masked_fill(delta == 0, torch.inf).sort(dim=1, stable=True)
        sizes, entries = sizes[:, : constants.TRIES], entries[:, : constants.TRIES]
        values = torch.zeros_like(sizes).masked_fill(sizes.isinf(), torch.nan)
        margins = _margins(search, sample, _try_entries(search, sample, delta, entries, values))
        margin, chosen = margins.min(1, keepdim=True)
        spare = (margin < 0).squeeze(1)
        sample, shorter = sample[spare], delta.scatter(1, entries.gather(1, chosen), 0)[spare]
        search.offer(sample, search.best[sample] - 1, shorter)
        sample = sample[search.best[sample] > 1]
    return search.best < before


def _first_order_gain(search: SearchState, sample: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much each entry (R, D) lowers the margin at its edge of the box, to first order, and the way."""
    start = search.flat[sample]
    up = (direction > 0) | ((direction == 0) & (start < 0.5))
    edge = torch.where(up, 1 - start, -start)
    return direction * edge, edge


def _largest(gain: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest gains (R, M) and their entries; of equal ones the first count."""
    sizes, entries = gain.sort(dim=1, descending=True, stable=True)
    return sizes[:, :count], entries[:, :count]


def _try_entries(search: SearchState, sample: Tensor, delta: Tensor, entries: Tensor, values: Tensor) -> Tensor:
    """Return the logits (R, M, K) where one of the entries (R, M) of each perturbation (R, D) has another value.

    Where the value is NaN nothing is tried, and the logits are NaN; one value at least must be a number.
    """
    wanted = ~values.isnan()
    images = min(max(constants.IMAGES_AT_ONCE, len(search.limit)), max(1, constants.PIXELS_AT_ONCE // delta.shape[1]))
    row, column = wanted.nonzero(as_tuple=True)
    logits = []
    for part in torch.split(torch.arange(len(row), device=row.device), images):
        of, entry = row[part], entries[row[part], column[part], None]
        points = search.clip(sample[of], delta[of].scatter(1, entry, values[of, column[part], None]))
        points += search.flat[sample[of]]
        with torch.no_grad():
            logits.append(search.model(points.view(-1, *search.shape)))
    search.count_passes(sample[row], FORWARD)
    tried = torch.cat(logits)
    return tried.new_full((*wanted.shape, tried.shape[1]), torch.nan).index_put((row, column), tried)


def _margins(search: SearchState, sample: Tensor, logits: Tensor) -> Tensor:
    """Return the margins (R, M) of logits (R, M, K), towards the target if there is one; infinite where undefined."""
    wanted = search.labels[sample] if search.targets is None else search.targets[sample]
    index = wanted[:, None, None].expand(-1, logits.shape[1], 1)
    own, others = logits.gather(2, index).squeeze(2), logits.scatter(2, index, -torch.inf).amax(2)
    return (own - others if search.targets is None else others - own).nan_to_num(torch.inf, posinf=torch.inf)
