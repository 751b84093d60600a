"""`thinice demo`: the main job on the embedded example."""

from __future__ import annotations

from thinice.analysis.options import NOISE
from thinice.cli.compare import prepare, report
from thinice.cli.options import (
    STORE,
    Device,
    FigureOptions,
    Limit,
    NormOption,
    OutputOptions,
    StorePath,
    options,
)
from thinice.cli.output import Messages
from thinice.cli.stopping import exit_on_interrupt

__all__ = ["demo"]


@options
def demo(
    *,
    norm: NormOption = "linf",
    limit: Limit = None,
    device: Device = "auto",
    store: StorePath = STORE,
    drawing: FigureOptions,
    printing: OutputOptions,
) -> None:
    """Compare the embedded networks: the digits, dense against 90 % and 95 % pruned.

    With noise on the weights as control. Needs no network and no GPU.
    """
    from thinice import compare_all, example_checkpoints, load_samples

    say = Messages(quiet=printing.quiet)
    prepare(drawing.folder)
    paths = example_checkpoints()
    say("thinice compare dense.pt pruned-90.pt pruned-95.pt --control noise, on the embedded digits")
    samples = load_samples("digits", limit=limit)
    say.notes(samples.name, samples.notes)
    with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."):
        comparisons = compare_all(
            paths["dense"],
            [paths["pruned-90"], paths["pruned-95"]],
            samples,
            norm=norm,
            control=NOISE,
            device=device,
            store=store,
            progress=not printing.quiet,
        )
        report(comparisons, store, drawing.folder, printing.format, say, device=device)
