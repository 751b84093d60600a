"""The headline figure: a whole test set on one device, `measure` beside foolbox's and adversarial-library's FMN.

    python benchmarks/gpu.py --data cifar10 --checkpoint resnet18.pt [--device cuda] [--norms linf,l2] [--json FILE]
    python benchmarks/gpu.py --data cifar10 --epochs 30        trains a ResNet-18 first
    python benchmarks/gpu.py --data digits --limit 32 --device cpu        a minute, to see that it works

All of them in one process, one after the other, on the same samples, batches and network; every adversarial is verified
by the network as it was loaded, in IEEE float32. The peers run with 200 steps in their own arithmetic: on CUDA, torch
multiplies in TF32 inside convolutions unless told otherwise. Peers that are not installed are left out, and said so.
foolbox's FMN for l2 never uses its radius, so that its epsilons are several times too long.
`--agree N` also measures N samples on the CPU and says how far the epsilons are apart.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

import thinice
from thinice.attacks import MinNormResult, concatenate, verify
from thinice.attacks.result import predict
from thinice.models import Classifier, as_classifier, build
from thinice.numerics import exact, lowered, pick_device
from thinice.training import Recipe, train

STEPS = 200
FOOLBOX = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
Peer = Callable[[Classifier, Tensor, Tensor, str], Tensor]
Work = TypeVar("Work")
Row = dict[str, str | float | int | None]


def foolbox_fmn(network: Classifier, inputs: Tensor, labels: Tensor, norm: str) -> Tensor:
    """Return the points that foolbox's FMN ends with."""
    import foolbox

    wrapped = foolbox.PyTorchModel(network.module, bounds=(0, 1), device=inputs.device)
    attack = getattr(foolbox.attacks, FOOLBOX[norm])(steps=STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        points: Tensor = attack(wrapped, inputs, labels, epsilons=None)[1]
    return points


def library_fmn(network: Classifier, inputs: Tensor, labels: Tensor, norm: str) -> Tensor:
    """Return the points that adversarial-library's FMN ends with."""
    from adv_lib.attacks import fmn

    points: Tensor = fmn(network.module, inputs, labels, norm=ORDERS[norm], steps=STEPS)
    return points


PEERS: dict[str, tuple[str, Peer]] = {
    "foolbox FMN-200": ("foolbox", foolbox_fmn),
    "adversarial-library FMN-200": ("adv_lib", library_fmn),
}


@dataclass
class Job:
    """What is measured, and where."""

    network: Classifier
    samples: thinice.Samples
    device: torch.device
    batch: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels, on the device."""
        for start in range(0, len(self.samples), self.batch):
            part = slice(start, start + self.batch)
            yield self.samples.inputs[part].to(self.device).contiguous(), self.samples.labels[part].to(self.device)

    def timed(self, work: Callable[[], Work]) -> tuple[Work, float, float | None]:
        """Return the result, the seconds until the device has finished, and the peak of its memory in MB on CUDA."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        nearest = work()
        if on_gpu:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        return nearest, seconds, torch.cuda.max_memory_allocated(self.device) / 1e6 if on_gpu else None

    def ours(self, norm: str, attack: str, precision: str, *, compiled: bool) -> MinNormResult:
        """Return what `measure` finds."""
        return thinice.measure(
            self.network, self.samples, norm=norm, attack=attack, precision=precision, compiled=compiled,
            device=self.device, batch_size=self.batch, progress=False,
        )  # fmt: skip

    def theirs(self, norm: str, peer: Peer) -> MinNormResult:
        """Return which of a peer's points are verified adversarials."""
        parts = []
        for inputs, labels in self.batches():
            points = peer(self.network, inputs, labels, norm).detach()
            spent = torch.full_like(labels, STEPS, dtype=torch.float32)
            with exact(self.device):
                clean = predict(self.network, inputs)
                verdict = verify(
                    self.network, inputs, points, labels, norm=norm, evaluations=spent, clean_predictions=clean
                )
            parts.append(verdict.to("cpu"))
        return concatenate(parts, like=self.samples.inputs[:0])

    def refused(self, nearest: MinNormResult) -> int:
        """Return how many of the adversarials do not fool the network when it is asked again."""
        wrong = 0
        with exact(self.device):
            for start in range(0, len(nearest), self.batch):
                part = slice(start, start + self.batch)
                seen = predict(self.network, nearest.adversarials[part].to(self.device)).cpu()
                wrong += int((nearest.found[part] & (seen == self.samples.labels[part])).sum())
        return wrong


def bare_passes(job: Job, precision: str, passes: int = 20) -> float:
    """Return the seconds a sample of a bare forward-backward pass, gradients of the inputs: the floor of a search."""
    inputs, labels = next(iter(job.batches()))

    def run() -> None:
        with exact(job.device), lowered(job.network.module, precision, job.device) as model:
            for _ in range(passes):
                points = inputs.clone().requires_grad_()
                torch.autograd.grad(model(points).gather(1, labels[:, None]).sum(), points)

    run()
    return job.timed(run)[1] / passes / len(inputs)


def profile_of(job: Job, norm: str, attack: str) -> str:
    """Return the operations that one batch spends most time in, on the processor and on the device."""
    some = Job(job.network, job.samples[: job.batch], job.device, job.batch)
    with torch.profiler.profile() as profiler:
        some.timed(partial(some.ours, norm, attack, "float32", compiled=False))
    averages = profiler.key_averages()
    columns = ["self_cpu_time_total", *(["self_cuda_time_total"] if job.device.type == "cuda" else [])]
    return "\n".join(averages.table(sort_by=name, row_limit=25, max_name_column_width=60) for name in columns)


def row(name: str, norm: str, job: Job, work: Callable[[], MinNormResult]) -> tuple[Row, MinNormResult]:
    nearest, seconds, memory = job.timed(work)
    found = nearest.epsilon[nearest.found].double()
    facts: Row = {
        "norm": norm,
        "attack": name,
        "seconds": seconds,
        "samples_a_second": len(nearest) / seconds,
        "mean_epsilon": float(found.mean()),
        "median_epsilon": float(found.median()),
        "not_found": int((nearest.outcomes == thinice.Outcome.NOT_FOUND).sum()),
        "evaluations": float(nearest.evaluations.mean()),
        "refused": job.refused(nearest),
        "memory_mb": memory,
    }
    columns = ("seconds", "mean_epsilon", "median_epsilon", "not_found", "evaluations", "refused", "memory_mb")
    numbers = " | ".join("" if facts[column] is None else f"{facts[column]:.5g}" for column in columns)
    print(f"{norm} | {name} | {numbers}", flush=True)
    return facts, nearest


def agreement(job: Job, norm: str, attack: str, count: int) -> Row:
    """Return how far the epsilons of the device and of the CPU are apart, relative to the CPU's."""
    some = job.samples[:count]
    here, there = (
        thinice.measure(job.network, some, norm=norm, attack=attack, device=device, progress=False)
        for device in ("cpu", job.device)
    )
    both = here.found & there.found
    apart = (there.epsilon[both] / here.epsilon[both] - 1).double()
    return {
        "norm": norm,
        "samples": len(some),
        "same_outcome": float((here.outcomes == there.outcomes).double().mean()),
        "median_relative": float(apart.median()),
        "median_absolute_relative": float(apart.abs().median()),
    }


def prepared(options: argparse.Namespace, device: torch.device) -> tuple[Classifier, thinice.Samples]:
    samples = thinice.load_samples(options.data, split="test", limit=options.limit)
    if options.checkpoint is not None:
        return thinice.load_classifier(options.checkpoint, normalization=options.normalization), samples
    if options.data == "digits":
        return thinice.load_classifier(thinice.example_checkpoints()["dense"]), samples
    if options.epochs is None:
        raise SystemExit("give a --checkpoint, or --epochs to train a ResNet-18")
    torch.manual_seed(0)
    images = thinice.load_samples(options.data, split="train")
    module = build("resnet18", len(samples.classes), channels=samples.inputs.shape[1]).to(device)
    train(module, images, Recipe(epochs=options.epochs, shift=4, flip=True), progress=print)
    return as_classifier(module.cpu(), name=f"resnet18, {options.epochs} epochs"), samples


def main() -> None:
    words: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731 - a type for argparse
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--normalization", help="of the checkpoint, as in thinice measure")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="the same for all; 1024 on CUDA and 64 on a CPU by default")
    parser.add_argument("--norms", type=words, default=["linf", "l2"])
    parser.add_argument("--attack", default="tmn")
    parser.add_argument("--precisions", type=words, default=None, help="float32, bf16, and tf32 on CUDA by default")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="end with what a batch spends its time in")
    parser.add_argument("--agree", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    cuda = device.type == "cuda"
    network, samples = prepared(options, device)
    job = Job(network.to(device), samples, device, options.batch or (1024 if cuda else 64))
    peers = {name: peer for name, (package, peer) in PEERS.items() if find_spec(package) is not None}
    about = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine(),
        "network": network.name,
        "samples": f"{len(samples)} of {samples.name} ({samples.split})",
        "batch": str(job.batch),
        "left out": ", ".join(name for name in PEERS if name not in peers) or "nothing",
        **{name: _version(name) for name in ("thinice", "torch", "foolbox", "adv_lib")},
    }
    print(", ".join(f"{name}: {value}" for name, value in about.items()))
    precisions = options.precisions or ["float32", "bf16", *(["tf32"] if cuda else [])]
    warm = Job(job.network, samples[: job.batch], device, job.batch)  # kernels are chosen when they are first used
    for precision in precisions:
        warm.ours(options.norms[0], options.attack, precision, compiled=False)
        print(f"bare passes, {precision}: {1e6 * bare_passes(job, precision):.4g} microseconds a sample and pass")
    print("norm | attack | seconds | mean | median | not found | passes | refused | MB")
    print("--- | --- | --- | --- | --- | --- | --- | --- | ---")
    rows, agreed = [], []
    for norm in options.norms:
        for precision in precisions:
            ours = partial(job.ours, norm, options.attack, precision, compiled=options.compile)
            rows.append(row(f"thinice {options.attack}, {precision}", norm, job, ours)[0])
        rows += [row(name, norm, job, partial(job.theirs, norm, peer))[0] for name, peer in peers.items()]
        if options.agree:
            agreed.append(agreement(job, norm, options.attack, options.agree))
            print(", ".join(f"{name} {value}" for name, value in agreed[-1].items()), flush=True)
    if options.profile:
        print(profile_of(job, options.norms[0], options.attack))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": rows, "agreement": agreed}, indent=2) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
