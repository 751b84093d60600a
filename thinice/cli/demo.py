"""`thinice demo`: the main job on the embedded example."""

from __future__ import annotations

from thinice.cli.compare import FIGURES, Figures, prepare, report
from thinice.cli.options import STORE, Device, Format, FormatOption, Limit, NormOption, Quiet, StorePath
from thinice.cli.output import Messages
from thinice.cli.stopping import exit_on_interrupt

__all__ = ["demo"]


def demo(
    norm: NormOption = "linf",
    limit: Limit = None,
    device: Device = "auto",
    store: StorePath = STORE,
    figures: Figures = FIGURES,
    format: FormatOption = Format.TABLE,  # noqa: A002 (the option's name)
    quiet: Quiet = False,
) -> None:
    """Compare the embedded networks: the digits, dense against 90 % and 95 % pruned. Needs no network and no GPU."""
    from thinice import compare_all, example_checkpoints, load_samples

    say = Messages(quiet=quiet)
    prepare(figures)
    paths = example_checkpoints()
    say("thinice compare dense.pt pruned-90.pt pruned-95.pt, on the embedded digits")
    samples = load_samples("digits", limit=limit)
    say.notes(samples.name, samples.notes)
    with exit_on_interrupt(f"What was measured is in {store}; the same command goes on there."):
        comparisons = compare_all(
            paths["dense"],
            [paths["pruned-90"], paths["pruned-95"]],
            samples,
            norm=norm,
            device=device,
            store=store,
            progress=not quiet,
        )
        report(comparisons, store, figures, format, say, device=device)
