"""Steps of TMN in l2 and linf, one function each: screen, probe, select a class, descend, bracket, restart, FMN.

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
from thinice.attacks.tmn.state import ANY, SearchState, Trajectories, draw_index

__all__ = [
    "Schedule",
    "Screen",
    "annealed_descent",
    "bracket",
    "descend_to_runners_up",
    "probe",
    "refine_with_fmn",
    "restart",
    "schedule_descent",
    "screen_classes",
    "second_opinion",
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
    def directions(self) -> Tensor:
        """The last directions (N, S, D) towards these classes."""
        return self.candidates.momentum.view(*self.distances.shape, -1)[:, : constants.GRADIENT_CLASSES]


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
        rows.delta = search.norm.cross(-flat, rows.margin * constants.BEYOND, search.flat[rows.sample])
        rows.estimate = search.clip_radius(rows.sample, search.norm.length(rows.delta))
    else:
        search.step(rows, rows.estimate * constants.OVERSHOOT, constants.SCREEN_STRIDE)
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


def select_class(
    search: SearchState, screen: Screen, curvature: Tensor, wanted: Tensor, rounds: int
) -> tuple[Trajectories, Tensor]:
    """3a: return one trajectory for each wanted sample, towards the class to attack, and by how much it is closer.

    Each live class takes one Newton step on its radius a round. A class joins once its predicted distance is within
    reach of the best, and is dropped when its estimate is clearly larger. Both tolerances grow where predictions were
    wrong so far. The screen's candidates are moved on.

    Parameters
    ----------
    search : SearchState
        The samples (N).
    screen, curvature : Screen, Tensor
        From steps 1 and 2.
    wanted : Tensor
        (N,) bool: which samples.
    rounds : int
        At most.

    Returns
    -------
    chosen, improvement_over_prediction : Trajectories, Tensor
        Both of the wanted samples, in their order; the latter is log(predicted distance / estimate).

    """
    name, candidates, distances = search.norm.name, screen.candidates, screen.distances
    nearest, keep = screen.predicted.amin(1, keepdim=True), constants.KEEP[name]
    evaluated = torch.zeros_like(distances)
    evaluated[:, constants.GRADIENT_CLASSES :] = -1  # the first evaluation of these is their screen
    live = (distances <= constants.SELECTION_SLACK * nearest) & wanted[:, None]
    for _ in range(rounds):
        index = live.flatten().nonzero().squeeze(1)
        if not len(index):
            break
        rows = candidates[index]
        search.step(rows, search.evaluate(rows), constants.STRIDE[name])
        search.update_best(rows)
        candidates.put(index, rows)
        evaluated += live
        estimate = candidates.estimate.view_as(distances)
        distances = torch.where(live & (evaluated == 0), estimate, distances)
        least, leader = torch.where(evaluated > 0, estimate.nan_to_num(torch.inf), torch.inf).min(1, keepdim=True)
        improvement = (distances.gather(1, leader) / least).log().clamp(min=0)
        slack = constants.SELECTION_SLACK + improvement + constants.CURVATURE_SHARE * curvature[:, None]
        joins = (evaluated <= 0) & (distances <= torch.maximum(least, nearest) * slack)
        change = constants.CURVATURE_SHARE * candidates.estimate_change.view_as(distances)
        optimism = torch.where(evaluated >= constants.MIN_EVALUATIONS, change, keep - 1)
        stays = (evaluated > 0) & (estimate * torch.exp(-optimism) <= keep * least)
        live = (joins | stays) & wanted[:, None]
        undecided = (live.sum(1, keepdim=True) > 1) | (evaluated.gather(1, leader) < constants.MIN_EVALUATIONS)
        live &= undecided
    sample = wanted.nonzero().squeeze(1)
    chosen = candidates[sample * distances.shape[1] + leader[sample, 0]]
    return chosen, (distances[sample, leader[sample, 0]] / chosen.estimate).log()


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """How R descents go: number of steps, noise and stride at the start, and the limit on changes of the radius.

    Attributes
    ----------
    steps : Tensor
        (R,) int64, at least 1.
    noise : Tensor
        (R,) in units of the radius; it decreases to zero within NOISE_ENDS of the steps.
    stride : float
        In units of the radius; a cosine takes it to LAST_STRIDE.
    trust : float, optional
        The share by which a radius may differ from the current length; it decreases like the stride.

    """

    steps: Tensor
    noise: Tensor
    stride: float
    trust: float | None = None

    def __getitem__(self, index: Tensor) -> Schedule:
        return Schedule(self.steps[index], self.noise[index], self.stride, self.trust)


def annealed_descent(search: SearchState, rows: Trajectories, schedule: Schedule, first_draw: int) -> Tensor:
    """Return which trajectories (R,) have converged, after so many projected steps with stride and noise that fade.

    Converged: an adversarial was found, and the last quarter of the steps shortened it by less than 1 %. The noise of
    step k is the random vector ``first_draw + k``.
    """
    converged, on = torch.zeros_like(rows.crossed), torch.arange(len(rows), device=rows.sample.device)
    steps, noise, stride, trust = schedule.steps, schedule.noise, schedule.stride, schedule.trust
    ends, before, noisy = sorted(set(steps.tolist())), rows.best, bool((noise > 0).any())
    for k in range(ends[-1]):
        share = k / steps
        fade = (1 + torch.cos(math.pi * share)) / 2
        radius = search.evaluate(rows)
        if trust is not None:
            shortest = torch.minimum(rows.best, search.best[rows.sample])
            around = torch.minimum(rows.length, constants.BEYOND * shortest)
            change = constants.LAST_STRIDE + (trust - constants.LAST_STRIDE) * fade
            radius = search.clip_radius(rows.sample, radius.clamp(around * (1 - change), around * (1 + change)))
        before = torch.where(4 * (k + 1) <= 3 * steps, rows.best, before)  # what was best after three quarters
        shake = None
        if noisy and k < constants.NOISE_ENDS * ends[-1]:
            level = noise * (1 - share / constants.NOISE_ENDS).clamp(min=0)
            shake = search.noise(rows.sample, level * radius, first_draw + k)
        search.step(rows, radius, constants.LAST_STRIDE + (stride - constants.LAST_STRIDE) * fade, shake)
        if k + 1 in ends:
            search.update_best(rows)
            converged[on] = rows.best.isfinite() & (rows.best >= constants.CONVERGED * before)
            left = (steps > k + 1).nonzero().squeeze(1)
            rows, on, steps, noise, before = rows[left], on[left], steps[left], noise[left], before[left]
    return converged


def schedule_descent(
    search: SearchState, rows: Trajectories, contested: Tensor, *, steps: int, noise: float, runners_up: int
) -> Schedule:
    """3b: return how long to descend: the longer, the less the next gradient agrees with the direction so far.

    Takes one step along each trajectory to see it. With the share u of the gradient's dual length that the direction
    does not explain, steps are multiplied by (u / 0.06) ** 0.4. Where descents to runner-up classes follow
    (`contested`, (R,) bool), all descents of a sample share one and a half times that.
    """
    name = search.norm.name
    stride, direction = constants.STRIDE[name], search.norm.steepest(rows.momentum)
    kept = search.memory * rows.momentum
    search.step(rows, search.evaluate(rows), stride)
    disagreement = 1 - ((rows.momentum - kept) * direction).sum(1) / (1 - search.memory)
    disagreement = disagreement.nan_to_num(1).clamp(min=constants.TINY)
    steps_factor = (disagreement / constants.USUAL_DISAGREEMENT).pow(constants.STEPS_POWER)
    steps_factor = steps_factor.clamp(1 / constants.STEPS_RANGE, constants.STEPS_RANGE)
    shared = steps_factor.clamp(min=1) * constants.SHARED_STEPS / (1 + runners_up)
    total = (steps * torch.where(contested, shared, steps_factor)).round().long().clamp(min=1)
    return Schedule(total, noise * constants.NOISE[name] * (total / constants.FULL_NOISE_STEPS).clamp(max=1), stride)


def descend_to_runners_up(
    search: SearchState, sample: Tensor, converged: Tensor, schedule: Schedule, runners_up: int
) -> Tensor:
    """3c: return which samples (R,) have converged, after descents from their best points to the next classes.

    A descent that finds something shorter decides; else what had converged before still has.
    """
    for rank in range(1, 1 + runners_up if len(sample) else 1):
        best = search.best[sample]
        rows = search.start(sample, search.runner_up(sample, rank), search.best_delta[sample])
        rows.crossed = best.isfinite()
        ended = annealed_descent(search, rows, schedule, draw_index("descend", rank))
        shorter = search.best[sample] < (1 - constants.AGREEMENT) * best
        converged = torch.where(shorter, ended, converged)
    return converged


def bracket(search: SearchState, rows: Trajectories, steps: int) -> None:
    """4a: grow the radius of each trajectory to a first adversarial, then bisect between it and the longest failure.

    A Newton radius counts where it is more cautious than these. The trajectories are moved on.
    """
    stride = constants.BRACKET_STRIDE
    failed = torch.zeros_like(rows.length)  # the longest length below the best that was not adversarial
    newton = rows.length + rows.signed_distance
    search.step(rows, search.clip_radius(rows.sample, newton.clamp(max=constants.BRACKET_GROWTH * rows.length)), stride)
    for _ in range(steps):
        radius = search.evaluate(rows)
        beyond, found = rows.margin < 0, rows.best.isfinite()
        short = ~beyond & found
        failed = torch.where(short & (rows.length < rows.best), rows.length, failed)
        wrong = beyond & (constants.BRACKET_MEETS * failed > rows.length)
        failed = torch.where(wrong, constants.BRACKET_REOPENS * rows.length, failed)
        nearer = radius.clamp((failed + rows.length) / 2, rows.length)
        farther = torch.minimum(radius, constants.BRACKET_GROWTH * rows.length)
        middle = torch.where(found, (failed + rows.best) / 2, 1)
        search.step(rows, torch.where(beyond, nearer, farther), stride)
        rows.delta = torch.where(short[:, None], search.norm.project(rows.best_delta, middle), rows.delta)
        rows.momentum = torch.where(short[:, None], 0, rows.momentum)
    search.update_best(rows)


def restart(search: SearchState, probes: Trajectories, screen: Screen, *, restarts: int, steps: int) -> Tensor:
    """4b: return which samples have converged, after so many descents from different starting points.

    In turn: the bracketed adversarial, then a near class's direction, noise, and the best point. From the best point
    the descent heads for the class that comes second or third there, unless targets are given. Converged: the last
    descent from elsewhere ended as short as the best, and none from the best point shortened it since.

    Parameters
    ----------
    search : SearchState
        The samples.
    probes : Trajectories
        From step 4a, of the samples to search (R).
    screen : Screen
        From step 1, of all samples.
    restarts, steps : int
        How many descents, and passes of each.

    """
    sample, norm = probes.sample, search.norm
    order = screen.predicted[sample].argsort(dim=1, stable=True)
    noise = torch.full_like(probes.length, constants.RESTART_NOISE)
    stride, trust = constants.RESTART_STRIDE[norm.name], constants.RESTART_TRUST
    schedule = Schedule(torch.full_like(sample, steps), noise, stride, trust)
    converged = torch.zeros_like(probes.crossed)
    for number in range(restarts):
        turn, target, draw = number % 3, probes.target, draw_index("restart", number)
        best = search.best[sample]
        found = best.isfinite()
        scale = torch.where(found, best, search.limit[sample] * constants.UNFOUND_START)
        from_best = turn == 0 and number > 0
        if number == 0:
            delta = torch.where(found[:, None], search.best_delta[sample], probes.delta)
        elif turn == 1:
            classes = order[:, number // 3 % order.shape[1]]
            delta = norm.project(scale[:, None] * norm.steepest(screen.directions[sample, classes]), scale)
        elif turn == 2:
            delta = search.noise(sample, constants.NOISE_START * scale, draw)
        else:
            delta = torch.where(found[:, None], search.best_delta[sample], search.noise(sample, scale, draw))
            if search.targets is None:
                target = search.runner_up(sample, 2 - number // 3 % 2)
        rows = search.start(sample, target, delta)
        rows.crossed = found if from_best else torch.ones_like(found)
        first_draw = draw + 1 if turn == 2 or from_best else draw
        ended = annealed_descent(search, rows, schedule, first_draw)
        if from_best:  # it has met the best point, which proves nothing
            converged &= search.best[sample] >= (1 - constants.AGREEMENT) * best
        else:
            converged = ended & (rows.best <= (1 + constants.AGREEMENT) * search.best[sample])
    return converged


def refine_with_fmn(search: SearchState, sample: Tensor, steps: int) -> Tensor:
    """4c: return which samples (R,) have converged, after a run of FMN whose result counts where it is shorter.

    Converged: FMN reaches the same length; or the sample had converged before, and FMN found nothing shorter.
    """
    inputs = search.flat[sample].view(-1, *search.shape)
    ids, labels = search.sample_ids[sample], search.labels[sample]
    result = fmn(search.model, inputs, labels, ids, norm=search.norm.name, steps=steps, seed=search.seed)
    search.evaluations[sample] += result.evaluations
    delta, best = (result.candidates - inputs).flatten(1), search.best[sample]
    length = search.norm.length(delta)
    length = torch.where(length > 0, length, torch.inf)  # where it found nothing, it returns the input
    search.offer(sample, length, delta)
    change = (length / best).nan_to_num(torch.inf).log()
    return change.abs() < constants.AGREEMENT


def second_opinion(search: SearchState, sample: Tensor, steps: int, number: int) -> Tensor:
    """4d: return which samples (R,) have converged, after descents from the samples themselves to the classes found.

    A descent that heads for one class from the start goes another way than one that chose it on its way. Converged: it
    ends as short as the best.
    """
    target = search.runner_up(sample, 0)  # the class at the best point; where logits are none, any other
    best, part = search.best[sample], search.subset(sample)
    part.targets = torch.where(target == ANY, (part.labels == 0).long(), target)
    rows = screen_classes(part, 1).candidates
    noise, stride = torch.full_like(rows.length, constants.RESTART_NOISE), constants.STRIDE[search.norm.name]
    schedule = Schedule(torch.full_like(sample, steps), noise, stride)
    ended = annealed_descent(part, rows, schedule, draw_index("opinion", number))
    search.merge(sample, part)
    return ended & ((part.best / best).log().abs() < constants.AGREEMENT)
