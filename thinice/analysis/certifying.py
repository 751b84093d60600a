"""Lower bounds of samples that were measured: what they cost, how an engine proves them, which epsilons they doubt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from thinice.analysis.options import CertifyOptions, chosen
from thinice.attacks import Attack, make_attack
from thinice.certification import DUAL_NORMS, certification_cost, lower_bounds, read_graph
from thinice.checks import sampled_finding
from thinice.data import Samples
from thinice.engines import ProgressCounter, duration
from thinice.errors import InputError
from thinice.losses import input_gradient, margin
from thinice.models import Classifier
from thinice.norms import NORM_TABLE
from thinice.numerics import exact
from thinice.printable import shown
from thinice.types import DEFAULT_ATTACK, Norm, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thinice.analysis.session import MeasurementSession
    from thinice.results import Measured

__all__ = [
    "CertificationTask",
    "ExpectedCost",
    "certify",
    "expected_cost",
    "far_from_proved",
    "refuse_hours",
    "refuse_uncertifiable",
    "second_opinion",
]

ABOVE = 1.05
"""Balls of up to so many times epsilon are tried: a proof beyond it contradicts the adversarial, and does not go
unnoticed."""
FAR = 0.7
"""Where the proved radius is below this share of epsilon, relative to the network's median, epsilon is doubtful. Chosen
on a fully connected network for MNIST; docs/certification.md says how it does on other samples and networks."""
LEAST = 10
"""The median of fewer samples says too little."""

LOOKED_AT = 64
"""Samples among which those to time are chosen: classified correctly, all over the selection."""
TIMED, TIMING = 3, 300.0
"""So many are timed; fewer where they might take more than so many seconds."""
CHEAP = 60.0
"""So many seconds in all are not worth a measurement beforehand."""


def refuse_hours(options: Mapping[str, Any]) -> None:
    """Raise `InputError` for a limit of hours that is none, or that limits nothing."""
    given, default = chosen(CertifyOptions, options), chosen(CertifyOptions, {})
    if not given["certify_hours"] >= 0:
        raise InputError(f"`certify_hours` must be at least 0, got {given['certify_hours']}")
    if not given["certify"] and given["certify_hours"] != default["certify_hours"]:
        raise InputError("`certify_hours` limits what `certify` takes: give it as well (--certify)")


def refuse_uncertifiable(session: MeasurementSession, classifier: Classifier, norm: Norm, *, hours: float) -> None:
    """Say what the lower bounds that the store lacks will take, before anything is attacked.

    Raises
    ------
    InputError
        A network or a norm that has no lower bounds, or more than so many hours.

    """
    checkpoint_id = session.checkpoint(classifier)
    positions = session.running.uncertified(checkpoint_id, session.dataset_id, norm, session.sample_ids)
    if not len(positions):
        return
    cost = expected_cost(classifier.to(session.engine.device), session.samples[positions], norm)
    if session.report is not None:
        session.report(Announcement(_title(classifier, norm), cost.text))
    cost.refuse_beyond(hours)


def certify(session: MeasurementSession, classifier: Classifier, measured: Measured, attack: Attack) -> Measured:
    """Return what an attack measured with every sample's lower bound: proved now, or read where the store has it.

    Where epsilon lies far above the bound, as samples of this network go, a second attack searches again. What it finds
    is stored as a measurement of its own, and a nearer adversarial as a finding of the first one.

    Raises
    ------
    StoreError
        Where a bound is above an epsilon, which names the sample.

    """
    run, norm = session.running, measured.norm
    positions = run.uncertified(session.checkpoint(classifier), session.dataset_id, norm, session.sample_ids)
    if len(positions):
        _prove(session, classifier, measured, positions)
    lower = session.columns("proved_bounds", measurement_id=measured.measurement_id)["epsilon_lower"]
    doubtful = far_from_proved(lower, measured.epsilon, measured.outcomes)
    second_epsilon = np.full(len(lower), np.nan, np.float32)
    if len(doubtful):
        title = f"{classifier.name}, {norm}, far above their lower bounds, searched again"
        second_epsilon[doubtful] = session.epsilons_of(classifier, second_opinion(attack), doubtful, title=title)
    certified = replace(measured, epsilon_lower=lower, second_epsilon=second_epsilon)
    nearer, of = session.sample_ids[certified.nearer_again], int((measured.outcomes == Outcome.FOUND).sum())
    finding = sampled_finding("far_from_proved", nearer.tolist(), of)
    run.add_findings(measured.measurement_id, [finding.to_dict()])
    return certified


def _prove(
    session: MeasurementSession, classifier: Classifier, measured: Measured, positions: NDArray[np.int64]
) -> None:
    """Prove the lower bounds of some samples, and store them."""
    samples, norm, run = session.samples[positions], measured.norm, session.running
    checkpoint_id, total = session.checkpoint(classifier), len(session.samples)
    units = read_graph(classifier, tuple(samples.inputs.shape[1:])).units
    task = CertificationTask(classifier, samples, norm, torch.from_numpy(measured.epsilon[positions]), units)
    resumed = total - len(samples)
    counter = ProgressCounter(_title(classifier, norm), total, norm, session.report, resumed, done_word="proved")

    def count(radii: Tensor) -> None:
        counter.add(torch.where(radii > 0, int(Outcome.FOUND), -1), radii)

    def write(parts: list[tuple[slice, Tensor]]) -> None:
        ids = torch.cat([samples.sample_ids[part] for part, _ in parts]).numpy()
        radii = torch.cat([radii for _, radii in parts]).numpy()
        run.add_lower_bounds(checkpoint_id, session.dataset_id, norm, ids, epsilon_lower=radii)

    session.compute(task, count, write)


def _title(classifier: Classifier, norm: Norm) -> str:
    return f"{classifier.name}, {norm}, lower bounds"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a reporter shows once, before anything is done."""

    title: str
    text: str
    done: int = 0
    total: int = 0

    @property
    def line(self) -> str:
        """One line for people, with the title."""
        return f"{shown(self.title)}: {self.text}"


@dataclass(frozen=True, slots=True)
class CertificationTask:
    """The proof of a lower bound for each sample, as an engine runs it.

    Attributes
    ----------
    classifier, samples, norm
        The network, what is looked at, and how perturbations are measured.
    epsilon : Tensor
        (N,) norms of the adversarials that were found, NaN where none was.
    units : int
        Values of one sample that go through a ReLU, as of `Graph.units`.

    """

    classifier: Classifier
    samples: Samples
    norm: Norm
    epsilon: Tensor
    units: int

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def values(self) -> int:
        """Coefficients of one sample: a linear function of the input for each unit."""
        return self.samples.inputs.shape[1:].numel() * max(1, self.units)

    def on(self, device: torch.device) -> Callable[[slice], Tensor]:
        """Return the proof on a device, for a slice of the samples: radii (N,) in float64."""
        network = self.classifier.to(device)
        graph = read_graph(network, tuple(self.samples.inputs.shape[1:]))

        def radii(part: slice) -> Tensor:
            inputs = self.samples.inputs[part].to(device, torch.float32).contiguous()
            labels, limit = self.samples.labels[part].to(device), ABOVE * self.epsilon[part].double().to(device)
            return lower_bounds(network, inputs, labels, limit, self.norm, graph=graph).cpu()

        return radii


@dataclass(frozen=True, slots=True)
class ExpectedCost:
    """What the lower bounds of some samples of a network take.

    Attributes
    ----------
    network, samples
        Its name, and how many samples there are.
    units : int
        As of `CertificationTask`.
    seconds : float
        For one sample.
    timed : int
        So many samples were timed; 0 where the seconds are an upper bound, which may be ten times too large.

    """

    network: str
    samples: int
    units: int
    seconds: float
    timed: int

    @property
    def text(self) -> str:
        """What people read: ``60 samples take about 3 min 10 s, as 3 of them tell``."""
        total = duration(math.ceil(self.seconds * self.samples))
        how = f"about {total}, as {self.timed} of them tell" if self.timed else f"{total} at most"
        return f"{self.samples} samples take {how}"

    def refuse_beyond(self, hours: float) -> None:
        """Raise `InputError` where it takes longer than so many hours."""
        total = self.seconds * self.samples / 3600
        if total <= hours:
            return
        enough = math.ceil(total) if total >= 1 else math.ceil(100 * total) / 100
        limit = int(hours * 3600 / self.seconds)
        fewer = f", or take fewer samples (--limit {limit})" if limit else ""
        raise InputError(
            f"`certify`: lower bounds for {self.network}: {self.text}, more than `certify_hours` {hours:g}: allow "
            f"{enough:g} (--certify-hours {enough:g}){fewer}"
        )


def expected_cost(classifier: Classifier, samples: Samples, norm: Norm) -> ExpectedCost:
    """Return what the lower bounds of samples take, from a few of them, before any is attacked.

    In place of epsilon the distance to a linear boundary stands: the margin over the gradient's dual norm. Where all
    together might take more than a minute, some samples are timed.

    Raises
    ------
    InputError
        A norm or a network that has no linear bounds: the operation is named.

    """
    if norm not in DUAL_NORMS:
        raise InputError(f"`certify` goes with the norms {', '.join(DUAL_NORMS)}: no bounds are known in {norm}")
    graph = read_graph(classifier, tuple(samples.inputs.shape[1:]))
    indices = np.linspace(0, len(samples) - 1, min(LOOKED_AT, len(samples))).round().astype(np.int64)
    some = samples[indices]
    inputs, labels = some.inputs[:].to(classifier.device, torch.float32), some.labels.to(classifier.device)
    with exact(classifier.device):
        points = inputs.clone().requires_grad_()
        margins = margin(classifier(points), labels)
        gradient = input_gradient(margins, points)
        distances = (margins.detach() / NORM_TABLE[norm].dual_length(gradient)).nan_to_num(torch.nan, torch.nan)
        right = torch.nonzero(margins > 0).squeeze(1)
        if not len(right):  # nothing to prove
            return ExpectedCost(classifier.name, len(samples), graph.units, 0.0, 0)
        chosen = right[torch.linspace(0, len(right) - 1, min(TIMED, len(right))).round().long()]
        seconds = certification_cost(classifier, inputs[chosen], distances[chosen], norm).seconds
        timed = min(len(chosen), int(TIMING / max(seconds, 1e-9)))
        if seconds * len(samples) <= CHEAP or not timed:
            return ExpectedCost(classifier.name, len(samples), graph.units, seconds, 0)
        chosen, start = chosen[:timed], time.perf_counter()
        lower_bounds(classifier, inputs[chosen], labels[chosen], distances[chosen], norm, graph=graph)
        seconds = (time.perf_counter() - start) / timed
    return ExpectedCost(classifier.name, len(samples), graph.units, seconds, timed)


def far_from_proved(
    epsilon_lower: NDArray[np.float64],
    epsilon: NDArray[np.float32],
    outcomes: NDArray[np.int8],
    *,
    far: float = FAR,
) -> NDArray[np.int64]:
    """Return the positions of samples whose epsilon lies far above what is proved, as samples of this network go.

    That is either a search that failed, or a bound that is loose; which, a second search tells. None where fewer than
    ten samples have an epsilon, or where nothing is proved for most.

    Examples
    --------
    >>> lower, epsilon = np.full(12, 0.06), np.full(12, 0.1, np.float32)
    >>> epsilon[7] = 0.3
    >>> far_from_proved(lower, epsilon, np.ones(12, np.int8))
    array([7])
    """
    found = outcomes == Outcome.FOUND
    if found.sum() < LEAST:
        return np.zeros(0, np.int64)
    ratio = np.full(len(epsilon), np.inf)
    ratio[found] = epsilon_lower[found] / epsilon[found]
    return np.flatnonzero(ratio < far * np.median(ratio[found]))


def second_opinion(attack: Attack) -> Attack:
    """Return what searches again where the epsilon of an attack is doubtful: the default attack at its most thorough.

    >>> second_opinion(make_attack("fmn", norm="l2", seed=3)).settings["seed"]
    4
    """
    return make_attack(DEFAULT_ATTACK, norm=attack.norm, effort="thorough", seed=attack.seed + 1)
