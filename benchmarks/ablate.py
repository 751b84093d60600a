"""What each tuned number of TMN is worth: half of it, twice it, and without it, beside the attack as it is.

    python benchmarks/ablate.py --reference FOLDER [--cells mnist_cnn:linf,…] [--numbers STRIDE,NOISE.l2,…]
                                [--part report] [--samples 24] [--json FILE] [--print]

Numbers are those of `thinice/attacks/tmn/settings.py`: every tuned constant, one norm of it at a time, and every
setting of an effort. A number is varied only on the cells (network and norm) that read it. Results go to the JSON file
after each cell; a run that was cut off goes on where it stopped. `--part choose` has the samples that settings may be
chosen on, `--part report` others.

Columns: by how many points the mean excess over the best known changes (paired standard error behind it, both averaged
over the cells), the cell that changes most, samples not found, samples said to have converged though they lie over 2 %
too far (both summed), and passes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from engine import BEST_KNOWN, bracketed
from networks import load
from torch import Tensor

from thinice.attacks.result import verify
from thinice.attacks.tmn import TmnSettings, settings, tmn
from thinice.types import NORMS

CELLS = [
    "brackets:linf",
    "mnistfc_256x2:l2",
    "mse256x4:linf",
    "mse256x4:l2",
    "mnist_cnn:linf",
    "mnist_cnn:l2",
    "at_cnn:linf",
    "at_cnn:l2",
    "resnet_2b:linf",
    "resnet_2b:l2",
    "oval_cifar_base_kw:linf",
    "resnet20:linf",
    "resnet20:l2",
    "mnist_cnn:l1",
    "at_cnn:l1",
    "resnet_2b:l1",
    "mnistfc_256x2:l1",
    "mnist_cnn:l0",
    "at_cnn:l0",
    "mnistfc_256x2:l0",
    "resnet20:l0",
]
REPORT_FROM = {"brackets": 50, "mnistfc_256x2": 15, "oval_cifar_base_kw": 5, "resnet_2b": 24}  # of the others: 60
FACTORS = {"half": 0.5, "twice": 2.0}
WITHOUT: Mapping[str, float] = {"NOISE_ENDS": 1e-9, "STEEPER": 1.0, "GRADIENT_ERROR": torch.inf}
"""The value with which a number does nothing, where half and twice do not say it."""
TECHNICAL = ("TINY", "VANISHED", "NORMAL_SIGNS", "BANK", "CACHED_PIXELS", "PIXELS_AT_ONCE", "IMAGES_AT_ONCE")
"""Numbers that nothing was tuned on: what float32 resolves, and how fast a search is."""
IN_SETTINGS = {"DESCENT", "FROM_SAMPLE"}
"""Numbers that lengths are made of in `TmnSettings`, where no read is noted."""


@dataclass(frozen=True)
class Number:
    """One tuned number: a constant, one norm's value of it, or a setting."""

    name: str
    norm: str | None = None

    @property
    def label(self) -> str:
        """The name, and the norm after a dot."""
        return self.name if self.norm is None else f"{self.name}.{self.norm}"

    @property
    def value(self) -> float:
        """What it is in the attack."""
        value = getattr(settings, self.name) if self.name.isupper() else getattr(TmnSettings(), self.name)
        return float(value if self.norm is None else value[self.norm])

    def replaced(self, value: float) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the constants and the settings that give this number another value."""
        if not self.name.isupper():
            return {}, {self.name: value}
        constant = getattr(settings, self.name)
        return {self.name: value if self.norm is None else {**constant, self.norm: value}}, {}


def tuned_numbers() -> list[Number]:
    """Return every tuned number, in the order of the file."""
    numbers = [Number(field.name) for field in fields(TmnSettings)]
    for name, value in vars(settings).items():
        if not name.isupper() or name in TECHNICAL:
            continue
        if isinstance(value, Mapping):
            numbers += [Number(name, norm) for norm, part in value.items() if isinstance(part, int | float)]
        elif isinstance(value, int | float):
            numbers.append(Number(name))
    return numbers


class Reads(ModuleType):
    """The module of constants, noting which are read."""

    names: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401
        if name.isupper():
            Reads.names.add(name)
        return super().__getattribute__(name)


@dataclass(frozen=True)
class Cell:
    """A network in a norm, some of its samples, and the least epsilon known of each."""

    name: str
    norm: str
    model: Any
    inputs: Tensor
    labels: Tensor
    ids: Tensor
    known: np.ndarray

    @classmethod
    def of(cls, name: str, options: argparse.Namespace) -> Cell:
        """Return the cell NETWORK:NORM, with the samples that the options ask for."""
        network, norm = name.split(":")
        first = REPORT_FROM.get(network, 60) if options.part == "report" else 0
        part = slice(first, first + min(options.samples, REPORT_FROM.get(network, 60)))
        if network == "brackets":
            identity, model, inputs, labels, counterexample = bracketed(options.reference)
        else:
            identity, model, inputs, labels = load(network, options.reference, options.cache)
            counterexample = np.full(len(labels), np.inf)
        best, key = np.load(BEST_KNOWN), f"{identity}/{norm}"
        known = np.minimum(best[key][: len(labels)], counterexample) if key in best else counterexample
        ids = torch.arange(len(labels))
        return cls(name, norm, model, inputs[part], labels[part], ids[part], known[part])

    def run(self, constants: Mapping[str, Any], options: Mapping[str, float]) -> dict[str, Any]:
        """Return the epsilons, the passes and what has converged, with these numbers replaced."""
        before = {name: getattr(settings, name) for name in constants}
        try:
            for name, value in constants.items():
                setattr(settings, name, value)
            result = tmn(self.model, self.inputs, self.labels, self.ids, norm=self.norm, **options)
        finally:
            for name, value in before.items():
                setattr(settings, name, value)
        nearest = verify(
            self.model, self.inputs, result.candidates, self.labels, norm=self.norm, evaluations=result.evaluations
        )
        return {
            "epsilon": [round(value, 7) for value in nearest.epsilon.nan_to_num(math.inf).tolist()],
            "converged": result.converged.int().tolist(),
            "passes": round(result.evaluations.mean().item(), 2),
        }


def variants(numbers: list[Number]) -> Iterator[tuple[Number, str, float]]:
    """Yield each number, what is done to it, and its new value."""
    for number in numbers:
        for label, factor in FACTORS.items():
            value = factor * number.value
            whole = isinstance(getattr(settings, number.name, 0) if number.name.isupper() else 0, int)
            value = math.floor(value) if whole and not number.norm else value
            if value != number.value:
                yield number, label, value
        if number.name in WITHOUT:
            yield number, "without", WITHOUT[number.name]


def figures(rows: Mapping[str, Mapping[str, Any]], known: Mapping[str, list[float]], variant: str) -> dict[str, Any]:
    """Return the change that a variant makes, over the cells that have it."""
    changes, errors, passes, missed, wrong = {}, [], [], 0, 0
    for cell, results in rows.items():
        if variant not in results:
            continue
        usual, other = results["usual"], results[variant]
        best = np.array(known[cell])
        excess = [100 * (np.array(result["epsilon"]) / best - 1) for result in (usual, other)]
        both = np.isfinite(excess[0]) & np.isfinite(excess[1])
        difference = (excess[1] - excess[0])[both]
        changes[cell] = float(difference.mean())
        errors.append(float(difference.std()) / max(1, len(difference)) ** 0.5)
        passes.append(other["passes"] / usual["passes"] - 1)
        missed += int((~np.isfinite(excess[1])).sum() - (~np.isfinite(excess[0])).sum())
        counts = [int((np.array(r["converged"], bool) & (e > 2)).sum()) for r, e in zip((usual, other), excess)]  # noqa: B905
        wrong += counts[1] - counts[0]
    if not changes:
        return {}
    most = max(changes, key=lambda cell: abs(changes[cell]))
    return {
        "mean": float(np.mean(list(changes.values()))),
        "error": float(np.sqrt(np.sum(np.square(errors)))) / len(errors),
        "most": f"{most} {changes[most]:+.2f}",
        "not_found": missed,
        "wrong": wrong,
        "passes": 100 * float(np.mean(passes)),
    }


def least_known(rows: Mapping[str, Mapping[str, Any]], known: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return the least epsilon of each cell's samples, those of all variants included."""
    return {
        cell: np.min([known[cell], *(result["epsilon"] for result in results.values())], axis=0).tolist()
        for cell, results in rows.items()
    }


def table(rows: Mapping[str, Mapping[str, Any]], known: Mapping[str, list[float]], numbers: list[Number]) -> str:
    """Return the table of all variants that were run."""
    best = least_known(rows, known)
    lines = ["| cell | n | mean excess % | within 1 % | over 20 % | not found | converged, over 2 % | passes |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for cell, results in rows.items():
        usual = results["usual"]
        epsilon, converged = np.array(usual["epsilon"]), np.array(usual["converged"], bool)
        excess = 100 * (epsilon / np.array(best[cell]) - 1)
        found = np.isfinite(excess)
        lines.append(
            f"| {cell} | {len(excess)} | {excess[found].mean():.2f} | {100 * np.mean(excess < 1):.0f} | "
            f"{np.sum(excess > 20)} | {np.sum(~found)} | {converged.sum()}, {np.sum(converged & (excess > 2))} | "
            f"{usual['passes']:.0f} |"
        )
    lines += ["", "| number | value | half | twice | without |", "| --- | --- | --- | --- | --- |"]
    for number in numbers:
        cells = []
        for variant in (*FACTORS, "without"):
            change = figures(rows, best, f"{number.label} {variant}")
            cells.append(
                f"{change['mean']:+.2f} ± {change['error']:.2f} ({change['most']}), {change['passes']:+.0f} %"
                + (f", {change['not_found']:+d} not found" if change["not_found"] else "")
                + (f", {change['wrong']:+d} wrong" if change["wrong"] else "")
                if change
                else "-"
            )
        lines.append(f"| {number.label} | {number.value:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".cache")
    parser.add_argument("--cells", type=lambda text: text.split(","), default=CELLS)
    parser.add_argument("--numbers", type=lambda text: text.split(","), default=None)
    parser.add_argument("--part", choices=("choose", "report"), default="choose")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--json", type=Path, default=Path("ablation.json"))
    parser.add_argument("--print", action="store_true", help="print what there is, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = [n for n in tuned_numbers() if options.numbers is None or {n.name, n.label} & set(options.numbers)]
    stored = json.loads(options.json.read_text()) if options.json.exists() else {"rows": {}, "known": {}}
    rows, known = stored["rows"], stored["known"]
    for name in [] if options.print else options.cells:
        cell = Cell.of(name, options)
        results, known[name] = rows.setdefault(name, {}), cell.known.tolist()
        settings.__class__, Reads.names = Reads, set(IN_SETTINGS)
        results["usual"] = cell.run({}, {})
        settings.__class__ = ModuleType
        for number, label, value in variants(numbers):
            variant = f"{number.label} {label}"
            unread = number.name.isupper() and number.name not in Reads.names
            idle = number.norm not in (None, cell.norm)
            if variant not in results and not unread and not idle:
                results[variant] = cell.run(*number.replaced(value))
        options.json.write_text(json.dumps(stored) + "\n")
    print(table(rows, known, numbers))


if __name__ == "__main__":
    assert set(NORMS) >= {cell.split(":")[1] for cell in CELLS}
    main()
