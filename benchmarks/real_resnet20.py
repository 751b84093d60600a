"""The main job on a real network: prune a published CIFAR-10 ResNet-20 with thinice's own code, and save the pair.

    python benchmarks/real_resnet20.py CHECKPOINT IMAGES FOLDER [--exact FILE.npz] [--sparsity 0.9 …] [--epochs 6]

CHECKPOINT  a foreign state dict of the narrow ResNet-20, normalised with the constants of ImageNet
            (akamaster/pytorch_resnet_cifar10 publishes one)
IMAGES      an image tree with the folders train/CLASS/* and test/CLASS/*
FOLDER      where dense.pt and pruned-*.pt go; interrupted, the same command goes on after the last whole epoch
--exact     further test images, whose accuracy is printed beside that of the test folder

The dense network stays as it was found; the pruned ones are fine-tuned on the training images. Then:

    thinice compare FOLDER/dense.pt FOLDER/pruned-90.pt --data folder:IMAGES
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

from thinice.data import Samples, load_samples
from thinice.models import Classifier, load_classifier, save_classifier
from thinice.pruning import prune
from thinice.training import Epoch, Recipe, accuracy, train


def main(arguments: argparse.Namespace) -> None:
    """Save and test the dense network, then prune, fine-tune, save and test at each sparsity."""
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = f"folder:{arguments.images}"
    images, test = load_samples(data, split="train"), load_samples(data, split="test")
    test_sets = {"test images": test}
    if arguments.exact is not None:
        test_sets["exact images"] = load_samples(f"npz:{arguments.exact}", split="all")

    found = load_classifier(arguments.checkpoint, normalization="imagenet")
    facts = {"class_names": test.classes, "data": "cifar10"}
    dense = load_classifier(
        save_classifier(found, folder / "dense.pt", recipe={"found": arguments.checkpoint.name}, **facts)
    )
    report(dense, test_sets)

    recipe = Recipe(epochs=arguments.epochs, learning_rate=0.05, shift=4, flip=True)
    # All in memory: decoding the files in every epoch takes as long as the network does.
    images = replace(images, inputs=images.inputs[:])
    for sparsity in arguments.sparsity:
        name = f"pruned-{sparsity * 100:g}"
        method = {"method": "magnitude", "sparsity": sparsity, "scope": "global", "structure": "weight"}
        pruned = prune(dense, **method)
        pruned.module.eval()
        print(f"{name} before fine-tuning: {accuracy(pruned.module, test):.4f}", flush=True)
        start = time.monotonic()
        train(
            pruned.module,
            images,
            recipe,
            masks=pruned.masks,
            progress=show,
            resume=folder / f"{name}.training",
        )
        print(f"{name}: fine-tuned in {time.monotonic() - start:.0f} s", flush=True)
        origin = {"name": "CIFAR-10 images", "split": images.split, "fingerprint": images.fingerprint}
        whole = {"data": origin, "pruning": method, "training": {"objective": "natural"} | asdict(recipe)}
        path = save_classifier(pruned.module, folder / f"{name}.pt", recipe=whole, parent=dense, **facts)
        report(load_classifier(path), test_sets)


def show(epoch: Epoch) -> None:
    """Print a line an epoch."""
    print(
        f"  epoch {epoch.number}: loss {epoch.loss:.4f}, training accuracy {epoch.accuracy:.4f}, {epoch.seconds:.0f} s",
        flush=True,
    )


def report(network: Classifier, test_sets: dict[str, Samples]) -> None:
    """Print sparsity, and accuracy on each set."""
    accuracies = ", ".join(
        f"{accuracy(network.module, samples):.4f} on {len(samples)} {kind}" for kind, samples in test_sets.items()
    )
    print(f"{network.name}: sparsity {network.sparsity:.4f}, accuracy {accuracies}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exact", type=Path)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9])
    parser.add_argument("--epochs", type=int, default=6)
    main(parser.parse_args())
