"""What lower bounds prove, what they cost, and which failed searches they betray.

    python benchmarks/certification.py --reference FOLDER [--networks mnistfc_256x2,digits] [--json FILE]

A line a network: samples classified correctly, the median of proved over nearest known radius and the share over 0.5,
processor seconds a sample on one thread; the shares of samples with an adversarial beyond 4/255 at the earliest, and
proved to have none within; then, for two searches, how many epsilons lie over 20 % and over 50 % too far, by the
nearest adversarial that any of the searches found, and how many of these are doubted (`far_from_proved`).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import mnist
from torch import Tensor, nn

import thinice
from thinice.analysis.certifying import far_from_proved
from thinice.models import Classifier

SEARCHES = {"tmn standard": {}, "fmn 10 steps": {"attack": "fmn", "steps": 10}}
OTHERS = ({"effort": "thorough"}, {"attack": "fmn", "steps": 300})
SAMPLES = {"mnistfc_256x2": 100, "digits_fc": 200, "digits": 30, "oval_cifar_base_kw": 10, "resnet_2b": 3}
BUDGET = 4 / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(SAMPLES))
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in options.networks:
        network, inputs, labels = load(name, options.reference, SAMPLES[name])
        rows[name] = row(network, inputs, labels, options.norm)
        print(name, json.dumps(rows[name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps({"norm": options.norm, "networks": rows}, indent=1) + "\n")


def row(network: Classifier, inputs: Tensor, labels: Tensor, norm: str) -> dict[str, Any]:
    def measured(settings: dict[str, Any]) -> np.ndarray:
        return thinice.measure(network, inputs, labels=labels, norm=norm, progress=False, **settings).epsilon.numpy()

    found = {name: measured(settings) for name, settings in SEARCHES.items()}
    nearest = np.fmin.reduce([*found.values(), *map(measured, OTHERS)])
    right = nearest > 0
    start = time.process_time()
    lower = thinice.lower_bounds(network, inputs, labels, torch.from_numpy(1.05 * nearest), norm).numpy()
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
        doubted = np.zeros(len(epsilon), np.bool_)
        doubted[far_from_proved(lower, epsilon, np.where(epsilon > 0, 1, 0))] = True
        excess = epsilon / np.where(right, nearest, np.nan) - 1
        numbers[name] = {"doubted": int(doubted.sum())}
        for share in (0.2, 0.5):
            too_far = excess > share
            numbers[name][f"over {share:.0%} too far, doubted"] = [int(too_far.sum()), int((doubted & too_far).sum())]
    return numbers


def load(name: str, reference: Path, count: int) -> tuple[Classifier, Tensor, Tensor]:
    """Return a network and samples of its data."""
    if name == "digits":
        samples = thinice.load_samples("digits", limit=count)
        return thinice.load_classifier(thinice.example_checkpoints()["dense"]), samples.inputs[:], samples.labels
    if name == "digits_fc":
        samples = thinice.load_samples("digits", limit=count)
        return thinice.as_classifier(fully_connected(), name=name), samples.inputs[:], samples.labels
    folder = reference / "data" / "verified"
    data = np.load(folder / f"{name}.npz")
    normalization = tuple(tuple(data[key].tolist()) for key in ("mean", "std"))
    network = thinice.load_classifier(folder / f"{name}.onnx", normalization=normalization)
    if name == "mnistfc_256x2":  # the samples of the brackets
        ids = np.load(folder / f"{name}_brackets.npz")["sample_ids"][:count]
        images, labels = mnist(reference, "t10k")
        return network, images[ids], labels[ids]
    return (
        network,
        torch.from_numpy(data["images"][:count]).float() / 255,
        torch.from_numpy(data["labels"][:count]).long(),
    )


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
