"""`thinice measure`: epsilons alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thinice.cli.loading import load
from thinice.cli.options import (
    STORE,
    Architecture,
    AttackName,
    BatchSize,
    Compiled,
    Data,
    Density,
    Device,
    EffortOption,
    Format,
    FormatOption,
    ImageSize,
    Limit,
    Normalization,
    NormOption,
    PrecisionOption,
    Quiet,
    Seed,
    Split,
    Steps,
    StorePath,
    TrustPickle,
    batch_size_value,
)
from thinice.cli.output import Messages, put, render
from thinice.cli.stopping import exit_on_interrupt
from thinice.types import DEFAULT_ATTACK

__all__ = ["measure"]


def measure(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to measure.", show_default=False)],
    data: Data = None,
    split: Split = "test",
    limit: Limit = None,
    image_size: ImageSize = None,
    norm: NormOption = "linf",
    attack: AttackName = DEFAULT_ATTACK,
    effort: EffortOption = "standard",
    steps: Steps = None,
    architecture: Architecture = None,
    normalization: Normalization = None,
    density: Density = None,
    trust_pickle: TrustPickle = False,
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    precision: PrecisionOption = "float32",
    compiled: Compiled = False,
    seed: Seed = 0,
    store: StorePath = STORE,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Measure how close each sample lies to a network's boundary, and store it: one line a network.

    Every sample's epsilon is in the store afterwards: thinice sql 'from epsilons'.
    """
    from thinice import make_attack, open_store
    from thinice.analysis.session import MeasurementSession, search_notes, summarise

    say = Messages(quiet=quiet)
    classifiers, samples = load(
        checkpoint,
        data=data,
        split=split,
        limit=limit,
        image_size=image_size,
        architecture=architecture,
        normalization=normalization,
        density=density,
        trust_pickle=trust_pickle,
        say=say,
    )
    chosen: dict[str, Any] = {} if steps is None else {"steps": steps}
    bound = make_attack(attack, norm=norm, effort=effort, seed=seed, precision=precision, **chosen)
    with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."):
        campaign = MeasurementSession(
            open_store(store, new=True),
            samples,
            device=device,
            batch_size=batch_size_value(batch_size),
            compiled=compiled,
            progress=not quiet,
        )
        rows = []
        with campaign.run(bound, seed=seed):
            for one in classifiers:
                measured = campaign.epsilons(one, bound)
                rows.append(summarise(one, samples, bound, measured))
                say.notes(one.name, search_notes(measured.outcomes, measured.stages, measured.diagnoses))
    put(render(rows, format), format)
