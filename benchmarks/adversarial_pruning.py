"""Adversarial prunings beside each other: the same dense network, the same fine-tuning, the same evaluation.

    python benchmarks/adversarial_pruning.py FOLDER [--seeds 3] [--sparsities 0.9 0.95 0.99] [--methods hydra lwm …]
        [--data mnist] [--network cnn5] [--images 20000] [--budget 0.1] [--epochs 15 4 4] [--steps 5] [--awp 0.01]
        [--objective pgd] [--dense "robust/resnet20-seed-{seed}.pt"] [--samples 1000] [--attacked 200]
        [--dry-run] [--table]

For each seed one dense network is trained by PGD, or read from a file; each method prunes it to each sparsity, by its
own short search, and what is left is fine-tuned, all in the same way: by PGD, or by another `--objective` (`fast` with
`--steps 1`). A tenth of the training images chooses the epoch; test images are attacked once, in the end: distances of
the dense network by TMN on `--samples`, AutoAttack, or the `--attack` given, on `--attacked` images.
The three `--epochs` are those of dense training, search and fine-tuning. `lwm-longer` is no method: fine-tuning of LWM
that is as long as search and fine-tuning of the others together; R-ADMM has the same rate in each layer, as HYDRA,
and `r-admm-global` ranks all layers together, as ATMC does. With and without `--awp` are two FOLDERs.

Networks, the store and the rows (`results.json`) are in FOLDER. Interrupted, the same command goes on; `--table`
prints what there is so far; `--dry-run` says what it will cost. Everything runs on one thread.

Intervals are at 95 %: of accuracies Student's over the seeds, or with one seed Wilson's over the samples; of an AUC
over seeds and samples (`thinice.stats.seed_summary`), or with one seed DeLong's over the samples. Differences, to LWM
and of S2AP to its host, are those of the same seed, on the same images.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

import thinice
from thinice.models import build
from thinice.pruning.classifiers import prune_classifier
from thinice.stats import seed_summary, wilson
from thinice.training import Plan
from thinice.training.classifiers import train_classifier
from thinice.training.presets import fitted_preset

Row = dict[str, Any]
CONFIDENCE = 0.95
BASELINE = "lwm"


@dataclass(frozen=True)
class Arm:
    """A method, its settings, and the recipe that it is searched by, if any."""

    method: str
    search: str | None = None
    settings: dict[str, object] = field(default_factory=dict)
    longer: bool = False
    """Whether fine-tuning is as long as search and fine-tuning of the others."""


S2AP = {"s2ap": 0.01, "s2ap_warmup": 1}
ARMS = {
    "lwm": Arm("lwm"),
    "lwm-longer": Arm("lwm", longer=True),
    "hydra": Arm("hydra", "hydra-prune-short"),
    "hydra+s2ap": Arm("hydra", "hydra-prune-short", S2AP),
    "harp": Arm("harp", "harp-prune-short"),
    "harp+s2ap": Arm("harp", "harp-prune-short", S2AP),
    "r-admm": Arm("r-admm", "radmm-prune-short"),
    "r-admm+s2ap": Arm("r-admm", "radmm-prune-short", S2AP),
    "r-admm-global": Arm("r-admm", "radmm-prune-short", {"scope": "global"}),
    "atmc": Arm("atmc", "atmc-prune-short"),
}
USUAL = [name for name in ARMS if name not in {"lwm-longer", "r-admm+s2ap", "r-admm-global"}]
LEARNT = 0.5
"""Accuracy of a dense network below which nothing can be compared."""
FULL_AUTOATTACK = 3700
"""Forward and backward passes that AutoAttack takes at most for a robust sample of ten classes: APGD-CE 100, targeted
APGD and FAB 900 each, of which FAB needs two gradients at times, and 5000 forward passes of Square, a third each."""
TMN_PASSES = 60


@dataclass
class Study:
    """What is asked for, and where everything is."""

    options: argparse.Namespace
    rows: list[Row]

    @property
    def folder(self) -> Path:
        """Where networks, store and rows are."""
        return Path(self.options.folder)

    def plan(self, recipe: str, seed: int, epochs: int, **changes: object) -> Plan:
        """Return a recipe of this study's length, by PGD at its budget."""
        options = self.options
        shared: dict[str, Any] = {
            "objective": options.objective,
            "budget": options.budget,
            "steps": options.steps,
            "held_out": 0.1,
        }
        plan, _ = fitted_preset(recipe, self.train, epochs=epochs, seed=seed, **shared | changes)
        return plan

    def load(self) -> None:
        """Read the images."""
        data, options = self.options.data, self.options
        self.train = thinice.load_samples(data, split="train", limit=options.images)
        self.test = thinice.load_samples(data, limit=options.samples)
        self.attacked = thinice.load_samples(data, limit=options.attacked)

    @property
    def cells(self) -> list[tuple[int, str, float]]:
        """Seed, method and sparsity of each pruned network; a seed is finished before the next begins."""
        return list(product(self.options.seeds, self.options.methods, self.options.sparsities))

    def row(self, seed: int, arm: str, sparsity: float) -> Row:
        """Return the row of a network, made where there is none."""
        key = {"seed": seed, "arm": arm, "asked": sparsity}
        present = [row for row in self.rows if key.items() <= row.items()]
        if not present:
            self.rows.append(key)
        return present[0] if present else key

    def is_done(self, seed: int, arm: str, sparsity: float) -> bool:
        """Return whether a network is made and measured."""
        key = {"seed": seed, "arm": arm, "asked": sparsity, "done": True}
        return any(key.items() <= row.items() for row in self.rows)

    def save(self) -> None:
        """Write the rows."""
        partial = self.folder / "results.json.part"
        partial.write_text(json.dumps(self.rows, indent=1))
        partial.replace(self.folder / "results.json")

    def dense(self, seed: int) -> Path:
        """Return the dense network of a seed, trained where it is not there and no file is given."""
        if self.options.dense:
            return Path(self.options.dense.format(seed=seed))
        path, row = self.folder / f"dense-seed{seed}.pt", self.row(seed, "dense", 0.0)
        plan = self.plan("pgd", seed, self.options.epochs[0], learning_rate=self.options.learning_rate, batch_size=64)
        trained = train_classifier(
            self.options.network, self.train, plan, path=path, device="cpu", progress=self.clock(row)
        )
        accuracy = trained.classifier.recipe["result"]["validation_accuracy"]
        if accuracy < LEARNT:
            raise SystemExit(
                f"{path} has learnt nothing (accuracy {accuracy:.1%} on held-out images): remove it, and give a "
                "smaller --learning-rate or more --epochs"
            )
        return path

    def clock(self, row: Row) -> Callable[[Any], None]:
        """Return what adds the seconds of each epoch to a row, also over interruptions."""

        def count(epoch: Any) -> None:  # noqa: ANN401 - `thinice.training.Epoch`
            row["seconds"] = row.get("seconds", 0.0) + epoch.seconds
            self.save()

        return count

    def pruned(self, seed: int, name: str, sparsity: float) -> Path:
        """Return the pruned network of a cell, made where it is not there."""
        path = self.folder / f"{name}-{100 * sparsity:g}-seed{seed}.pt"
        arm, row, (_, searched, tuned) = ARMS[name], self.row(seed, name, sparsity), self.options.epochs
        (made,) = prune_classifier(
            self.dense(seed),
            arm.method,
            path=path,
            sparsity=sparsity,
            samples=self.train,
            search=None if arm.search is None else self.plan(arm.search, seed, searched),
            finetune=self.plan(
                "finetune-pgd", seed, tuned + (searched if arm.longer else 0), learning_rate=0.02, awp=self.options.awp
            ),
            device="cpu",
            progress=self.clock(row),
            **arm.settings,
        )
        row["measured_sparsity"] = made.classifier.sparsity
        row["notes"] = list(made.notes) or row.get("notes", [])
        return path

    def evaluate(self, seed: int, name: str, sparsity: float) -> None:
        """Add what is measured on test images to the row of a cell."""
        row, dense, pruned = self.row(seed, name, sparsity), self.dense(seed), self.pruned(seed, name, sparsity)
        shared: dict[str, Any] = {
            "norm": "linf",
            "store": self.folder / "thinice.duckdb",
            "progress": False,
            "device": "cpu",
        }
        clean = thinice.compare(dense, pruned, self.test, **shared)
        robust = thinice.compare(
            dense,
            pruned,
            self.attacked,
            basis="robust",
            budget=self.options.budget,
            robust_by=self.options.attack,
            **shared,
        )
        for basis, comparison in (("clean", clean), ("robust", robust)):
            told = comparison.to_dict()
            names = ("pruned_accuracy", "dense_accuracy", "samples", "S1,0", "S0,1", "auc", "auc_se")
            row |= {f"{basis} {key}": told[key] for key in names}
            row |= {f"{basis} auc_low": told["auc_low"], f"{basis} auc_high": told["auc_high"]}
        row |= {"attack": self.options.attack, "budget": self.options.budget, "done": True}
        self.save()


def run(study: Study) -> None:
    """Make and measure all networks that are not there yet, and say how long the others will take."""
    study.load()
    left = [cell for cell in study.cells if not study.is_done(*cell)]
    start = time.monotonic()
    for number, (seed, name, sparsity) in enumerate(left, start=1):
        study.evaluate(seed, name, sparsity)
        spent = time.monotonic() - start
        row = study.row(seed, name, sparsity)
        print(
            f"{number}/{len(left)} seed {seed}, {name}, {sparsity:g}: clean {row['clean pruned_accuracy']:.1%}, robust "
            f"{row['robust pruned_accuracy']:.1%}, {row['seconds'] / 60:.1f} min of training; "
            f"{spent / number * (len(left) - number) / 60:.0f} min left",
            flush=True,
        )


def cost(study: Study) -> Iterator[str]:
    """Yield what the whole study costs, by the time that a pass takes now."""
    options, samples = study.options, thinice.load_samples(study.options.data, limit=128)
    network = build(options.network, 10)
    inputs = samples.inputs[:].requires_grad_()
    times = []
    for _ in range(5):
        begin = time.process_time()
        network(inputs).square().sum().backward()
        times.append(time.process_time() - begin)
    second = min(times) / len(inputs)
    dense, searched, tuned = options.epochs
    passes, images = options.steps + 1, 0.9 * options.images
    networks, trained = len(study.cells), 0 if options.dense else len(options.seeds)
    tuned *= 2 if options.awp else 1
    searches = sum(
        searched * (1.3 if "s2ap" in name else 1) if ARMS[name].search or ARMS[name].longer else 0
        for _, name, _ in study.cells
    )
    parts = {
        f"{trained} dense networks": trained * dense * images * passes,
        f"searches and fine-tuning of {networks} pruned ones": (searches + networks * tuned) * images * passes,
        f"{options.attack} on {options.attacked} samples of each": (networks + len(options.seeds))
        * options.attacked
        * (FULL_AUTOATTACK if options.attack == "autoattack" else TMN_PASSES),
        f"distances of {options.samples} samples of the dense": len(options.seeds) * options.samples * TMN_PASSES,
    }
    for name, count in parts.items():
        yield f"{count * second / 60:6.0f} min  {name}"
    yield f"{sum(parts.values()) * second / 60:6.0f} min  in all, at most, with {1e6 * second:.0f} µs a pass and sample"


def over_seeds(values: Sequence[float], samples: int | None) -> tuple[float, float, float]:
    """Return mean and interval: Student's over seeds; of one seed Wilson's, where it is a share of samples."""
    mean = float(np.mean(values))
    if len(values) > 1:
        half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2) * np.std(values, ddof=1) / math.sqrt(len(values)))
        low, high = mean - half, mean + half
        return (mean, low, high) if samples is None else (mean, max(low, 0.0), min(high, 1.0))
    if samples is None:
        return mean, math.nan, math.nan
    interval = wilson(round(mean * samples), samples, CONFIDENCE)
    return mean, interval.low, interval.high


def percent(values: Sequence[float], samples: int | None = None) -> str:
    """Return mean and interval in percent."""
    mean, low, high = (100 * value for value in over_seeds(values, samples))
    return f"{mean:.1f}" + ("" if math.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def auc_text(rows: Sequence[Row], basis: str) -> str:
    """Return the AUC of rows and its interval; a dash where there is none."""
    known = [row for row in rows if row[f"{basis} auc"] is not None]
    if not known:
        return "—"
    if len(known) == 1:
        row = known[0]
        low, high = row[f"{basis} auc_low"], row[f"{basis} auc_high"]
        return f"{row[f'{basis} auc']:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")
    columns = (
        [np.nan if row[f"{basis} {name}"] is None else row[f"{basis} {name}"] for row in known] for name in NAMES
    )
    summary = seed_summary(*columns, confidence=CONFIDENCE)
    if summary.auc is None or summary.interval is None:
        return f"{np.mean([row[f'{basis} auc'] for row in known]):.2f}"
    return f"{summary.auc:.2f} [{summary.interval.low:.2f}, {summary.interval.high:.2f}]"


NAMES = ("auc", "auc_se")


def difference(rows: Sequence[Row], name: str, other: str, sparsity: float) -> str:
    """Return the robust accuracy of one method minus that of another, seed by seed, in percent."""
    by_arm = [
        {row["seed"]: row["robust pruned_accuracy"] for row in rows if (row["asked"], row["arm"]) == (sparsity, arm)}
        for arm in (name, other)
    ]
    pairs = [] if name == other else [by_arm[0][seed] - by_arm[1][seed] for seed in by_arm[0].keys() & by_arm[1].keys()]
    return percent(pairs) if pairs else "—"


def table(study: Study) -> Iterator[str]:
    """Yield the lines of the table, one a method and sparsity, of the networks that are finished."""
    done = [row for row in study.rows if row.get("done")]
    head = ["method", "sparsity", "measured", "seeds", "clean %", "robust %", "minus LWM", "minus host"]
    lines = [[*head, "S1,0 clean", "S1,0 robust", "AUC clean", "AUC robust", "minutes"]]
    for sparsity, name in product(sorted({row["asked"] for row in done}), ARMS):
        rows = [row for row in done if (row["asked"], row["arm"]) == (sparsity, name)]
        if not rows:
            continue
        lines.append(
            [
                name,
                f"{sparsity:g}",
                f"{np.mean([row['measured_sparsity'] for row in rows]):.4f}",
                str(len(rows)),
                percent([row["clean pruned_accuracy"] for row in rows], rows[0]["clean samples"]),
                percent([row["robust pruned_accuracy"] for row in rows], rows[0]["robust samples"]),
                difference(done, name, BASELINE, sparsity),
                difference(done, name, name.removesuffix("+s2ap"), sparsity),
                f"{np.mean([row['clean S1,0'] for row in rows]):.1f} of {rows[0]['clean samples']}",
                f"{np.mean([row['robust S1,0'] for row in rows]):.1f} of {rows[0]['robust samples']}",
                auc_text(rows, "clean"),
                auc_text(rows, "robust"),
                f"{np.mean([row['seconds'] for row in rows]) / 60:.1f}",
            ]
        )
    for seed in sorted({row["seed"] for row in done}):
        row = next(row for row in done if row["seed"] == seed)
        accuracies = row["clean dense_accuracy"], row["robust dense_accuracy"]
        yield "dense, seed {}: clean {:.1%}, robust {:.1%}".format(seed, *accuracies)
    budget, attack = (done or [{}])[0].get("budget", study.options.budget), study.options.attack
    attacks = sorted({row.get("attack", attack) for row in done})
    yield f"robust: no adversarial is known within {budget:g} in linf, by {', '.join(attacks)}"
    lines.insert(1, ["---"] * len(lines[0]))
    yield from ("| " + " | ".join(line) + " |" for line in lines)
    for row in done:
        for note in row.get("notes", []):
            yield f"{row['arm']} {row['asked']:g}, seed {row['seed']}: {note}"


def shared_arguments(description: str | None) -> argparse.ArgumentParser:
    """Return what says on which networks and samples, and for how long; a comparison adds its methods."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where networks, the store and the rows are")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--seeds", type=lambda text: list(range(int(text))), default=[0, 1, 2], metavar="NUMBER")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--network", default="cnn5")
    parser.add_argument("--images", type=int, default=20_000, help="that are trained on")
    parser.add_argument("--budget", type=float, default=0.1, help="in linf, of training and of AutoAttack")
    parser.add_argument("--learning-rate", type=float, default=0.05, help="of the dense network")
    parser.add_argument("--epochs", type=int, nargs=3, default=[15, 4, 4], metavar=("DENSE", "SEARCH", "FINETUNE"))
    parser.add_argument("--steps", type=int, default=5, help="of PGD while training")
    parser.add_argument("--objective", default="pgd", help="of dense training, searches and fine-tuning")
    parser.add_argument("--dense", metavar="FILE", help="dense networks to begin with; {seed} stands for the seed")
    parser.add_argument("--awp", type=float, default=0.0, help="radius of weight perturbation in all fine-tuning")
    parser.add_argument("--samples", type=int, default=1000, help="test images that are compared")
    parser.add_argument("--attacked", type=int, default=200, help="test images that AutoAttack searches on")
    parser.add_argument("--attack", default="autoattack", help="what decides which samples are robust")
    parser.add_argument("--dry-run", action="store_true", help="say what it costs, and do nothing")
    parser.add_argument("--table", action="store_true", help="print what is known so far")
    return parser


def main() -> None:
    """Run the study, or print what is known of it."""
    parser = shared_arguments(__doc__)
    parser.add_argument("--methods", nargs="+", choices=ARMS, default=USUAL)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.folder)
    results = folder / "results.json"
    study = Study(options, json.loads(results.read_text()) if results.exists() else [])
    if options.dry_run:
        print(*cost(study), sep="\n")
        return
    if not options.table:
        folder.mkdir(parents=True, exist_ok=True)
        run(study)
    print(*table(study), sep="\n")


if __name__ == "__main__":
    main()
