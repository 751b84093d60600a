"""Make the embedded example: a network for the digits, and the same network pruned at 90 and 95 %.

    python data/digits/make.py [FOLDER]

Writes dense.pt, pruned-90.pt and pruned-95.pt into the folder (this one if none is given) and prints the table of
README.md. Takes about ten seconds on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from thinice.data import Samples, load_samples
from thinice.models import Classifier, build, load_classifier, save_classifier
from thinice.pruning import prune
from thinice.training import Recipe, train

SPARSITIES = (0.90, 0.95)
TRAINING = Recipe(epochs=30, learning_rate=0.05, batch_size=64, shift=1, channels_last=False)
FINE_TUNING = Recipe(epochs=5, learning_rate=0.01, batch_size=64, shift=1, channels_last=False)
OBJECTIVE = "natural"
SETTINGS = (
    *("epochs", "learning_rate", "batch_size", "momentum", "weight_decay", "shift", "flip", "seed", "schedule"),
)
"""What the files say of a training."""


def main(folder: Path) -> None:
    """Train, prune, fine-tune, save, and print what the saved files do on the test samples."""
    torch.set_num_threads(1)  # the sums of several threads come in another order
    samples = load_samples("digits", split="train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRAINING.seed)
        module = build("digits_cnn", len(samples.classes))
    facts = {"class_names": samples.classes, "data": samples.name}
    origin = {"data": {"name": samples.name, "split": samples.split, "fingerprint": samples.fingerprint}}

    train(module, samples, TRAINING, objective=OBJECTIVE)
    recipe = origin | {"training": told(TRAINING)}
    dense = load_classifier(save_classifier(module, folder / "dense.pt", recipe=recipe, **facts))
    networks = [dense]
    for sparsity in SPARSITIES:
        method = {"method": "magnitude", "sparsity": sparsity, "scope": "global", "structure": "weight"}
        pruned = prune(dense, **method)
        train(pruned.module, samples, FINE_TUNING, objective=OBJECTIVE, masks=pruned.masks)
        recipe = origin | {"pruning": method, "training": told(FINE_TUNING)}
        path = folder / f"pruned-{sparsity * 100:.0f}.pt"
        networks.append(load_classifier(save_classifier(pruned.module, path, recipe=recipe, parent=dense, **facts)))
    print(table(networks, load_samples("digits", split="test")))


def told(recipe: Recipe) -> dict[str, object]:
    """Return what a file says of a training."""
    return {"objective": OBJECTIVE} | {name: getattr(recipe, name) for name in SETTINGS}


def table(networks: list[Classifier], samples: Samples) -> str:
    """Return what README.md says of the files, the first of which is the dense one."""
    right = [correct(network, samples) for network in networks]
    rows = [
        "| file | sparsity | correct | accuracy | lost (S1,0) | gained (S0,1) | bytes | fingerprint |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for network, now in zip(networks, right, strict=True):
        lost, gained = int((right[0] & ~now).sum()), int((~right[0] & now).sum())
        rows.append(
            f"| {network.path.name} | {network.sparsity:.4f} | {int(now.sum())} of {len(samples)} "
            f"| {now.float().mean():.4f} | {lost} | {gained} | {network.path.stat().st_size} "
            f"| {network.fingerprint} |"
        )
    return "\n".join(rows)


@torch.no_grad()
def correct(network: Classifier, samples: Samples) -> Tensor:
    """Return (N,) whether each sample is classified correctly."""
    return network(samples.inputs[:]).argmax(1) == samples.labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    main(parser.parse_args().folder)
