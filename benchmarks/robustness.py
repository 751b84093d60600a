"""Robust accuracy by attack, at the same budgets, on a real ResNet-20, a robust MNIST network and a verified one.

    python benchmarks/robustness.py --reference FOLDER [--store FILE.duckdb] [--json FILE]
                                    [--only resnet20 …] [--parts cheap bb …] [--table]

Four parts, the cheap first: minimum norms, and PGD-40 in linf; Brendel and Bethge's attack with the study's settings,
on few samples; AutoAttack; Carlini and Wagner's attack likewise. Each row is printed and saved when it is there.
Interrupted, the same command goes on: finished rows are in the JSON file, unfinished ones in the store.

AutoAttack first spares the samples that the other rows have broken, then tries them too: what the second step costs is
what sparing known samples saves. A minimum norm answers for its second budget out of the store.
Seconds are processor time of one thread; passes are forward and backward, a sample.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import mnist, proofs, trained

import thinice

HERE = Path(__file__).parent
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A network and its samples; budgets by norm; how many samples the two expensive attacks get."""

    classifier: thinice.Classifier
    samples: thinice.Samples
    budgets: dict[str, tuple[str, ...]]
    few: int
    proved: np.ndarray | None = None
    """(N,) whether a verifier has proved that the sample stands at the first linf budget."""


def resnet20(reference: Path) -> Case:
    weights = reference / "weights" / "cifar10-resnet20.th"
    samples = thinice.load_samples(f"npz:{reference / 'data' / 'cifar10-exact-100.npz'}", split="all")[:40]
    classifier = thinice.load_classifier(weights, architecture="resnet20", normalization=IMAGENET)
    return Case(classifier, samples, {"linf": ("1/255", "2/255"), "l2": ("0.1",), "l0": ("4",)}, few=4)


def at_cnn(reference: Path) -> Case:
    network = trained("at_cnn", reference, HERE / ".cache")
    classifier = thinice.as_classifier(network, name="at_cnn", data="mnist")
    inputs, labels = mnist(reference, "t10k")
    samples = thinice.as_samples(inputs[:50], labels[:50])
    return Case(classifier, samples, {"linf": ("0.1", "0.2"), "l2": ("1.5",), "l0": ("15",)}, few=10)


def resnet_2b(reference: Path) -> Case:
    folder = reference / "data" / "verified"
    data = np.load(folder / "resnet_2b.npz")
    normalization = (tuple(data["mean"].tolist()), tuple(data["std"].tolist()))
    classifier = thinice.load_classifier(folder / "resnet_2b.onnx", normalization=normalization)
    samples = thinice.as_samples(data["images"][:24], data["labels"][:24])
    proved = proofs("resnet_2b", reference)[1][:24] == "holds"
    return Case(classifier, samples, {"linf": ("2/255", "4/255"), "l2": ("0.5",), "l0": ("8",)}, few=6, proved=proved)


CASES: dict[str, Callable[[Path], Case]] = {"resnet_2b": resnet_2b, "at_cnn": at_cnn, "resnet20": resnet20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--store", type=Path, default=HERE / ".cache" / "robustness.duckdb")
    parser.add_argument("--json", type=Path, default=HERE / "data" / "robustness.json")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--table", action="store_true", help="print the tables of the JSON file, and run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = json.loads(options.json.read_text()) if options.json.exists() else []
    if options.table:
        print(table(rows))
        return
    cases = {name: CASES[name](options.reference) for name in options.only}
    for part in options.parts:
        for name, case in cases.items():
            for key, make in PARTS[part](case, options.store):
                if any([row["network"], row["attack"], row["norm"], row["budget"]] == [name, *key] for row in rows):
                    continue
                rows.append({"network": name, **dict(zip(("attack", "norm", "budget"), key, strict=True)), **make()})
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
                print(line(rows[-1]), flush=True)


Rows = Iterator[tuple[tuple[str, str, str], Callable[[], Row]]]


def cheap(case: Case, store: Path) -> Rows:
    """Minimum norms in every norm, and PGD-40; beside the study's attacks on the same few samples."""
    for attack in ("tmn", "fmn", "pgd"):
        for budget in case.budgets["linf"]:
            yield (attack, "linf", budget), partial(found, case, store, attack, "linf", budget)
    for norm in ("l2", "l0"):
        for attack in ("tmn", "fmn"):
            for budget in case.budgets[norm]:
                yield (attack, norm, budget), partial(found, case, store, attack, norm, budget, first=case.few)


def autoattack(case: Case, store: Path) -> Rows:
    """AutoAttack, the larger budget first: fewer samples stand, and those cost."""
    for budget in reversed(case.budgets["linf"]):
        yield ("autoattack", "linf", budget), partial(with_and_without_known, case, store, budget)


def brendel_bethge(case: Case, store: Path) -> Rows:
    """Run the study's l0 attack; its first use compiles it, outside of the clock."""

    def compiled(budget: str) -> Row:
        thinice.measure(case.classifier, case.samples[:2], attack="bb", norm="l0", steps=2, progress=False)
        return found(case, store, "bb", "l0", budget, first=case.few)

    for budget in case.budgets["l0"]:
        yield ("bb", "l0", budget), partial(compiled, budget)


def carlini_wagner(case: Case, store: Path) -> Rows:
    """Run the study's l2 attack, up to 45 000 passes a sample."""
    for budget in case.budgets["l2"]:
        yield ("cw", "l2", budget), partial(found, case, store, "cw", "l2", budget, first=case.few)


PARTS: dict[str, Callable[[Case, Path], Rows]] = {
    "cheap": cheap,
    "bb": brendel_bethge,
    "autoattack": autoattack,
    "cw": carlini_wagner,
}


def found(case: Case, store: Path, attack: str, norm: str, budget: str, *, first: int | None = None) -> Row:
    """Return what one attack alone says, and what it cost."""
    return as_row(case, *timed(case, store, attack, norm, budget, first=first, skip_known=False))


def with_and_without_known(case: Case, store: Path, budget: str) -> Row:
    """Return AutoAttack's row: sparing what is known broken, then not, and what lies between them."""
    short, less = timed(case, store, "autoattack", "linf", budget, skip_known=True)
    whole, more = timed(case, store, "autoattack", "linf", budget, skip_known="both")
    alone = whole.robust_to_this_attack
    assert alone is not None
    assert (short.robust == whole.robust).all()
    assert (alone | ~short.robust).all(), "AutoAttack broke a sample after it had stood"
    return as_row(case, whole, less + more) | {
        "robust_accuracy_to_this_attack": whole.robust_accuracy_to_this_attack,
        "spared": int(short.known_broken.sum()),
        "spared_that_autoattack_missed": int((short.known_broken & alone).sum()),
        "passes_with_shortcut": round(float(short.evaluations.mean()), 1),
        "seconds_with_shortcut": round(less, 1),
    }


def timed(
    case: Case, store: Path, attack: str, norm: str, budget: str, *, first: int | None = None, skip_known: bool | str
) -> tuple[thinice.Robustness, float]:
    start = time.process_time()
    result = thinice.evaluate(
        case.classifier,
        case.samples[:first],
        attack=attack,
        norm=norm,
        budget=budget,
        skip_known=skip_known,
        store=store,
        checks=False,
        progress=False,
    )
    return result, time.process_time() - start


def as_row(case: Case, result: thinice.Robustness, seconds: float) -> Row:
    """Return one row: accuracies, the median norm where the attack minimises it, costs, and what proofs say."""
    row: Row = {
        "samples": len(result),
        "clean_accuracy": result.clean_accuracy,
        "robust_accuracy": result.robust_accuracy,
        "low": result.interval.low,
        "high": result.interval.high,
        "passes": round(float(result.evaluations.mean()), 1),
        "seconds": round(seconds, 1),
        "broken_by": {name: count for name, count in result.counts.items() if count},
    }
    if "budget" not in result.settings:
        norms = np.nan_to_num(result.epsilon[result.broken_by != "clean"], nan=np.inf)
        row |= {"median": float(np.median(norms)), "not_found": int(np.isinf(norms).sum())}
    if case.proved is not None and result.norm == "linf" and result.budget <= 2 / 255:
        row |= {"proved": int(case.proved.sum()), "proved_but_broken": int((case.proved & ~result.robust).sum())}
    return row


def line(row: Row) -> str:
    """Return a row in a line: what every row has, and then the rest."""
    rest = {key: value for key, value in row.items() if key not in {*SHOWN, "network", "attack", "norm", "budget"}}
    return (
        f"{row['network']:10} {row['attack']:10} {row['norm']:4} {row['budget']:6} {row['samples']:3} samples, clean "
        f"{row['clean_accuracy']:.3f}, robust {row['robust_accuracy']:.3f}, {row['passes']:8.1f} passes, "
        f"{row['seconds']:6.1f} s  " + ", ".join(f"{key} {value}" for key, value in rest.items())
    )


def table(rows: list[Row]) -> str:
    """Return the rows as two tables in Markdown: accuracies and costs, and what AutoAttack is spared."""
    found = ["| network | norm, budget | n | attack | clean | robust | median | passes | s |", "|" + " --- |" * 9]
    saved = [
        "| network | budget | n | spared | passes, all, rest | s, all, rest | robust, alone, with the store |",
        "|" + " --- |" * 7,
    ]
    for row in sorted(rows, key=lambda row: (row["network"], row["norm"] != "linf", row["norm"], row["budget"])):
        median = f"{row['median']:.4g}" if "median" in row else ""
        robust = row.get("robust_accuracy_to_this_attack", row["robust_accuracy"])
        found.append(
            f"| {row['network']} | {row['norm']} {row['budget']} | {row['samples']} | {row['attack']} | "
            f"{row['clean_accuracy']:.3f} | {robust:.3f} | {median} | {row['passes']:.0f} | {row['seconds']:.1f} |"
        )
        if "spared" in row:
            saved.append(
                f"| {row['network']} | {row['budget']} | {row['samples']} | {row['spared']} | {row['passes']:.0f}, "
                f"{row['passes_with_shortcut']:.0f} | {row['seconds']:.1f}, {row['seconds_with_shortcut']:.1f} | "
                f"{row['robust_accuracy_to_this_attack']:.3f}, {row['robust_accuracy']:.3f} |"
            )
    return "\n".join([*found, "", *saved])


SHOWN = {"samples", "clean_accuracy", "robust_accuracy", "low", "high", "passes", "seconds"}


if __name__ == "__main__":
    main()
