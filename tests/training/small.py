"""A task that is learnt in an epoch or two, and a network with every kind of layer that training treats its own way."""

import torch
from torch import nn

from thinice.data import as_samples


def blobs(count=200):
    """Images of two classes: bright on the left, bright on the right."""
    labels = torch.arange(count) % 2
    inputs = 0.3 * torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    inputs[labels == 0, :, :, :2] += 0.5
    inputs[labels == 1, :, :, 2:] += 0.5
    return as_samples(inputs, labels)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64, 2),
        )


def weights(module):
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])
