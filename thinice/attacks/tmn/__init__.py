"""TMN, the targeted minimum-norm attack: it decides first which classes are close, then searches only towards those.

Where the network is nearly linear around a sample, a few steps show the closest class, and one long descent towards it
is enough. Elsewhere gradients at the sample are no guide: several descents start from different points, and FMN adds
its own. One random point tells which it is. l0 and l1 propose sets of whole entries at random, ever less so.

The algorithm is `_search_dense` (l2, linf) and `_search_sparse` (l0, l1) below; `stages.py` and `sparse.py` have one
function a step, `settings.py` every number, `state.py` the state. `docs/tmn.md` describes it by the same step numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, Candidates, Model
from thinice.attacks.rows import MinNormRow, keyword_defaults
from thinice.attacks.tmn import settings as constants
from thinice.attacks.tmn.settings import EFFORTS, RANGES, UNUSED, TmnSettings
from thinice.attacks.tmn.sparse import gradient_error, greedy_add, greedy_remove, random_vertex_search, screen_sparse
from thinice.attacks.tmn.stages import (
    Screen,
    annealed_descent,
    bracket,
    descend_to_runners_up,
    probe,
    refine_with_fmn,
    restart,
    schedule_descent,
    screen_classes,
    second_opinion,
    select_class,
)
from thinice.attacks.tmn.state import SearchState, Trajectories, draw_index
from thinice.types import Norm

__all__ = ["ROW", "TmnCandidates", "TmnSettings", "tmn"]


@dataclass(frozen=True, slots=True, eq=False)
class TmnCandidates(Candidates):
    """What TMN found, and what it says of the search.

    Attributes
    ----------
    curved : Tensor
        (N,) bool: the network is far from linear around the sample; in l0 and l1 every sample counts as curved.

    """

    curved: Tensor


class CurvedPasses(NamedTuple):
    """Passes of step 4: of the bracketing, how many restarts, of each, of FMN, and how many second opinions.

    The last two know no targets.
    """

    bracket: int
    restarts: int
    restart: int
    fmn: int
    opinions: int = 0


def tmn(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    *,
    norm: Norm,
    seed: int = 0,
    targets: Tensor | None = None,
    **settings: Any,  # noqa: ANN401 (the fields of TmnSettings, which checks their names)
) -> TmnCandidates:
    """Return the shortest adversarial that TMN found for each sample; `verify` decides whether it counts.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs, labels, sample_ids : Tensor
        (N, C, H, W) in [0, 1]; (N,) true classes, int64; (N,) ids, int64. The result of a sample depends on its
        sample_id and the seed, not on the other samples.
    norm : {"l0", "l1", "l2", "linf"}
        The norm of the perturbation.
    seed : int
        Of the random signs.
    targets : Tensor, optional
        (N,) class to reach, other than the label; any other class will do without.
    **settings
        The fields of `TmnSettings`; `thinice.attacks.tmn.settings.EFFORTS` has those of each effort.

    Notes
    -----
    Newton steps on the length and normalised gradients are those of minimum-norm attacks since FMN (Pintor et al.,
    NeurIPS 2021) and DDN (Rony et al., CVPR 2019). Entries are tried one by one in CornerSearch (Croce and Hein, ICCV
    2019), there without gradients. The probe, the selection of classes, the noise, a descent's length by the agreement
    of gradients, and the random search over vertices are thinice's own.

    Examples
    --------
    >>> plane = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    >>> inputs, first = torch.full((1, 1, 2, 2), 0.6), torch.tensor([0])
    >>> result = tmn(lambda inputs: (inputs.flatten(1) - 0.5) @ plane.T, inputs, first, first, norm="l2")
    >>> f"{(result.candidates - inputs).norm().item():.2f}"
    '0.20'

    """
    chosen_settings = TmnSettings(**settings)
    with torch.no_grad():
        logits = model(inputs)
    clean = logits.argmax(1)
    done = logits.isnan().any(1) | (clean != labels if targets is None else clean == targets)
    candidates, evaluations = inputs.clone(), torch.full((len(inputs),), FORWARD, device=inputs.device)
    converged, curved, gradient_masked = torch.zeros_like(done), torch.zeros_like(done), torch.zeros_like(done)
    index = (~done).nonzero().squeeze(1)
    if len(index) and logits.shape[1] > 1:
        goals = None if targets is None else targets[index]
        search = SearchState(
            model, inputs[index], labels[index], sample_ids[index], norm=norm, seed=seed, targets=goals
        )
        steps = _search_sparse if search.sparse else _search_dense
        ended, curved[index], gradient_masked[index] = steps(search, chosen_settings)
        converged[index] = ended & search.best.isfinite() & ~gradient_masked[index]
        candidates[index] = (search.flat + search.best_delta).clamp(0, 1).view_as(inputs[index])
        evaluations[index] += search.evaluations
    return TmnCandidates(candidates, evaluations, curved, converged=converged, gradient_masked=gradient_masked)


def _search_dense(search: SearchState, settings: TmnSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Search in l2 or linf; return which samples have converged, are curved, and have masked gradients, (N,) bool."""
    # 1 SCREEN: predicted distance to each class
    screen = screen_classes(search, settings.classes)
    # 2 PROBE: one random point; curved also where no plane crosses the box, for then gradients have all but vanished
    curvature, probes = probe(search, screen)
    curved = (curvature > constants.CURVATURE_LIMIT) | (screen.nearest >= search.limit)
    converged = torch.zeros_like(curved)
    # 3 where the network is nearly linear
    linear = (~curved).nonzero().squeeze(1)
    if len(linear):
        # 3a SELECT: one Newton step on the radius for each live class a round, until one class is left
        chosen, improvement_over_prediction = select_class(
            search, screen, curvature, ~curved, settings.selection_rounds
        )
        # 3b DESCEND: annealed projected steps towards it, the more the less gradients agree
        runners_up = min(settings.runner_up_classes, screen.distances.shape[1] - 1)  # none where targets are given
        contested = improvement_over_prediction > constants.IMPROVEMENT[search.norm.name]
        contested &= runners_up > 0
        schedule = schedule_descent(
            search, chosen, contested, steps=settings.steps, noise=settings.noise, runners_up=runners_up
        )
        ended = annealed_descent(search, chosen, schedule, draw_index("descend"))
        # 3c RUNNERS-UP: where the class was closer than predicted, others may be closer still
        again = contested.nonzero().squeeze(1)
        ended[again] = descend_to_runners_up(search, linear[again], ended[again], schedule[again], runners_up)
        converged[linear] = ended
    # 4 where it is curved, where the distance was badly predicted, or where nothing was found
    predicted = screen.predicted.amin(1)
    curved |= ~(search.best >= constants.CLOSER * predicted) | search.best.isinf()
    # 3d CROSS-CHECK: FMN is asked where the network is not quite linear; where it comes nearer, the sample is curved
    unsure = curvature > constants.CROSS_CHECK_CURVATURE
    unsure |= (search.best / predicted).log().abs() > constants.CROSS_CHECK_PREDICTION
    index = (unsure & ~curved).nonzero().squeeze(1)
    if len(index) and settings.fmn_steps and search.targets is None:
        before = search.best[index]
        converged[index] = refine_with_fmn(search, index, settings.fmn_steps)
        curved[index] = search.best[index] < (1 - constants.AGREEMENT) * before
    index = curved.nonzero().squeeze(1)
    if len(index):
        fmn_steps, opinions = (settings.fmn_steps, settings.second_opinions) if search.targets is None else (0, 0)
        passes = CurvedPasses(settings.bracket_steps, settings.restarts, settings.restart_steps, fmn_steps, opinions)
        converged[index] = _search_curved(search, screen, probes[index], passes)
    return converged, curved, search.gradient_masked(screen.nearest)


def _search_curved(search: SearchState, screen: Screen, probes: Trajectories, passes: CurvedPasses) -> Tensor:
    """Search from different starting points, in l1 too; return which samples have converged, (R,) bool."""
    sample = probes.sample
    # 4a BRACKET: from the probe to a first adversarial, then bisect
    bracket(search, probes, passes.bracket)
    # 4b RESTART: descents from the bracket, class directions, noise, the best point
    converged = restart(search, probes, screen, restarts=passes.restarts, steps=passes.restart)
    # 4c FMN: it fails on other samples
    if passes.fmn:
        converged = refine_with_fmn(search, sample, passes.fmn)
    # 4d SECOND OPINION: where they disagree, the class found is aimed at from the sample itself
    for number in range(passes.opinions):
        left = (~converged).nonzero().squeeze(1)
        if len(left):
            converged[left] = second_opinion(search, sample[left], passes.restart, number)
    return converged


def _search_sparse(search: SearchState, settings: TmnSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Search in l0 or l1; return the same masks as `_search_dense`."""
    l0, (restarts, fmn_steps) = search.norm.name == "l0", _share_vertex_search(search, settings)
    # 1 SCREEN: the exact crossing of each class's plane within the box
    screen = screen_sparse(search, settings.classes)
    masked, unreliable = screen.gradient_masked.clone(), torch.zeros_like(screen.gradient_masked)
    # S3 GREEDY, l0: where gradients are wrong about single entries, add entries one by one
    if l0:
        sample = (~masked).nonzero().squeeze(1)
        first = (sample, screen.rank[sample, 0])
        error = gradient_error(search, sample, screen.classes[first], screen.margins[first], screen.directions[first])
        unreliable[sample] = error > constants.GRADIENT_ERROR
        greedy_add(search, unreliable.nonzero().squeeze(1), restarts * settings.sparse_steps)
    # S2 VERTICES: random search over the vertices of the box, where nothing was found so
    converged, needs_other_search = random_vertex_search(
        search,
        screen,
        skip=unreliable & search.best.isfinite(),
        never_outside=unreliable,
        restarts=restarts,
        steps=settings.sparse_steps,
    )
    left = max(1, (settings.sparse_restarts - 1) * settings.sparse_steps)
    if l0:
        # S3 GREEDY: where the first start ended far beyond the predicted distance
        greedy_add(search, needs_other_search.nonzero().squeeze(1), left)
        # S4 SPARE: remove what is not needed; a sample that had such entries had not converged
        converged &= ~greedy_remove(search, constants.REMOVED_ENTRIES)
        return converged, torch.ones_like(converged), masked
    # 4, l1: a dense search where the first start ended so, or where less than one entry is predicted (no start at all)
    unsearched = needs_other_search & search.best.isinf()
    instead, after = settings.restart_steps * (settings.restarts + 1), max(1, left - settings.bracket_steps)
    for group, passes in ((unsearched, instead), (needs_other_search & ~unsearched, after)):
        sample = group.nonzero().squeeze(1)
        if len(sample):
            part = search.subset(sample)
            dense = screen_classes(part, settings.classes)
            shares = _share_dense_search(passes, settings, fmn=search.targets is None)
            ended = _search_curved(part, dense, probe(part, dense)[1], shares)
            converged[sample] = ended & (part.best <= (1 + constants.AGREEMENT) * search.best[sample])
            masked[sample] = part.gradient_masked(dense.nearest)
            search.merge(sample, part)
    # 4c, l1: FMN for the others, of many restarts
    sample = (~needs_other_search & ~masked).nonzero().squeeze(1)
    if len(sample) and fmn_steps:
        before = search.best[sample]
        agreed = refine_with_fmn(search, sample, fmn_steps)
        converged[sample] = agreed | (converged[sample] & (search.best[sample] >= before))
    return converged, torch.ones_like(converged), masked


def _share_vertex_search(search: SearchState, settings: TmnSettings) -> tuple[int, int]:
    """Return the starts of the vertex search, and the passes of FMN after it: in l1 a third, if that is enough."""
    passes = settings.sparse_restarts * settings.sparse_steps // constants.L1_THIRDS
    if search.norm.name != "l1" or search.targets is not None or passes < constants.L1_MIN_FMN_STEPS:
        passes = 0
    return settings.sparse_restarts - math.ceil(passes / settings.sparse_steps), passes


def _share_dense_search(passes: int, settings: TmnSettings, *, fmn: bool) -> CurvedPasses:
    """Return how l1 shares these passes: a third for each of few descents, the rest for FMN.

    If that is too little for FMN, or it cannot be used, descents get all. With few entries to choose, long descents do
    more than many.
    """
    restarts = max(1, settings.restarts // constants.L1_FEWER_RESTARTS)
    steps = max(1, passes // constants.L1_THIRDS)
    fmn_steps = passes - restarts * steps
    if fmn and fmn_steps >= constants.L1_MIN_FMN_STEPS:
        return CurvedPasses(settings.bracket_steps, restarts, steps, fmn_steps)
    return CurvedPasses(settings.bracket_steps, restarts, max(1, passes // restarts), 0)


ROW = MinNormRow(
    search=tmn, version=7, defaults=keyword_defaults(TmnSettings), efforts=EFFORTS, ranges=RANGES, idle=UNUSED
)
"""TMN in the registry."""
