"""What a training step costs beside the bare passes that it needs, for each objective and for searches for masks.

    python benchmarks/training.py [--device cuda] [--network preact_resnet8] [--batch 128] [--steps 20] [--json FILE]

The bare passes are what the objective cannot do without, in the same precision and layout of memory: natural training
needs one pass forward and back for the weights; each step that crafts an input one more, back to the input alone. Both
are timed in turns, and the shortest times count. The step is that of `thinice.train`: order, augmentation, crafting,
optimiser, hooks, and the counts of every sample. The images are random: nothing is downloaded. On CUDA a
batch of 512 and `--network resnet18` keep the device busy; smaller ones measure how fast Python hands kernels over.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinice.data import Samples, as_samples
from thinice.models import build
from thinice.numerics import pick_device
from thinice.pruning import METHODS, PruningMethod
from thinice.training import OBJECTIVES, Hook, Objective, Recipe, train
from thinice.training.passes import in_layout, laid_out

CASES: dict[str, tuple[str, dict[str, object], int, int]] = {
    "natural": ("natural", {}, 1, 0),
    "fast": ("fast", {}, 1, 1),
    "pgd, 7 steps, eval": ("pgd", {"steps": 7}, 1, 7),
    "pgd, 7 steps, train": ("pgd", {"steps": 7, "mode": "train"}, 1, 7),
    "trades, 7 steps": ("trades", {"steps": 7}, 2, 7),
}
"""Objective, settings, passes for the weights, passes for the inputs."""
SEARCHES: dict[str, tuple[str, str, dict[str, object], int]] = {
    "hydra, pgd, 7 steps": ("pgd, 7 steps, eval", "hydra", {}, 1),
    "hydra with S2AP, pgd, 7 steps": ("pgd, 7 steps, eval", "hydra", {"s2ap": 0.01, "s2ap_warmup": 0}, 2),
    "harp, pgd, 7 steps": ("pgd, 7 steps, eval", "harp", {}, 1),
    "r-admm, pgd, 7 steps": ("pgd, 7 steps, eval", "r-admm", {}, 1),
}
"""Case, pruning method, settings, passes for the scores or weights: what a search costs beside the passes it needs."""
SHAPES = {"cnn5": (1, 28, 28), "digits_cnn": (1, 8, 8)}


class Clock(Hook):
    """Notes when each step has been handed over; on CUDA the last one waits for the device."""

    def __init__(self, steps: int, clock: Callable[[], float], finish: Callable[[], None]) -> None:
        self.steps, self.clock, self.finish = steps, clock, finish
        self.times: list[float] = []

    def after_batch(self, batch: object) -> None:  # noqa: ARG002 - when is all that matters
        """Note the time."""
        if len(self.times) in {WARM_UP - 1, self.steps - 1}:
            self.finish()
        self.times.append(self.clock())


WARM_UP = 3
"""Steps that do not count."""


def seconds_a_step(times: list[float], *, cuda: bool) -> float:
    """Return the mean time of a step on CUDA, where steps overlap, and the shortest on a CPU, which others use too."""
    counted = times[WARM_UP - 1 :]
    if cuda:
        return (counted[-1] - counted[0]) / (len(counted) - 1)
    return min(after - before for before, after in pairwise(counted))


def bare(network: nn.Module, inputs: Tensor, labels: Tensor, *, weights: int, crafting: int, mode: str) -> None:
    """Run the passes that an objective cannot do without, and nothing else."""
    network.train(mode == "train")
    for _ in range(crafting):
        points = inputs.detach().requires_grad_()
        torch.autograd.grad(functional.cross_entropy(network(points), labels), points)
    network.train()
    logits = [network(inputs) for _ in range(weights)]
    network.zero_grad()
    torch.autograd.backward(sum(functional.cross_entropy(each, labels) for each in logits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--network", default="preact_resnet8")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, help="of each round; 60 on CUDA, 12 on a CPU by default")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--precisions", type=lambda text: text.split(","), default=None, help="float32; and bf16 on CUDA"
    )
    parser.add_argument("--cases", type=lambda text: text.split(";"), default=[*CASES, *SEARCHES])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    cuda = device.type == "cuda"
    if not cuda:
        torch.set_num_threads(1)  # whose time is that of the process, which others do not disturb
    options.steps = options.steps or (60 if cuda else 12)
    shape = SHAPES.get(options.network, (3, 32, 32))
    count = options.batch * options.steps
    samples = as_samples(
        torch.randint(256, (count, *shape), dtype=torch.uint8), torch.arange(count) % 10, classes=list("0123456789")
    )
    about = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "network": options.network,
        "batch": options.batch,
        "compiled": options.compile,
    }
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    print("precision | objective | ms a step | ms bare | ratio | samples a second")
    print("--- | --- | --- | --- | --- | ---")
    rows = []
    for precision in options.precisions or (["float32", "bf16"] if cuda else ["float32"]):
        for case in options.cases:
            name, settings, weights, crafting = CASES[SEARCHES[case][0] if case in SEARCHES else case]
            method = None
            if case in SEARCHES:
                _, method_name, method_settings, weights = SEARCHES[case]
                method = METHODS.make(method_name, **method_settings)
            objective = OBJECTIVES.make(name, **settings)
            recipe = Recipe(
                epochs=1, batch_size=options.batch, shift=4, flip=True, precision=precision, check_samples=1,
                compiled=options.compile,
            )  # fmt: skip
            passes = {"weights": weights, "crafting": crafting, "mode": getattr(objective, "mode", "train")}
            step, least = timed(options, samples, recipe, objective, passes, method=method, device=device)
            row = {"precision": precision, "objective": case, "step_ms": step * 1e3, "bare_ms": least * 1e3}
            row |= {"ratio": step / least, "samples_a_second": options.batch / step}
            rows.append(row)
            numbers = f"{step * 1e3:.2f} | {least * 1e3:.2f} | {step / least:.3f} | {options.batch / step:.0f}"
            print(f"{precision} | {case} | {numbers}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")


def timed(
    options: argparse.Namespace,
    samples: Samples,
    recipe: Recipe,
    objective: Objective,
    needed: dict[str, object],
    *,
    method: PruningMethod | None,
    device: torch.device,
) -> tuple[float, float]:
    """Return the seconds of a step of training, and of the bare passes."""
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    finish: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None
    torch.manual_seed(0)
    network = build(options.network, 10, channels=samples.inputs.shape[1]).to(device)
    inputs = samples.inputs[: options.batch].to(device)
    labels = samples.labels[: options.batch].to(device)
    steps, least = float("inf"), float("inf")
    for _ in range(options.rounds):
        watch = Clock(options.steps, clock, finish)
        train(network, samples, recipe, objective=objective, hooks=[watch] if method is None else [method, watch])
        if method is not None:
            method.finish(network)
            network.requires_grad_()
        steps = min(steps, seconds_a_step(watch.times, cuda=cuda))
        with laid_out(network, recipe, device) as passes:
            images = in_layout(inputs, passes)
            watch = Clock(options.steps, clock, finish)
            for _ in range(options.steps):
                bare(passes, images, labels, **needed)
                watch.after_batch(None)
            least = min(least, seconds_a_step(watch.times, cuda=cuda))
    return steps, least


if __name__ == "__main__":
    main()
