"""Steps of TMN in l2 and linf, one function each: screen, probe, select, descend, bracket, search again.

The numbers are those of `thinice.attacks.tmn` and of `docs/tmn.md`. Stages write what they find into the search's best
adversarials, and return what the next ones need: trajectories, or which samples have converged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thinice.attacks.fmn import fmn
from thinice.attacks.tmn import settings as constants
from thinice.attacks.tmn.state import ANY, Loss, SearchState, Trajectories, draw_index

__all__ = [
    "Screen",
    "agree",
    "annealed",
    "annealed_descent",
    "bracket",
    "descent_steps",
    "earlier_ends",
    "probe",
    "run_fmn",
    "screen_classes",
    "search_again",
    "select_class",
]


@dataclass(frozen=True, slots=True, eq=False)
class Screen:
    """What the linearised network says of the samples (N) and their candidate classes (M).

    Attributes
    ----------
    candidates : Trajectories
        (N * M) a trajectory for each sample and class, in this order, after its first step.
    distances : Tensor
        (N, M) predicted distance to each class, within the box.
    nearest : Tensor
        (N,) the least predicted distance if there were no box.

    """

    candidates: Trajectories
    distances: Tensor
    nearest: Tensor

    @property
    def predicted(self) -> Tensor:
        """The distances (N, S) to the classes with a gradient; those to others are bounds."""
        return self.distances[:, : constants.GRADIENT_CLASSES]

    @property
    def classes(self) -> Tensor:
        """The classes with a gradient (N, S), the likeliest first."""
        return self.candidates.target.view_as(self.distances)[:, : constants.GRADIENT_CLASSES]


def screen_classes(search: SearchState, classes: int) -> Screen:
    """1: return the predicted distance to each candidate class, and trajectories towards them after their first step.

    With margin m and gradient g at the sample the distance is m / |g|_dual. Only the classes with the largest logits
    get a gradient; the others wait at the sample, with the least distance that they may well have.
    """
    everyone = torch.arange(len(search.limit), device=search.limit.device)
    order, margins, directions = search.class_margins(everyone, classes, constants.GRADIENT_CLASSES)
    count, exact = order.shape[1], directions.shape[1]
    flat = directions.flatten(0, 1)
    slope = search.norm.dual_length(flat).clamp_(min=constants.TINY).view(-1, exact)
    steepest = (constants.STEEPER * slope.amax(1, keepdim=True)).expand(-1, count - exact)
    boundless = margins / torch.cat([slope, steepest], 1)
    nowhere = torch.zeros_like(search.flat).repeat_interleave(count, 0)
    candidates = search.start(everyone.repeat_interleave(count), order.flatten(), nowhere)
    candidates.margin = margins.flatten()
    candidates.estimate = search.clip_radius(candidates.sample, boundless.flatten())
    index = torch.arange(len(candidates), device=everyone.device).view(-1, count)[:, :exact].flatten()
    rows = candidates[index]
    rows.momentum = (1 - search.memory) * flat / slope.view(-1, 1)
    if search.sparse:  # few entries, which the box stops early: the exact crossing of the plane within the box
        rows.delta = search.norm.cross(-flat, rows.margin * (1 + constants.OVERSHOOT), search.flat[rows.sample])
        rows.estimate = search.clip_radius(rows.sample, search.norm.length(rows.delta))
    else:
        search.step(rows, rows.estimate * (1 + constants.OVERSHOOT), search.stride)
    candidates.put(index, rows)
    distances = candidates.estimate.view(-1, count).clone()
    return Screen(candidates, distances, boundless[:, :exact].amin(1))


def probe(search: SearchState, screen: Screen) -> tuple[Tensor, Trajectories]:
    """2: return the curvature (N,) and trajectories from the point where it was measured, towards any class.

    Evaluates one random point a quarter of the first step away. The boundary's tangent plane there should lie as far
    from the sample as the screen predicts: the curvature is |log| of the ratio of the two distances.
    """
    count = screen.distances.shape[1]
    everyone = screen.candidates.sample[::count]
    closest = screen.candidates.estimate.view(-1, count)[:, : constants.GRADIENT_CLASSES].argmin(1)
    first_step = torch.linalg.vector_norm(screen.candidates.delta[everyone * count + closest], dim=1)
    signs = search.signs(everyone, draw_index("probe"))
    delta = signs * (first_step * constants.PROBE_STEP / signs.shape[1] ** 0.5)[:, None]
    target = torch.full_like(everyone, ANY) if search.targets is None else search.targets[everyone]
    probes = search.start(everyone, target, delta)
    search.evaluate(probes)
    along = (probes.momentum * probes.delta).sum(1) / (1 - search.memory)
    ratio = ((along + probes.signed_distance) / screen.nearest).nan_to_num(0, posinf=torch.inf)
    return ratio.clamp(min=constants.TINY).log().abs(), probes


def select_class(search: SearchState, screen: Screen, wanted: Tensor, rounds: int) -> Trajectories:
    """3a: return one trajectory for each wanted sample, in their order, towards the class to attack.

    Each live class takes one Newton step on its radius a round, until one is left. A class joins once its predicted
    distance is within reach of the best, the more so the closer that turned out than predicted, and is dropped when its
    own estimate is clearly larger. The screen's candidates are moved on.

    Parameters
    ----------
    search : SearchState
        The samples (N).
    screen : Screen
        From step 1.
    wanted : Tensor
        (N,) bool: which samples.
    rounds : int
        At most.

    """
    candidates, distances, keep = screen.candidates, screen.distances, 1 + constants.CURVATURE
    nearest, evaluated = screen.predicted.amin(1, keepdim=True), torch.zeros_like(distances)
    evaluated[:, constants.GRADIENT_CLASSES :] = -1  # the first evaluation of these is their screen
    live, leader = (distances <= keep * nearest) & wanted[:, None], screen.predicted.argmin(1, keepdim=True)
    for _ in range(rounds):
        index = live.flatten().nonzero().squeeze(1)
        if not len(index):
            break
        rows = candidates[index]
        search.step(rows, search.evaluate(rows), search.stride)
        search.update_best(rows)
        candidates.put(index, rows)
        evaluated += live
        estimate = candidates.estimate.view_as(distances)
        distances = torch.where(live & (evaluated == 0), estimate, distances)
        least, leader = torch.where(evaluated > 0, estimate.nan_to_num(torch.inf), torch.inf).min(1, keepdim=True)
        improvement = (distances.gather(1, leader) / least).log().clamp(min=0)
        joins = (evaluated <= 0) & (distances <= torch.maximum(least, nearest) * (keep + improvement))
        live = (joins | ((evaluated > 0) & (estimate <= keep * least))) & wanted[:, None]
        live &= live.sum(1, keepdim=True) > 1
    sample = wanted.nonzero().squeeze(1)
    return candidates[sample * distances.shape[1] + leader[sample, 0]]


def descent_steps(search: SearchState, rows: Trajectories, steps: int) -> Tensor:
    """3b: return how many steps (R,) each descent takes: the more, the less gradients agree.

    Takes one step along each trajectory to see it. With the share u of the gradient's dual length that the direction so
    far does not explain, the steps are multiplied by the cube root of u / USUAL_DISAGREEMENT; one in PART are left.
    """
    direction, before = search.norm.steepest(rows.momentum), search.memory * rows.momentum
    search.step(rows, search.evaluate(rows), search.stride)
    disagreement = 1 - ((rows.momentum - before) * direction).sum(1) / (1 - search.memory)
    factor = (disagreement.nan_to_num(1).clamp(min=0) / constants.USUAL_DISAGREEMENT).pow(1 / 3)
    return (steps * factor).round().long().clamp(min=max(1, steps // constants.PART))


def annealed_descent(
    search: SearchState,
    rows: Trajectories,
    steps: Tensor,
    first_draw: int,
    *,
    chords: bool = False,
    trust: bool = False,
    loss: Loss = "margin",
) -> tuple[Tensor, Tensor]:
    """3b, 4b: return which trajectories (R,) have converged, and which are lost, after so many steps (R,) each.

    A cosine takes the stride to CONVERGED of it; noise and chords end after NOISE_ENDS of the steps. Lost: no
    adversarial was found, or the descent ended far beyond the best. Converged: it is not lost, and the last quarter of
    the steps shortened the best by less than 1 %. The noise of step k is the random vector ``first_draw + k``.

    Parameters
    ----------
    search, rows, steps : SearchState, Trajectories, Tensor
        Trajectories, which are moved on, and how many steps (R,) each takes, at least 1.
    first_draw : int
        See above.
    chords : bool
        Gradients by chords that get ever shorter; all trajectories take as many steps.
    trust : bool
        Of descents from elsewhere: the radius stays near the length so far, strides are longer, and there is no noise.
    loss : {"margin", "soft margin", "other logit"}
        What the trajectories descend on while there are chords; later it is the margin.

    """
    converged, lost = torch.zeros_like(rows.crossed), torch.zeros_like(rows.crossed)
    on = torch.arange(len(rows), device=rows.sample.device)
    before, ends = rows.best, sorted(set(steps.tolist()))
    noise = (0 if trust else constants.NOISE[search.norm.name]) * (steps / constants.LONG).clamp(max=1)
    stride = max(constants.STRIDE.values()) if trust else search.stride
    for k in range(ends[-1] if ends else 0):
        fade, reach = annealed(k / steps), 1 - k / (constants.NOISE_ENDS * ends[-1])
        radius = search.evaluate(rows, loss=loss if reach > 0 else "margin", chords=reach if chords else 0)
        if trust:
            around = torch.minimum(rows.length, constants.BEYOND * torch.minimum(rows.best, search.best[rows.sample]))
            change = fade / constants.TRUST
            radius = search.clip_radius(rows.sample, radius.clamp(around * (1 - change), around * (1 + change)))
        before = torch.where(4 * (k + 1) <= 3 * steps, rows.best, before)  # what was best after three quarters
        shake, loud = None, noise * (1 - k / (constants.NOISE_ENDS * steps))
        if bool((loud > 0).any()):
            shake = search.noise(rows.sample, loud.clamp(min=0) * radius, first_draw + k)
        search.step(rows, radius, stride * fade, shake)
        if k + 1 in ends:
            search.update_best(rows)
            lost[on] = rows.best.isinf() | (rows.length > constants.BEYOND * rows.best)
            converged[on] = ~lost[on] & (rows.best >= (1 - constants.CONVERGED) * before)
            left = (steps > k + 1).nonzero().squeeze(1)
            rows, on, steps, before, noise = rows[left], on[left], steps[left], before[left], noise[left]
    return converged, lost


def annealed(progress: Tensor) -> Tensor:
    """Return what is left of 1 at this progress (0 to 1): half a cosine that ends with CONVERGED."""
    return constants.CONVERGED + (1 - constants.CONVERGED) * (1 + torch.cos(math.pi * progress)) / 2


def bracket(search: SearchState, rows: Trajectories, steps: int) -> None:
    """4a: grow the radius of each trajectory to a first adversarial, then bisect between it and the longest failure.

    A Newton radius counts where it is more cautious than these. The trajectories are moved on.
    """
    failed = torch.zeros_like(rows.length)  # the longest length below the best that was not adversarial
    newton = rows.length + rows.signed_distance
    reach = newton.clamp(max=constants.TRUST * rows.length)
    search.step(rows, search.clip_radius(rows.sample, reach), search.stride)
    for _ in range(steps):
        radius = search.evaluate(rows)
        beyond, found = rows.margin < 0, rows.best.isfinite()
        short = ~beyond & found
        failed = torch.where(short & (rows.length < rows.best), rows.length, failed)
        failed = torch.where(beyond & (failed > rows.length), 0, failed)  # the bracket was wrong
        nearer = radius.clamp((failed + rows.length) / 2, rows.length)
        farther = torch.minimum(radius, constants.TRUST * rows.length)
        middle = torch.where(found, (failed + rows.best) / 2, 1)
        search.step(rows, torch.where(beyond, nearer, farther), search.stride)
        rows.delta = torch.where(short[:, None], search.norm.project(rows.best_delta, middle), rows.delta)
        rows.momentum = torch.where(short[:, None], 0, rows.momentum)
    search.update_best(rows)


def earlier_ends(before: Tensor, searches: int) -> Tensor:
    """Return the lengths (N, S) that the searches of step 4b ended with so far: infinite, but for those before (N,).

    What went before stands for the last search, so that none costs more than the others.
    """
    ends = before.new_full((len(before), max(searches, 3)), torch.inf)
    ends[:, -1] = before
    return ends


def search_again(search: SearchState, probes: Trajectories, classes: Tensor, number: int, steps: int) -> Tensor:
    """4b: return the lengths (R,) that a search of another kind ended with, infinite where it found nothing.

    In turn: a descent from the bracketed adversarial (later from noise, as long as the best); one from the sample
    itself, by the soft margin at first; one from the direction that chords give to a likely class, as long as the best;
    one from the sample, by the other logit at first. All but the last have gradients by chords at first. Those from the
    sample have farther to go, and take FROM_SAMPLE times the passes. In l1, where a step is as long as the perturbation
    so far, FMN takes their place.

    Parameters
    ----------
    search : SearchState
        The samples.
    probes : Trajectories
        Of the samples to search (R); for the first search from step 4a.
    classes : Tensor
        (R, S) screened classes, the likeliest first.
    number, steps : int
        Which search, from 0; passes of a descent.

    """
    sample, norm, draw, turn = probes.sample, search.norm, draw_index("search", number), number % 4
    nowhere = torch.zeros_like(search.flat[sample])
    if turn in {1, 3} and search.sparse:
        return run_fmn(search, sample, constants.FROM_SAMPLE * steps)
    if turn in {1, 3}:
        rows = search.start(sample, probes.target, nowhere)
        loss: Loss = "soft margin" if turn == 1 else "other logit"
        steps_each = torch.full_like(sample, constants.FROM_SAMPLE * steps)
        annealed_descent(search, rows, steps_each, draw, chords=turn == 1, loss=loss)
        return rows.best
    best = search.best[sample]
    length = torch.where(best.isfinite(), best, search.limit[sample] / 2)
    if number == 0:
        delta = torch.where(probes.best.isfinite()[:, None], probes.best_delta, probes.delta)
    elif turn == 0:
        delta = search.noise(sample, length, draw)
    else:
        towards = search.start(sample, classes[:, number // 4 % classes.shape[1]], nowhere)
        search.evaluate(towards, chords=1.0)
        delta = norm.project(length[:, None] * norm.steepest(towards.momentum), length)
    rows = search.start(sample, probes.target, delta)
    rows.crossed = torch.ones_like(rows.crossed)
    annealed_descent(search, rows, torch.full_like(sample, steps), draw, chords=True, trust=True)
    return rows.best


def run_fmn(search: SearchState, sample: Tensor, steps: int) -> Tensor:
    """4b in l1: return the lengths (R,) that FMN finds from the samples themselves, infinite where it finds nothing."""
    inputs = search.flat[sample].view(-1, *search.shape)
    ids, labels = search.sample_ids[sample], search.labels[sample]
    result = fmn(search.model, inputs, labels, ids, norm=search.norm.name, steps=steps, seed=search.seed)
    search.evaluations[sample] += result.evaluations
    delta = (result.candidates - inputs).flatten(1)
    length = search.norm.length(delta)
    length = torch.where(length > 0, length, torch.inf)  # where it found nothing, it returns the input
    search.offer(sample, length, delta)
    return length


def agree(ends: Tensor, best: Tensor, count: int) -> Tensor:
    """Return where (N,) so many searches that know nothing of each other ended (N, S) with the best length."""
    return ((ends <= (1 + constants.AGREEMENT) * best[:, None]).sum(1) >= count) & best.isfinite()
