"""Whether pruning loses fewer samples where those on thin ice count more.

    python benchmarks/thin_ice_aware.py FOLDER --choose
    python benchmarks/thin_ice_aware.py FOLDER [--seeds 20] [--table] [--json RESULTS.json]
        [--data digits] [--network digits_cnn] [--images 896] [--samples 901] [--attacked 50] [--attacked-seeds 10]
        [--budget 0.1] [--epochs 20 5 10] [--steps 3] [--batch-size 32] [--dense "FOLDER/dense-seed{seed}.pt"]
        [--sparsities 0.9 0.95 0.99] [--arms none weighted shuffled distilled distilled-shuffled]

The experiment that `docs/thin-ice-aware.md` declares. For each seed one dense network is trained by PGD, or read from a
file; epsilons of the training samples are measured on it; LWM and HYDRA prune it to each sparsity, in five arms:

- none: the host as it is;
- weighted: losses weighted by nearness, in HYDRA's search and in fine-tuning;
- shuffled: the same weights on other samples (the control);
- distilled: a divergence from the dense network's predictions, weighted by nearness;
- distilled-shuffled: the same, its weights on other samples.

`--choose` decides between shapes of the weights first, on 30 % of the training samples, which it does not train on;
test samples have no part in it. Then all networks are made and measured by the default attack, a seed is finished
before the next begins; then AutoAttack searches on `--attacked` samples, of the networks of the first seeds.
Interrupted, the same command goes on.
`--json` writes one row a network, and nothing of this machine, for the notebook.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from adversarial_pruning import Row, Study, over_seeds, percent, shared_arguments
from scipy.stats import ttest_1samp

import thinice
from thinice.data.subset import draw
from thinice.pruning.classifiers import prune_classifier
from thinice.stats import holm, separation
from thinice.training.thin_ice import ThinIce

if TYPE_CHECKING:
    from numpy.typing import NDArray

HOSTS = {"lwm": None, "hydra": "hydra-prune-short"}
"""The recipe that each is searched by."""
ARMS: dict[str, dict[str, object] | None] = {
    "none": None,
    "weighted": {},
    "shuffled": {"shuffled": True},
    "distilled": {"distil": 1.0},
    "distilled-shuffled": {"distil": 1.0, "shuffled": True},
}
CANDIDATES = [
    {"shape": shape, "strength": strength}
    for shape, strengths in (("power", (4.0, 8.0)), ("exponential", (2.0, 4.0)), ("window", (4.0, 8.0)))
    for strength in strengths
]
CHOICE = {"host": "hydra", "sparsity": 0.95, "seeds": [100, 101, 102], "part": 0.3}
"""What shapes are compared on: seeds that the experiment does not use, and a part of the training samples."""
EFFORT = "quick"
CONTRASTS = (("weighted", "none"), ("weighted", "shuffled"), ("distilled", "none"), ("distilled", "distilled-shuffled"))
PRIMARY = ("clean S1,0", "robust S1,0")
SECONDARY = ("clean pruned_accuracy", "robust pruned_accuracy", "autoattack accuracy", "clean auc")


@dataclass
class ThinIceStudy(Study):
    """The arms, and what they are measured by."""

    @property
    def cells(self) -> list[tuple[int, str, float]]:
        """Seed, host with arm, and sparsity of each network; a seed is finished before the next begins."""
        return [
            (seed, f"{host}+{arm}", sparsity)
            for seed, sparsity, host, arm in product(
                self.options.seeds, self.options.sparsities, HOSTS, self.options.arms
            )
        ]

    def read(self, name: str) -> Any:  # noqa: ANN401 - of JSON
        """Return what is in a file of the folder, or nothing."""
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else None

    def measured(self, seed: int, part: str) -> dict[str, NDArray[Any]]:
        """Return what is known of the dense network on the training or the test samples, measured where it is not."""
        path = self.folder / f"dense-seed{seed}-{part}.npz"
        if not path.exists():
            samples = {"train": self.train, "test": self.test}[part]
            nearest = distances(thinice.load_classifier(self.dense(seed)), samples)
            partial = path.with_suffix(".part.npz")
            np.savez(partial, sample_ids=samples.sample_ids.numpy(), epsilon=nearest.epsilon.numpy())
            partial.replace(path)
        with np.load(path) as file:
            return dict(file)

    def pruned(self, seed: int, name: str, sparsity: float, shape: dict[str, object] | None = None) -> Path:
        """Return the network of a cell, made where it is not there; of a candidate, with its own shape."""
        host, _, arm = name.partition("+")
        _, searched, tuned = self.options.epochs
        batches = {"batch_size": self.options.batch_size}
        shape = shape or self.read("choice.json")["chosen"]
        settings, recipe, row = ARMS[arm], HOSTS[host], self.row(seed, name, sparsity)
        thin_ice = None
        if settings is not None:
            known = self.measured(seed, "train")
            assert (known["sample_ids"] == self.train.sample_ids.numpy()).all()
            origin = f"tmn, linf, {EFFORT}"
            epsilons = torch.from_numpy(known["epsilon"])
            thin_ice = ThinIce(epsilons=epsilons, seed=seed, measured_by=origin, **shape | settings)
        (made,) = prune_classifier(
            self.dense(seed),
            host,
            path=self.folder / f"{name}-{100 * sparsity:g}-seed{seed}.pt",
            sparsity=sparsity,
            samples=self.train,
            search=None if recipe is None else self.plan(recipe, seed, searched, **batches),
            finetune=self.plan("finetune-pgd", seed, tuned, learning_rate=0.02, **batches),
            thin_ice=thin_ice,
            device="cpu",
            progress=self.clock(row),
        )
        row["measured_sparsity"] = made.classifier.sparsity
        row["notes"] = list(made.notes) or row.get("notes", [])
        return made.path

    def evaluate(self, seed: int, name: str, sparsity: float) -> None:
        """Add what clean predictions and the default attack say on test samples to the row of a cell."""
        row = self.row(seed, name, sparsity)
        pruned = distances(thinice.load_classifier(self.pruned(seed, name, sparsity)), self.test)
        row |= outcomes(self.measured(seed, "test")["epsilon"], pruned.epsilon.numpy(), self.options.budget)
        row |= {"budget": self.options.budget, "done": True}
        self.save()

    def attack(self, seed: int, name: str, sparsity: float) -> None:
        """Add the accuracy under AutoAttack to the row of a cell."""
        network = thinice.load_classifier(self.pruned(seed, name, sparsity))
        shared: dict[str, Any] = {"budget": self.options.budget, "progress": False, "device": "cpu"}
        result = thinice.evaluate(network, self.attacked, attack="autoattack", **shared)
        row = self.row(seed, name, sparsity)
        row |= {"autoattack accuracy": float(result.robust.mean()), "autoattack samples": len(result.robust)}
        self.save()


def distances(network: thinice.Classifier, samples: thinice.Samples) -> thinice.MinNormResult:
    """Return the nearest adversarials by the default attack."""
    return thinice.measure(network, samples, norm="linf", effort=EFFORT, progress=False, device="cpu")


def outcomes(dense: NDArray[Any], pruned: NDArray[Any], budget: float) -> Row:
    """Return accuracies, lost samples and AUC on both bases, from epsilons: 0 is misclassified, NaN not found."""
    row: Row = {"samples": len(dense)}
    for basis, radius in (("clean", 0.0), ("robust", budget)):
        before, after = (~(epsilon <= radius) for epsilon in (dense, pruned))
        kept, lost = dense[before & after], dense[before & ~after]
        row |= {f"{basis} dense_accuracy": float(before.mean()), f"{basis} pruned_accuracy": float(after.mean())}
        row |= {f"{basis} S1,0": len(lost), f"{basis} S0,1": int((after & ~before).sum())}
        row[f"{basis} auc"] = separation(kept, lost).auc
    return row


def run(study: ThinIceStudy) -> None:
    """Make and measure all networks that are not there yet; then AutoAttack."""
    study.load()
    attacked = [cell for cell in study.cells if cell[0] in study.options.seeds[: study.options.attacked_seeds]]
    phases = (("done", study.evaluate, study.cells), ("autoattack accuracy", study.attack, attacked))
    for key, what, cells in phases:
        left = [cell for cell in cells if key not in study.row(*cell)]
        start = time.monotonic()
        for number, cell in enumerate(left, start=1):
            what(*cell)
            row, minutes = study.row(*cell), (time.monotonic() - start) / number * (len(left) - number) / 60
            told = f"clean {row['clean pruned_accuracy']:.1%}, robust {row['robust pruned_accuracy']:.1%}"
            seed, name, sparsity = cell
            print(f"{number}/{len(left)} seed {seed}, {name}, {sparsity:g}: {told}; {minutes:.0f} min left", flush=True)


def choose(study: ThinIceStudy) -> None:
    """Decide between the candidates by robust accuracy on training samples that were not trained on; by ties, clean."""
    folder = study.folder / "choice"
    folder.mkdir(parents=True, exist_ok=True)
    study.load()
    samples = study.train
    apart = torch.zeros(len(samples), dtype=torch.bool)
    apart[draw(samples.sample_ids, samples.labels, round(CHOICE["part"] * len(samples)))] = True
    trial = ThinIceStudy(argparse.Namespace(**vars(study.options) | {"folder": folder}), [])
    trial.train, trial.test = samples[~apart], samples[apart]
    scores: list[dict[str, Any]] = trial.read("scores.json") or []
    for shape in [None, *CANDIDATES][len(scores) :]:
        rows = []
        for seed in CHOICE["seeds"]:
            name = f"{CHOICE['host']}+{'none' if shape is None else 'weighted'}"
            path = trial.pruned(seed, name, CHOICE["sparsity"], shape or CANDIDATES[0])
            nearest = distances(thinice.load_classifier(path), trial.test).epsilon.numpy()
            rows.append(outcomes(trial.measured(seed, "test")["epsilon"], nearest, study.options.budget))
            path.unlink()  # the next candidate has the same name
        means = {name: float(np.mean([row[name] for row in rows])) for name in (*PRIMARY, *SECONDARY[:2])}
        scores.append({"shape": shape, **means})
        (folder / "scores.json").write_text(json.dumps(scores, indent=1))
        print(scores[-1], flush=True)
    best = max(scores[1:], key=lambda score: (score["robust pruned_accuracy"], score["clean pruned_accuracy"]))
    told = {"chosen": best["shape"], "scores": scores, "samples": int(apart.sum()), **CHOICE}
    (study.folder / "choice.json").write_text(json.dumps(told, indent=1))
    print("chosen:", best["shape"])


def differences(rows: Sequence[Row], host: str, sparsity: float, arms: tuple[str, str], outcome: str) -> list[float]:
    """Return one arm minus the other, seed by seed."""
    by_seed = [
        {row["seed"]: row[outcome] for row in rows if (row["arm"], row["asked"]) == (f"{host}+{arm}", sparsity)}
        for arm in arms
    ]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    return [by_seed[0][seed] - by_seed[1][seed] for seed in seeds if None not in (each[seed] for each in by_seed)]


def contrasts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what each contrast comes to, with Student's p-values of the primary outcomes, by Holm over all of them."""
    found = []
    sparsities = sorted({row["asked"] for row in rows})
    for outcome, sparsity, host, arms in product((*PRIMARY, *SECONDARY), sparsities, HOSTS, CONTRASTS):
        known = [row for row in rows if row.get(outcome) is not None]
        pairs = differences(known, host, sparsity, arms, outcome)
        if len(pairs) < 2:
            continue
        mean, low, high = over_seeds(pairs, None)
        p = None
        if outcome in PRIMARY:
            p = float(ttest_1samp(pairs, 0).pvalue) if np.ptp(pairs) else float(not any(pairs))
        shared = {"outcome": outcome, "sparsity": sparsity, "host": host, "arms": list(arms), "seeds": len(pairs)}
        found.append({**shared, "mean": mean, "low": low, "high": high, "p": p})
    tested = [row for row in found if row["p"] is not None]
    with np.errstate(divide="ignore"):
        adjusted = 10 ** holm(np.log10([row["p"] for row in tested])) if tested else []
    for row, value in zip(tested, adjusted, strict=True):
        row["p_holm"] = float(value)
    return found


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of two tables: the arms, and what they differ by."""
    head = ["sparsity", "host", "arm", "seeds", "clean %", "robust %", "AutoAttack %", "S1,0 clean", "S1,0 robust"]
    yield from (line([*head, "AUC"]), line(["---"] * (len(head) + 1)))
    for sparsity, host, arm in product(sorted({row["asked"] for row in rows}), HOSTS, ARMS):
        own = [row for row in rows if (row["asked"], row["arm"]) == (sparsity, f"{host}+{arm}")]
        if not own:
            continue
        attacked = [row["autoattack accuracy"] for row in own if "autoattack accuracy" in row]
        counts = [f"{np.mean([row[name] for row in own]):.1f}" for name in PRIMARY]
        clean, robust = (percent([row[f"{basis} pruned_accuracy"] for row in own]) for basis in ("clean", "robust"))
        auc = np.mean([row["clean auc"] for row in own if row["clean auc"] is not None])
        told = [f"{sparsity:g}", host, arm, str(len(own)), clean, robust, percent(attacked) if attacked else "—"]
        yield line([*told, *counts, f"{auc:.3f}"])
    yield ""
    yield from (line(["outcome", "sparsity", "host", "contrast", "difference", "p, Holm"]), line(["---"] * 6))
    for row in contrasts(rows):
        scale = 100 if "accuracy" in row["outcome"] else 1
        mean, low, high = (scale * row[name] for name in ("mean", "low", "high"))
        p = f"{row['p_holm']:.2g}" if "p_holm" in row else "—"
        told = [row["outcome"], f"{row['sparsity']:g}", row["host"], " - ".join(row["arms"])]
        yield line([*told, f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", p])


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Choose, run, or print what is known."""
    parser = shared_arguments(__doc__)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--batch-size", type=int, default=32, help="of search and fine-tuning")
    parser.add_argument("--attacked-seeds", type=int, default=10, help="so many seeds, the first, get AutoAttack")
    parser.add_argument("--choose", action="store_true", help="decide between shapes, on training samples alone")
    parser.add_argument("--json", type=Path, help="write one row a network")
    parser.set_defaults(
        data="digits",
        network="digits_cnn",
        images=896,
        samples=901,
        attacked=50,
        epochs=[20, 5, 10],
        steps=3,
        seeds=list(range(20)),
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.json"
    study = ThinIceStudy(options, json.loads(results.read_text()) if results.exists() else [])
    if options.choose:
        if options.dense:
            raise SystemExit("--choose trains dense networks of its own, on a part of the samples: leave --dense out")
        choose(study)
        return
    if not options.table:
        if study.read("choice.json") is None:
            raise SystemExit(f"{folder} holds no choice.json: run with --choose first, or copy that of other data")
        run(study)
    rows = [row for row in study.rows if row.get("done")]
    if options.json:
        told = {"choice": study.read("choice.json"), "rows": rows, "contrasts": contrasts(rows)}
        options.json.write_text(json.dumps(told) + "\n")
    print(*tables(rows), sep="\n")


if __name__ == "__main__":
    main()
