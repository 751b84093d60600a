"""What lower bounds prove, what they cost, and which failed searches they betray.

    python benchmarks/certification.py --reference FOLDER [--networks mnistfc_256x2,digits] [--json FILE]

A line a network: samples classified correctly, the median of proved over nearest known radius and the share over 0.5,
processor seconds a sample on one thread; the shares of samples with an adversarial beyond 4/255 at the earliest, and
proved to have none within; then, for each search and threshold of the flag (`far_from_proved`), how many samples are
doubted, and how many of those whose epsilon lies over 20 % and over 50 % too far, by the nearest adversarial that any
of the searches found, or that a complete verifier did. Networks on MNIST are trained when first asked for, in minutes,
and kept in `.cache`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import mnist, trained
from torch import Tensor, nn

import thinice
from thinice.analysis.certifying import ABOVE, far_from_proved
from thinice.models import Classifier
from thinice.types import Norm

SEARCHES: dict[str, dict[str, Any]] = {
    "tmn standard": {},
    "tmn quick": {"effort": "quick"},
    "fmn 10 steps": {"attack": "fmn", "steps": 10},
    "fmn 1 step": {"attack": "fmn", "steps": 1},
}
OTHERS = ({"effort": "thorough", "seed": 1}, {"attack": "fmn", "steps": 300})
THRESHOLDS = (0.5, 0.6, 0.7, 0.8)
"""Of the flag, as shares of the network's median ratio; all are tried."""
CONVOLUTIONAL = ("mnist_cnn", "at_cnn", "ibp_cnn")
SAMPLES = {
    "digits_fc": 200,
    "mnistfc_256x2": 100,
    "mnistfc_256x2_others": 200,
    "mnist_cnn": 50,
    "at_cnn": 50,
    "ibp_cnn": 50,
    "oval_cifar_base_kw": 10,
    "resnet_2b": 3,
    "digits": 30,
}
BUDGET = 4 / 255
FARTHER = 0.05
"""An epsilon that is too far by more than this share has its bound proved anew, in balls of its own size."""
CACHE = Path(__file__).parent / ".cache"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(SAMPLES))
    parser.add_argument("--searches", type=lambda text: text.split(","), default=list(SEARCHES))
    parser.add_argument("--samples", type=int, help="of each network, instead of its own number")
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in options.networks:
        network, inputs, labels, counterexample = load(name, options.reference, options.samples or SAMPLES[name])
        rows[name] = row(network, inputs, labels, counterexample, norm=options.norm, searches=options.searches)
        print(name, json.dumps(rows[name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps({"norm": options.norm, "networks": rows}, indent=1) + "\n")


def row(
    network: Classifier,
    inputs: Tensor,
    labels: Tensor,
    counterexample: np.ndarray | None,
    *,
    norm: Norm,
    searches: list[str],
) -> dict[str, Any]:
    def measured(settings: dict[str, Any]) -> np.ndarray:
        return thinice.measure(network, inputs, labels=labels, norm=norm, progress=False, **settings).epsilon.numpy()

    def bounds(epsilon: np.ndarray, some: np.ndarray) -> np.ndarray:
        limit = torch.from_numpy(ABOVE * epsilon[some].astype(np.float64))
        return thinice.lower_bounds(network, inputs[some], labels[some], limit, norm).numpy()

    found = {name: measured(SEARCHES[name]) for name in searches}
    known = [*found.values(), *map(measured, OTHERS)]
    nearest = np.fmin.reduce(known if counterexample is None else [*known, counterexample])
    right = nearest > 0
    start = time.process_time()
    lower = bounds(nearest, np.ones(len(nearest), np.bool_))
    seconds = (time.process_time() - start) / len(inputs)
    ratio = lower[right] / nearest[right]
    numbers: dict[str, Any] = {
        "samples": int(right.sum()),
        "median ratio": round(float(np.median(ratio)), 3),
        "over 0.5": round(float((ratio > 0.5).mean()), 3),
        "seconds": round(seconds, 3),
        "found beyond 4/255": round(float((nearest[right] > BUDGET).mean()), 3),
        "proved beyond 4/255": round(float((lower[right] > BUDGET).mean()), 3),
    }
    for name, epsilon in found.items():
        excess = epsilon / np.where(right, nearest, np.nan) - 1
        its_own = lower.copy()  # rounds that begin at a larger epsilon may prove less
        farther = excess > FARTHER
        its_own[farther] = bounds(epsilon, farther)
        too_far = {f"over {share:.0%} too far": excess > share for share in (0.2, 0.5)}
        numbers[name] = {what: int(which.sum()) for what, which in too_far.items()}
        numbers[name]["farthest"] = round(float(np.nanmax(excess)), 3)
        for threshold in THRESHOLDS:
            doubted = np.zeros(len(epsilon), np.bool_)
            doubted[far_from_proved(its_own, epsilon, np.where(epsilon > 0, 1, 0), far=threshold)] = True
            caught = {f"{what}, doubted": int((doubted & which).sum()) for what, which in too_far.items()}
            numbers[name][f"threshold {threshold:g}"] = {"doubted": int(doubted.sum())} | caught
    return numbers


def load(name: str, reference: Path, count: int) -> tuple[Classifier, Tensor, Tensor, np.ndarray | None]:
    """Return a network, samples of its data, and their distances to what complete verifiers found, where they did."""
    if name == "digits":
        samples = thinice.load_samples("digits", limit=count)
        return thinice.load_classifier(thinice.example_checkpoints()["dense"]), samples.inputs[:], samples.labels, None
    if name == "digits_fc":
        samples = thinice.load_samples("digits", limit=count)
        return thinice.as_classifier(fully_connected(), name=name), samples.inputs[:], samples.labels, None
    if name in CONVOLUTIONAL:
        images, labels = mnist(reference, "t10k")
        return thinice.as_classifier(trained(name, reference, CACHE), name=name), images[:count], labels[:count], None
    others, name = name.endswith("_others"), name.removesuffix("_others")
    folder = reference / "data" / "verified"
    data = np.load(folder / f"{name}.npz")
    normalization = tuple(tuple(data[key].tolist()) for key in ("mean", "std"))
    network = thinice.load_classifier(folder / f"{name}.onnx", normalization=normalization)
    if name == "mnistfc_256x2":  # the samples of the brackets, or none of them
        brackets, (images, labels) = np.load(folder / f"{name}_brackets.npz"), mnist(reference, "t10k")
        ids = np.setdiff1d(np.arange(len(labels)), brackets["sample_ids"]) if others else brackets["sample_ids"]
        ids = ids[:count]
        return network, images[ids], labels[ids], None if others else brackets["counterexample"][:count]
    images = torch.from_numpy(data["images"][:count]).float() / 255
    return network, images, torch.from_numpy(data["labels"][:count]).long(), None


def fully_connected() -> nn.Module:
    """Return a small network for the digits, trained naturally."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    samples = thinice.load_samples("digits", split="train")
    inputs, labels = samples.inputs[:], samples.labels
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(60):
        for part in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[part]), labels[part]).backward()
            optimizer.step()
    return network.eval()


if __name__ == "__main__":
    main()
