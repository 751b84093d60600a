"""TMN, the targeted minimum-norm attack: it decides first which classes are close, then searches only towards those.

Where the network is nearly linear around a sample, a few steps show the closest class, and one long descent towards it
is enough. Elsewhere gradients at the sample are no guide: several descents start from different points, and go by
different losses and by chords at first. One random point tells which it is. l0 and l1 propose sets of whole entries at
random, ever less so.

The algorithm is `_search_dense` (l2, linf) and `_search_sparse` (l0, l1) below; `stages.py` and `sparse.py` have one
function a step, `settings.py` every number, `state.py` the state. `docs/tmn.md` describes it by the same step numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thinice.attacks.result import FORWARD, Candidates, Model
from thinice.attacks.rows import MinNormRow, keyword_defaults
from thinice.attacks.tmn import settings as constants
from thinice.attacks.tmn.settings import EFFORTS, RANGES, CurvedPasses, TmnSettings
from thinice.attacks.tmn.sparse import gradient_error, greedy_add, greedy_remove, random_vertex_search, screen_sparse
from thinice.attacks.tmn.stages import (
    agree,
    annealed_descent,
    bracket,
    descent_steps,
    earlier_ends,
    probe,
    screen_classes,
    search_again,
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
    classes = screen.classes
    curved = (curvature > constants.CURVATURE) | (screen.nearest >= search.limit)
    converged, linear = torch.zeros_like(curved), (~curved).nonzero().squeeze(1)
    # 3 where the network is nearly linear
    if len(linear):
        # 3a SELECT: one Newton step on the radius for each live class a round, until one class is left
        chosen = select_class(search, screen, ~curved, settings.rounds)
        # 3b DESCEND: annealed projected steps towards it, the more the less gradients agree
        steps = descent_steps(search, chosen, settings.descent)
        converged[linear], curved[linear] = annealed_descent(search, chosen, steps, draw_index("descend"))
    # 4 where it is not: searches of other kinds, from elsewhere
    closer = (screen.predicted.amin(1) / search.best).log() > constants.CURVATURE  # than gradients at the sample said
    lost = curved | (search.best > constants.TRUST * screen.predicted.amin(1)) | search.best.isinf()
    curved = lost | closer | settings.everywhere
    index = curved.nonzero().squeeze(1)
    if len(index):
        before = torch.where(lost & ~closer, torch.inf, search.best)[index]  # a lost descent stands for nothing
        ends = earlier_ends(before, settings.curved.searches)
        converged[index] = _search_curved(search, probes[index], classes[index], ends, settings.curved)
    return converged, curved, search.gradient_masked(screen.nearest)


def _search_curved(
    search: SearchState, probes: Trajectories, classes: Tensor, ends: Tensor, passes: CurvedPasses
) -> Tensor:
    """Search in different ways, in l1 too; return which samples have converged, (R,) bool.

    `ends` (R, S) has the lengths that searches ended with, infinite for those still to be made. Converged: as many as
    `passes` asks for end with the best length. Then no more are made.
    """
    sample = probes.sample
    # 4a BRACKET: from the probe to a first adversarial, then bisect
    bracket(search, probes, passes.steps // constants.PART)
    # 4b SEARCHES: from the bracket, from the sample by other losses, from the direction of a class, from noise, ...
    for number in range(passes.searches):
        wanted = ~agree(ends, search.best[sample], passes.enough) & ends[:, number].isinf()
        index = wanted.nonzero().squeeze(1)
        if len(index):
            ends[index, number] = search_again(search, probes[index], classes[index], number, passes.steps)
    return agree(ends, search.best[sample], passes.enough)


def _search_sparse(search: SearchState, settings: TmnSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Search in l0 or l1; return the same masks as `_search_dense`."""
    l0, whole = search.norm.name == "l0", settings.starts * constants.LONG
    # 1 SCREEN: the exact crossing of each class's plane within the box
    screen = screen_sparse(search, settings.classes)
    masked, unreliable = screen.gradient_masked.clone(), torch.zeros_like(screen.gradient_masked)
    # S3 GREEDY, l0: where gradients are wrong about single entries, add entries one by one
    if l0:
        sample = (~masked).nonzero().squeeze(1)
        first = (sample, screen.rank[sample, 0])
        error = gradient_error(search, sample, screen.classes[first], screen.margins[first], screen.directions[first])
        unreliable[sample] = error > constants.GRADIENT_ERROR
        greedy_add(search, unreliable.nonzero().squeeze(1), whole)
    # S2 VERTICES: random search over the vertices of the box, where nothing was found so
    converged, needs_other_search = random_vertex_search(
        search,
        screen,
        skip=unreliable & search.best.isfinite(),
        never_outside=unreliable,
        starts=settings.starts,
        steps=constants.LONG,
    )
    left = whole - constants.LONG
    if l0:
        # S3 GREEDY: where the first start ended far beyond the predicted distance
        greedy_add(search, needs_other_search.nonzero().squeeze(1), left)
        # S4 SPARE: remove what is not needed; a sample that had such entries had not converged
        converged &= ~greedy_remove(search)
        return converged, torch.ones_like(converged), masked
    # 4, l1: a dense search where the first start ended so, or where less than one entry is predicted (no start at all)
    unsearched = needs_other_search & search.best.isinf()
    for group, share in ((unsearched, whole), (needs_other_search & ~unsearched, left)):
        sample = group.nonzero().squeeze(1)
        if len(sample):
            part = search.subset(sample)
            dense = screen_classes(part, settings.classes)
            steps = int(share / (1 + constants.FROM_SAMPLE + 1 / constants.PART))
            passes = CurvedPasses(steps, searches=2 if search.targets is None else 1)
            ends = earlier_ends(search.best[sample], passes.searches)
            converged[sample] = _search_curved(part, probe(part, dense)[1], dense.classes, ends, passes)
            converged[sample] &= part.best <= (1 + constants.AGREEMENT) * search.best[sample]
            masked[sample] = part.gradient_masked(dense.nearest)
            search.merge(sample, part)
    return converged, torch.ones_like(converged), masked


ROW = MinNormRow(search=tmn, version=9, defaults=keyword_defaults(TmnSettings), efforts=EFFORTS, ranges=RANGES)
"""TMN in the registry."""
