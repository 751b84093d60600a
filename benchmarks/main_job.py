"""What the main job costs: the demo, the overhead of `measure`, memory, and the store.

    python benchmarks/main_job.py [--only demo|overhead|memory|store] [--json FILE]

Prints a line a number, with the hardware and versions it was seen on. Ratios compare things measured in turns in one
process; absolute seconds hold for the machine named above them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from thinice import Classifier, MinNormResult, Samples

Numbers = dict[str, float]
REFERENCE = Path(os.environ.get("THINICE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


def demo() -> Numbers:
    """Seconds of `thinice demo`, process start and figures included, and of the same again from its store."""
    command = [sys.executable, "-c", "from thinice.cli import main; main()", "demo", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        first = _seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))
        again = _seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))
    return {"demo_seconds": first, "demo_again_seconds": again}


def overhead(rounds: int = 3) -> Numbers:
    """`measure` (tmn, standard effort, linf) against bare forward-backward passes, as many as it counted.

    On a real ResNet-20 where the reference data have one (one with random weights else), and on the embedded digits
    network. The floor is a pass of a full batch through the form that the search uses; `own` is one through the network
    as it was loaded. Processor time, the minimum over the rounds, in turns: the machine may have other things to do.
    """
    import thinice

    numbers: Numbers = {}
    digits = thinice.load_samples("digits", split="test")[:512]
    embedded = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    for name, classifier, samples in (("digits", embedded, digits), ("resnet20", *_resnet20(100))):
        batch = 512 if name == "digits" else 128  # as "auto" takes them on a processor
        found = _overhead(classifier, samples, rounds=rounds, batch=batch)
        numbers |= {f"{name}_{what}": value for what, value in found.items()}
    return numbers


def _overhead(classifier: Classifier, samples: Samples, *, rounds: int, batch: int) -> Numbers:
    import thinice
    from thinice.losses import input_gradient, margin
    from thinice.models.inference import inference_form

    batch = min(batch, len(samples.labels))
    inputs, labels = samples.inputs[:batch], samples.labels[:batch]
    fast = inference_form(classifier, inputs)

    def measured() -> MinNormResult:
        return thinice.measure(classifier, samples, attack="tmn", batch_size=batch, progress=False)

    def bare(network: Classifier, passes: int) -> None:
        for _ in range(passes):
            point = inputs.clone().requires_grad_()
            input_gradient(margin(network(point), labels), point)

    evaluations = measured().evaluations
    passes = float(evaluations.sum()) / batch
    some = max(8, round(passes / 4))
    seconds: dict[str, list[float]] = {"measure": [], "fast": [], "own": []}
    for _ in range(rounds):
        seconds["measure"].append(_seconds(measured, time.process_time))
        seconds["fast"].append(_seconds(partial(bare, fast, some), time.process_time) * passes / some)
        seconds["own"].append(_seconds(partial(bare, classifier, some), time.process_time) * passes / some)
    least = {what: min(values) for what, values in seconds.items()}
    return {
        "evaluations": float(evaluations.mean()),
        "over_fast": least["measure"] / least["fast"],
        "over_own": least["measure"] / least["own"],
        "fast_over_own": least["fast"] / least["own"],
    }


def _resnet20(count: int) -> tuple[Classifier, Samples]:
    """Return the network and samples of it: real ones, or random ones with the network's own labels."""
    import torch

    import thinice
    from thinice.models import build

    weights, images = REFERENCE / "weights" / "cifar10-resnet20.th", REFERENCE / "data" / "cifar10-exact-100.npz"
    if weights.exists() and images.exists():
        imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        real = thinice.load_classifier(weights, architecture="resnet20", normalization=imagenet)
        data = np.load(images)
        inputs, labels = torch.tensor(data["images"]).float() / 255, torch.tensor(data["labels"]).long()
        return real, thinice.as_samples(inputs[:count], labels[:count])
    torch.manual_seed(0)
    random = thinice.as_classifier(build("resnet20", 10), name="resnet20, random weights")
    inputs = torch.rand(count, 3, 32, 32)
    with torch.no_grad():
        return random, thinice.as_samples(inputs, random(inputs).argmax(1))


def memory(n: int = 10_000) -> Numbers:
    """Peak resident memory of measuring 10 000 CIFAR-sized samples, and of a process that has only made them."""
    script = (
        "import resource, sys, torch, thinice\n"
        "n = int(sys.argv[1])\n"
        "stored = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)\n"
        "layers = torch.nn.Conv2d(3, 8, 3, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 10)\n"
        "network = torch.nn.Sequential(*layers)\n"
        "classes = tuple('0123456789')\n"
        "samples = thinice.as_samples(stored, torch.zeros(n, dtype=torch.int64), classes=classes)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "thinice.measure(network, samples, steps=3, progress=False)\n"
        "print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    found = subprocess.run([sys.executable, "-c", script, str(n)], check=True, capture_output=True, text=True).stdout
    before, after = (int(word) * 1024 / 1e6 for word in found.split())
    return {"memory_before_mb": before, "memory_peak_mb": after}


def store(rows: int = 10_000, measurements: int = 200, samples: int = 50_000) -> Numbers:
    """Seconds to write 10 000 epsilons, and to ask a store with 10 million of them (200 attacks on 50 000 samples)."""
    from thinice import open_store

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_store(Path(folder) / "thinice.duckdb", new=True)
        with opened.run(["benchmark"], device="cpu", seed=0) as run:
            dense, pruned = (
                run.checkpoint(fingerprint=name, name=name, architecture="none", classes=10, sparsity=0.0)
                for name in ("dense", "pruned")
            )

            def fill(n: int, count: int) -> list[float]:
                ids, label = np.arange(n), random.integers(0, 10, n)
                data = run.dataset(
                    fingerprint=f"{n}", name=f"{n}", split="test", shape=(3, 32, 32), classes=tuple("0123456789"),
                    sample_ids=ids, labels=label, digests=ids,
                )  # fmt: skip
                right = random.random((2, n)) < 0.9
                classes = np.where(right, label, (label + 1) % 10)
                run.add_predictions(pruned, data, ids, predictions=classes[1])
                seconds = []
                for k in range(count):
                    attack = run.attack(name="fmn", norm="linf", settings={"steps": k})
                    measurement = run.measurement(dense, data, attack)
                    columns = {
                        "epsilon": np.where(right[0], random.gamma(2, 0.01, n), 0).astype(np.float32),
                        "outcomes": right[0].astype(np.int8),
                        "predictions": (label + 1) % 10,
                        "evaluations": np.full(n, 100.0, np.float32),
                        "clean_predictions": classes[0],
                    }
                    seconds.append(_seconds(partial(run.add_epsilons, measurement, ids, **columns)))
                    run.comparison(measurement, pruned)
                return seconds

            written = fill(rows, 3)
            fill(samples, measurements)
        questions = {
            "query_all_rows_seconds": "select outcome, round(epsilon, 3) as bin, count(*) from epsilons group by all",
            "query_one_comparison_seconds": (
                "select transition, count(*), quantile_cont(epsilon, 0.5) from transitions "
                "where comparison_id = 100 group by all"
            ),
            "query_thin_ice_seconds": "from thin_ice where comparison_id = 100 limit 20",
        }
        asked = {
            name: statistics.median(_seconds(partial(opened.sql, question)) for _ in range(3))
            for name, question in questions.items()
        }
    return {"write_10k_seconds": statistics.median(written), **asked}


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def main() -> None:
    """Run what was asked for, print it, and keep it as JSON if wanted."""
    parts = {part.__name__: part for part in (demo, overhead, memory, store)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts, action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in ("thinice", "torch", "duckdb", "numpy")},
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    numbers: Numbers = {}
    for name in options.only or parts:
        numbers |= parts[name]()
    for name, value in numbers.items():
        print(f"{name:28} {value:.4g}")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "numbers": numbers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
