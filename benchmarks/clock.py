"""What a distance costs: `measure` at standard effort beside other programs' FMN at 200 steps, on a real ResNet-20.

    python benchmarks/clock.py --reference FOLDER [--samples 64] [--rounds 2] [--norm linf] [--json FILE]

In turns, in one process, on one thread; seconds of processor time, the least over the rounds: the machine may have
other things to do. `measure` finds the network's fast form by itself, within its time. Every epsilon is verified.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from networks import load
from peers import foolbox_fmn, library
from torch import Tensor

import thinice
from thinice.attacks.result import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--efforts", type=lambda text: text.split(","), default=["standard"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    _, model, inputs, labels = load("resnet20", options.reference, options.reference)
    assert isinstance(model, thinice.Classifier)
    inputs, labels = inputs[: options.samples], labels[: options.samples]
    measured = partial(thinice.measure, model, norm=options.norm, progress=False)
    runs: dict[str, Callable[[], Tensor]] = {
        f"thinice.measure {effort}": lambda effort=effort: measured(inputs, labels=labels, effort=effort).adversarials
        for effort in options.efforts
    }
    peers = {
        "foolbox FMN 200": ("foolbox", foolbox_fmn, {"steps": 200}),
        "adversarial-library FMN 200": ("adv_lib", library, {"name": "fmn", "steps": 200}),
    }
    for name, (package, peer, settings) in peers.items():
        if find_spec(package) is None:
            print(f"{name}: skipped, {package} is not installed")
            continue
        runs[name] = partial(peer, model.module, inputs, labels, norm=options.norm, **settings)
    measured(inputs[:2], labels=labels[:2])  # kernels are chosen when they are first used
    seconds = dict.fromkeys(runs, float("inf"))
    points = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.process_time()
            points[name] = run()
            seconds[name] = min(seconds[name], time.process_time() - start)
        report(points, seconds, model=model, inputs=inputs, labels=labels, options=options)


def report(
    points: dict[str, Tensor],
    seconds: dict[str, float],
    *,
    model: thinice.Classifier,
    inputs: Tensor,
    labels: Tensor,
    options: argparse.Namespace,
) -> None:
    """Print and save what is known after a round."""
    rows = []
    print("program | s | times the first | mean epsilon | median | not found")
    print("--- | --- | --- | --- | --- | ---")
    first = next(iter(seconds.values()))
    for name, found in points.items():
        spent = torch.zeros(len(inputs))
        epsilon = verify(model, inputs, found.detach(), labels, norm=options.norm, evaluations=spent).epsilon
        known = epsilon[~epsilon.isnan()].double()
        facts = {
            "program": name,
            "seconds": seconds[name],
            "ratio": seconds[name] / first,
            "mean_epsilon": float(known.mean()),
            "median_epsilon": float(known.median()),
            "not_found": len(epsilon) - len(known),
        }
        rows.append(facts)
        print(" | ".join(value if isinstance(value, str) else f"{value:.5g}" for value in facts.values()), flush=True)
    if options.json:
        about = {"python": sys.version.split()[0], "torch": version("torch")}
        about["machine"] = f"{os.cpu_count()} cores, CPU, {platform.machine()}"
        about |= {"threads": "1", "norm": options.norm, "samples": str(len(inputs)), "rounds": str(options.rounds)}
        options.json.write_text(json.dumps({"facts": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
