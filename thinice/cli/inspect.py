"""`thinice inspect`: what is in a checkpoint file, and what becomes of each part of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from thinice.cli.loading import readings
from thinice.cli.options import CheckpointOptions, Format, FormatOptions, options
from thinice.cli.output import WIDTH, put, put_rows, render

if TYPE_CHECKING:
    from thinice.models.inspection import Inspection

__all__ = ["inspect"]

REFUSED = 1
SHORT = 12
"""Letters of a fingerprint in tables."""


@options
def inspect(
    checkpoint: Annotated[list[Path], typer.Argument(help="Checkpoints to look into.", show_default=False)],
    *,
    reading: CheckpointOptions,
    printing: FormatOptions,
) -> None:
    """Show what is in a checkpoint: network, sparsity a layer, masks, and what was not read and why.

    Nothing is measured, and nothing in the file can run. Exit code 1 where a file is refused: what it holds is shown
    all the same, with the reason and the way out.
    """
    from thinice import inspect_checkpoint

    each = readings(reading, len(checkpoint))
    with redirect_stdout(sys.stderr):  # what the user's own code prints is no number
        inspections = [inspect_checkpoint(path, **arguments) for path, arguments in zip(checkpoint, each, strict=True)]
    if printing.format is Format.JSON:
        put_rows([inspection.to_dict() for inspection in inspections], printing.format)
    elif printing.format is Format.CSV:
        put_rows([row for inspection in inspections for row in _lines(inspection)], printing.format)
    else:
        put("\n\n".join(_page(inspection, printing.format) for inspection in inspections), printing.format)
    if any(inspection.refused for inspection in inspections):
        raise typer.Exit(REFUSED)


def _page(inspection: Inspection, how: Format) -> str:
    """Return the tables of one file: what it is, its layers, its entries, and what was said of it."""
    layers: list[dict[str, object]] = [
        {
            "layer": layer.name,
            "shape": "x".join(map(str, layer.shape)),
            "weights": layer.weights,
            "kept": layer.kept,
            "zeros": zeros,
            "sparsity": f"{layer.sparsity:.1%}",
        }
        for layer, zeros in zip(inspection.layers, inspection.zeros, strict=True)
    ]
    entries: list[dict[str, object]] = [
        {"entry": entry.name or "(the file itself)", "holds": entry.holds, "role": entry.role}
        for entry in inspection.entries
    ]
    found_facts = dict(_facts(inspection))
    room = WIDTH - max(map(len, found_facts)) - 2
    facts: list[dict[str, object]] = [
        {"what": "" if number else what, "found": line}
        for what, found in found_facts.items()
        for number, line in enumerate(_wrapped(found, room))
    ]
    notes: list[dict[str, object]] = [
        {"read and not read": f"  {line}" if number else line}
        for note in inspection.notes
        for number, line in enumerate(_wrapped(note, WIDTH - 2))
    ]
    return "\n\n".join(render(rows, how) for rows in (facts, layers, entries, notes) if rows)


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines, so that none of it is cut away: what may be given stands anywhere in it."""
    return wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _lines(inspection: Inspection) -> Iterator[dict[str, object]]:
    """Yield everything as rows of one table."""
    for what, found in _facts(inspection):
        yield {"file": str(inspection.path), "what": what, "found": found}
    for layer in inspection.layers:
        found = f"{layer.kept} of {layer.weights} kept"
        yield {"file": str(inspection.path), "what": f"layer {layer.name}", "found": found}
    for entry in inspection.entries:
        yield {"file": str(inspection.path), "what": f"entry {entry.name}", "found": f"{entry.holds}: {entry.role}"}
    for note in inspection.notes:
        yield {"file": str(inspection.path), "what": "note", "found": note}


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _settings(value: object) -> str:
    """Return a part of a recipe on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_settings(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_settings, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    from thinice.models.normalization import normalization_text

    yield "file", f"{inspection.path}: {inspection.container}, {_bytes(inspection.size)}"
    if inspection.refused is not None:
        yield "refused", inspection.refused
    network = inspection.classifier
    if network is not None:
        yield "architecture", network.architecture
        yield "classes", str(network.classes or "not known")
        if network.input_shape is not None:
            yield "input", "x".join(map(str, network.input_shape))
        if network.data is not None:
            yield "data", network.data
        known = "" if network.normalization_known else " (not known: pixels as they are)"
        yield "normalisation", normalization_text(network.normalization) + known
        kept, prunable = (sum(getattr(layer, field) for layer in inspection.layers) for field in ("kept", "weights"))
        yield "parameters", f"{inspection.parameters}, of them {prunable} prunable"
        yield "sparsity", f"{network.sparsity:.1%}: {kept} of {prunable} prunable weights are kept"
        yield "zeros, as counted", "; ".join(f"{name} {value:.2%}" for name, value in inspection.sparsities.items())
        yield "zeros from", "; ".join(inspection.conversions) or "the weights themselves"
    if inspection.recorded:
        yield "recorded", _settings(dict(list(inspection.recorded.items())[:SHORT]))
    if network is not None:
        if network.recipe is not None:
            for part, settings in network.recipe.items():
                yield f"recipe: {part}", _settings(settings)
        if network.parent is not None:
            yield "parent", network.parent
        yield "fingerprint", network.fingerprint
