"""Does the science change with the attack? AUC and log10 p of real comparisons, by attack and effort.

    python benchmarks/attacks_and_auc.py --store FILE [--images FOLDER --weights FILE] [--limit 400]

Compares the embedded digits networks; with a folder of CIFAR-10 test images and a CIFAR-10 ResNet-20, also that one
with 60 % of its weights pruned by magnitude, without training. The same samples for every attack.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import thinice
from thinice.attacks import Attack

ATTACKS: dict[str, dict[str, object]] = {
    "fmn 30": {"name": "fmn", "steps": 30},
    "fmn 100": {"name": "fmn", "steps": 100},
    "foolbox fmn 100": {"name": "foolbox:LInfFMNAttack", "steps": 100},
    "quick": {"name": "tmn", "effort": "quick"},
    "standard": {"name": "tmn", "effort": "standard"},
    "thorough": {"name": "tmn", "effort": "thorough"},
    "fmn 1000": {"name": "fmn", "steps": 1000},
}


def digits() -> tuple[list[thinice.Classifier], thinice.Samples]:
    paths = thinice.example_checkpoints()
    return [thinice.load_classifier(path) for path in paths.values()], thinice.load_samples("digits", split="test")


def cifar10(images: Path, weights: Path, limit: int) -> tuple[list[thinice.Classifier], thinice.Samples]:
    statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    dense = thinice.load_classifier(weights, architecture="resnet20", normalization=statistics)
    samples = thinice.load_samples(f"folder:{images}", split="test")
    picked = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[:limit].sort().values
    pruned = thinice.as_classifier(thinice.prune(dense, sparsity=0.6).module, name="pruned-60")
    return [dense, pruned], samples[picked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--limit", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = {"digits": digits()}
    if options.images and options.weights:
        jobs["cifar10"] = cifar10(options.images, options.weights, options.limit)
    print("networks | attack | mean epsilon x 255 | pruned | kept | lost | AUC | log10 p")
    print("--- | --- | --- | --- | --- | --- | --- | ---")
    for name, ((dense, *pruned), samples) in jobs.items():
        for label, settings in ATTACKS.items():
            attack: Attack = thinice.make_attack(norm="linf", **settings)  # type: ignore[arg-type]
            for network in pruned:
                result = thinice.compare(dense, network, samples, attack=attack, store=options.store, progress=False)
                rows, found, counts = result.frame(), result.separation, result.counts
                mean = 255 * rows.epsilon[rows.outcome == "found"].mean()
                print(
                    f"{name} | {label} | {mean:.4f} | {network.name} "
                    f"| {counts['S1,1']} | {counts['S1,0']} | {found.auc:.4f} | {found.log10_p:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
