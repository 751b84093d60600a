"""`run_study`: the networks of a study made and measured, wave after wave; what is there is not made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from thinice.analysis.measurement import make_engine
from thinice.analysis.session import MeasurementSession
from thinice.data import load_samples
from thinice.engines import LocalEngine, auto_reporter
from thinice.engines.progress import duration
from thinice.errors import InputError, ThinIceError
from thinice.files import expanded, make_folder, refuse_folder
from thinice.store import Store, open_store
from thinice.studies.measuring import CellMeasurements
from thinice.studies.networks import Made, NetworkFiles, NetworkPlan, NetworkTask, reason_of, waves
from thinice.training.passes import in_memory

if TYPE_CHECKING:
    from os import PathLike

    from thinice.data import Samples
    from thinice.engines import Engine, Reporter
    from thinice.engines.progress import Shown
    from thinice.studies.definition import Setup, Study
    from thinice.training import Epoch

__all__ = ["NETWORKS", "Failure", "StudyProgress", "StudyRun", "load_setup", "run_study"]

NETWORKS = "thinice-networks"
"""The folder of the networks of studies, unless another is given."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A network of a study that could not be made or measured, and why, in one line.

    Attributes
    ----------
    setup, network : str
        Which.
    reason : str
        Why.
    failed_before : str or None
        The network that failed first, where this one is pruned out of it.

    """

    setup: str
    network: str
    reason: str
    failed_before: str | None = None

    def __str__(self) -> str:
        return f"{self.setup}, {self.network}: {self.reason}"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """What a call of `run_study` did.

    Attributes
    ----------
    networks : int
        Networks that the study measures.
    measured : int
        Those that were measured now, wholly or in part; the others were measured before, or failed.
    failures : tuple of Failure
        What has no result.

    """

    networks: int
    measured: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """A moment of a study, as `thinice.engines.progress` shows it.

    Attributes
    ----------
    title : str
        Name of the study.
    done, total : int
        Networks finished and wanted.
    seconds_left : float or None
        At the mean time of those that were finished now; None before the first.
    doing : str
        What is going on.

    """

    title: str
    done: int
    total: int
    seconds_left: float | None
    doing: str

    @property
    def text(self) -> str:
        """One line for people, without the title."""
        left = "" if self.seconds_left is None or self.done == self.total else f", {duration(self.seconds_left)} left"
        return f"{self.done}/{self.total} networks{left}" + (f": {self.doing}" if self.doing else "")

    @property
    def line(self) -> str:
        """One line for people, with the title."""
        return f"{self.title}: {self.text}"


def run_study(
    study: Study,
    *,
    store: str | PathLike[str] | Store = "thinice.duckdb",
    networks: str | PathLike[str] = NETWORKS,
    device: str = "auto",
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    slurm: Mapping[str, object] | None = None,
    jobs: str | PathLike[str] | None = None,
    progress: Reporter | bool = True,
    say: Callable[[str], object] | None = None,
    command: Sequence[str] | None = None,
) -> StudyRun:
    """Return what could not be made or measured of a study, after everything else was: `study_results` reads it.

    Networks are files in a folder, results are in the store. What is there already, of this study or of another that
    asked for the same, is not made again; so after Ctrl-C or a crash the same call goes on, in the middle of a
    training too, with the same results as an undisturbed one. What fails is told and stored, and the rest goes on.

    Parameters
    ----------
    study : Study
        As `thinice.studies.read_study` returns it.
    store : path or Store
        The DuckDB file; made where there is none.
    networks : path
        The folder of the networks.
    device, engine : str
        As of `thinice.measure`; networks are made by the engine, too.
    workers : int, optional
        So many processes make networks side by side, each with as many threads as this one so that the weights are the
        same, and then measure, as of `thinice.measure`.
    address, slurm, jobs : optional
        As of `thinice.measure`; the folder of the networks is one that all nodes see.
    progress : bool or callable
        True shows a line where that makes sense; a callable gets each `StudyProgress`.
    say : callable, optional
        Called with a line for each note on a network, and each failure that does not follow from another.
    command : sequence of str, optional
        What the store notes as the origin; by default this process's command line.

    Raises
    ------
    InputError, StoreError
        For a folder or a store that cannot be written: nothing was done.

    """
    folder = expanded(networks, "networks")
    make_folder(folder, f"`networks` {folder}")
    refuse_folder(folder, f"`networks` {folder}")
    opened = store if isinstance(store, Store) else open_store(store, new=True)
    say = say or (lambda _: None)
    counter = _Counter(study, auto_reporter() if progress is True else progress or None)
    running: dict[str, object] = {"engine": engine, "device": device, "workers": workers, "address": address}
    running |= {"slurm": slurm, "jobs": jobs}
    measuring = make_engine(running)
    maker = make_engine(running | {"batch_size": 1})
    threads = torch.get_num_threads()
    if not isinstance(maker, LocalEngine) and maker.device.type == "cpu" and threads > 1:
        say(
            f"each worker trains with {threads} threads, as this process would, for weights depend on it in their last "
            "bits: with OMP_NUM_THREADS=1 more workers are faster than more threads"
        )
    failures: list[Failure] = []

    def fail(setup: Setup, network: str, reason: str, failed_before: str | None = None) -> None:
        failures.append(Failure(setup.name, network, reason, failed_before))
        if failed_before is None:  # else it was said of that one
            say(f"failed: {failures[-1]}")

    for setup in study.setups:
        counter.show(f"loading {setup.data}")
        loading = time.monotonic()
        try:
            training, samples = load_setup(setup)
            files = NetworkFiles(
                setup, training, folder, opened, progress=partial(counter.epoch, setup), command=command
            )
            session = MeasurementSession(opened, samples, progress=counter.attack, engine=measuring)
            measurements = CellMeasurements(study, setup, files, session, command)
        except ThinIceError as error:  # no such data, or a budget beyond what their images allow
            fail(setup, "all networks", str(error))
            counter.done += counter.total // len(study.setups)
            continue
        counter.skip(time.monotonic() - loading)
        for note in (*training.notes, *samples.notes):
            say(f"{setup.name}: {note}")
        part = _SetupRun(list(waves(study)), files, measurements, counter=counter, fail=partial(fail, setup), say=say)
        part.run(maker)
    return StudyRun(counter.total, counter.measured, tuple(failures))


def load_setup(setup: Setup, *, download: bool = True) -> tuple[Samples, Samples]:
    """Return the samples that a setup's networks are trained on, in memory, and those that they are attacked on."""
    size = setup.image_size
    training = load_samples(setup.data, split="train", limit=setup.training_samples, image_size=size, download=download)
    samples = load_samples(setup.data, split="test", limit=setup.samples, image_size=size, download=download)
    return in_memory(training), samples


class _SetupRun:
    """The networks of one setup on their way: made by an engine, wave after wave, and measured as they come."""

    def __init__(
        self,
        plans: Sequence[Sequence[NetworkPlan]],
        files: NetworkFiles,
        measurements: CellMeasurements,
        *,
        counter: _Counter,
        fail: Callable[[str, str, str | None], object],
        say: Callable[[str], object],
    ) -> None:
        self.waves, self.files, self.measurements = plans, files, measurements
        self.counter, self.fail, self.say = counter, fail, say
        self.failed: dict[NetworkPlan, NetworkPlan] = {}
        """Networks that could not be made, and which of those that each is made of failed first."""

    def run(self, maker: Engine) -> None:
        """Make and measure what is not finished."""
        plans = [plan for wave in self.waves for plan in wave]
        self.measurements.look_up(plans)
        needed = _needed(plans, self.files, self.measurements)
        for wave in self.waves:
            wanted = [plan for plan in wave if plan in needed and plan.before not in self.failed]
            for plan in wave:
                if plan not in needed:
                    self.counter.finish(plan)
                elif plan.before is not None and plan.before in self.failed:
                    reason = f"it is pruned out of {plan.before.label}, which failed"
                    self._end(plan, reason, failed_before=self.failed[plan.before])
            if wanted:
                self._make(wanted, maker)

    def _make(self, wanted: Sequence[NetworkPlan], maker: Engine) -> None:
        self._show(wanted[0])
        for made in self._made(wanted, maker) if isinstance(maker, LocalEngine) else self._made_away(wanted, maker):
            for note in made.notes:
                self.say(f"{self.files.setup.name}, {made.plan.label}: {note}")
            if made.error is not None:
                self._end(made.plan, made.error)
            else:
                self._measure(made.plan)

    def _made(self, wanted: Sequence[NetworkPlan], maker: Engine) -> Iterator[Made]:
        """Yield what comes of networks that this process makes, one after the other."""
        for _, results in maker.run(NetworkTask(wanted, self.files)):
            yield from results

    def _made_away(self, wanted: Sequence[NetworkPlan], maker: Engine) -> Iterator[Made]:
        """Yield what came of networks that workers made side by side: all of them are made before one is measured.

        Workers write files alone: what they saw of a training, this process stores. Those networks that were not done
        when workers died are tried again one by one, so that it is one that fails, and not all.
        """
        files = replace(self.files, store=None, progress=None, keep_snapshots=True)
        done: dict[NetworkPlan, Made] = {}
        for plans in (wanted, *([plan] for plan in wanted)):
            left = [plan for plan in plans if plan not in done]
            try:
                for _, results in maker.run(NetworkTask(left, files, torch.get_num_threads())) if left else ():
                    done |= {made.plan: made for made in results}
                    self.counter.show(f"{files.setup.name}, {len(done)} of {len(wanted)} networks made, side by side")
            except InputError as error:
                if len(plans) == 1:
                    done[plans[0]] = Made(plans[0], files.path(plans[0]), error=reason_of(error))
        here = LocalEngine(maker.device, batch_size=1)
        for plan in wanted:
            made = done[plan]
            if made.error is None and not self.files.is_made(plan):  # but for what the store is to know
                (stored,) = self._made([plan], here)
                made = replace(stored, notes=tuple(dict.fromkeys((*made.notes, *stored.notes))))
            yield made

    def _measure(self, plan: NetworkPlan) -> None:
        reason = None
        if self.measurements.unfinished(plan):
            self._show(plan)
            try:
                self.measurements.measure(plan)
            except Exception as error:  # noqa: BLE001 (told and stored, and the other networks go on)
                reason = reason_of(error)
        self._end(plan, reason, made=True)

    def _end(
        self, plan: NetworkPlan, reason: str | None, *, made: bool = False, failed_before: NetworkPlan | None = None
    ) -> None:
        if reason is not None:
            if not made:
                self.failed[plan] = failed_before or plan
            self.measurements.fail(plan, reason)
            self.fail(plan.label, reason, None if failed_before is None else failed_before.label)
        self.counter.finish(plan, now=made and reason is None)

    def _show(self, plan: NetworkPlan) -> None:
        self.counter.show(f"{self.files.setup.name}, {plan.label}")


def _needed(plans: Sequence[NetworkPlan], files: NetworkFiles, measurements: CellMeasurements) -> set[NetworkPlan]:
    """Return the networks that have to be made or measured: those with unfinished cells, and what these are made of."""
    needed: set[NetworkPlan] = set()

    def need(plan: NetworkPlan) -> None:
        needed.add(plan)
        made_of = [plan.dense, *([] if plan.before is None or files.is_made(plan) else [plan.before])]
        for other in made_of:
            if other not in needed and not files.is_made(other):
                need(other)

    for plan in plans:
        if measurements.unfinished(plan):
            need(plan)
    return needed


class _Counter:
    """Counts the networks of a study, and reports how far it is."""

    def __init__(self, study: Study, report: Reporter | None) -> None:
        self._study, self._report = study, report
        each = len(study.seeds) * (1 + len(study.methods) * (len(study.rates) - 1))
        self.total = len(study.setups) * each
        self.done = self.measured = 0
        self._start = time.monotonic()

    def finish(self, plan: NetworkPlan, *, now: bool = False) -> None:
        """Count a network, if it is one that the study measures."""
        if plan.rate in self._study.rates:
            self.done += 1
            self.measured += now
        self.show()

    def skip(self, seconds: float) -> None:
        """Leave a time out of the mean that the rest is estimated from."""
        self._start += seconds

    def epoch(self, setup: Setup, plan: NetworkPlan, epoch: Epoch) -> None:
        """Report how far the training of a network is."""
        self.show(f"{setup.name}, {plan.label}, epoch {epoch.number}")

    def attack(self, progress: Shown) -> None:
        """Report how far an attack on a network is."""
        self.show(progress.line)

    def show(self, doing: str = "") -> None:
        """Report how far the study is."""
        if self._report is None:
            return
        left = None
        if self.measured:
            left = (time.monotonic() - self._start) / self.measured * (self.total - self.done)
        self._report(StudyProgress(self._study.name, self.done, self.total, left, doing))
