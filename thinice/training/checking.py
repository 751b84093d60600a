"""What is measured after each epoch: accuracy and loss on held-out samples, and whether some of them are robust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from thinice.data.subset import draw
from thinice.errors import InputError
from thinice.numerics import stream
from thinice.training.passes import evaluating
from thinice.training.pgd_at import PGD

if TYPE_CHECKING:
    from thinice.data import Samples
    from thinice.training.loop import Threat
    from thinice.training.passes import Feed

__all__ = ["accuracy_and_loss", "drawn", "held_out", "robust_accuracy"]

BATCH = 500
CHECK_STEPS = 10
"""Steps of the ascent; each is 2.5 budgets over this long."""


def held_out(samples: Samples, part: float) -> tuple[Samples, Samples]:
    """Return the samples without a part of them, and that part: as many of each class, the same ones every time.

    Raises
    ------
    InputError
        Where one of the two would be empty.

    """
    count = round(part * len(samples))
    if not 0 < count < len(samples):
        raise InputError(f"`held_out` {part:g} of {len(samples)} samples leaves none on one side: give another part")
    chosen = torch.zeros(len(samples), dtype=torch.bool)
    chosen[draw(samples.sample_ids, samples.labels, count)] = True
    return samples[~chosen], samples[chosen]


def drawn(samples: Samples, most: int) -> Samples:
    """Return at most so many of the samples, the same ones every time."""
    return samples if len(samples) <= most else samples[draw(samples.sample_ids, samples.labels, most)]


@torch.no_grad()
def accuracy_and_loss(model: nn.Module, feed: Feed) -> tuple[float, float]:
    """Return the fraction of samples that a model has right in eval mode, and their mean cross-entropy in nats."""
    correct, loss = torch.zeros((), device=feed.device), torch.zeros((), device=feed.device)
    with evaluating(model):
        for _, inputs, labels in feed.batches(torch.split(torch.arange(len(feed)), BATCH)):
            logits = model(inputs)
            correct += (logits.argmax(1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
    return float(correct) / len(feed), float(loss) / len(feed)


def robust_accuracy(model: nn.Module, feed: Feed, threat: Threat, seed: int) -> float:
    """Return the fraction of samples that a model has right, and still has right after ten steps of ascent.

    An upper bound, good enough to see a collapse: `thinice evaluate` says what stronger attacks leave of it.
    """
    attack = PGD(budget=threat.budget, norm=threat.norm, steps=CHECK_STEPS)
    generator = stream(seed, "check")
    robust = torch.zeros((), device=feed.device)
    with evaluating(model):
        for _, inputs, labels in feed.batches(torch.split(torch.arange(len(feed)), BATCH)):
            crafted = attack.craft(model, inputs, labels, generator)
            with torch.no_grad():
                right = (model(inputs).argmax(1) == labels) & (model(crafted).argmax(1) == labels)
            robust += right.sum()
    return float(robust) / len(feed)
