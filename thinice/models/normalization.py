"""Normalisation inside the network, so that everything outside speaks pixels in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from thinice.errors import InputError
from thinice.registry import Registry

__all__ = [
    "NORMALIZATIONS",
    "Normalization",
    "NormalizationLike",
    "Normalized",
    "inner",
    "normalization_text",
    "parse_normalization",
]

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, one number a channel or one for all, on the [0, 1] scale."""
NormalizationLike = str | tuple[float | Sequence[float], float | Sequence[float]]

NORMALIZATIONS: Registry[Normalization | None] = Registry(
    "normalization",
    {
        "none": (None, "pixels go in as they are"),
        "cifar10": (((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)), "mean and std of CIFAR-10"),
        "cifar10-imagewise": (((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)), "the mean of each image's std"),
        "cifar10-rst": (((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)), "as robust scratch tickets round it"),
        "cifar100": (((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)), "of CIFAR-100"),
        "svhn": (((0.4309, 0.4302, 0.4463), (0.1976, 0.2003, 0.1981)), "of SVHN"),
        "imagenet": (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "as torchvision's networks expect it"),
        "mnist": (((0.1307,), (0.3081,)), "of MNIST"),
        "fashion-mnist": (((0.2860,), (0.3530,)), "of Fashion-MNIST"),
        "half": (((0.5,), (0.5,)), "[0, 1] becomes [-1, 1]"),
    },
)
"""Named normalisations. One number stands for every channel."""


class Normalized(nn.Module):
    """A network that takes pixels in [0, 1]: ``network((inputs - mean) / std)``.

    Parameters
    ----------
    network
        Takes normalised inputs (N, C, H, W).
    mean, std
        One number a channel, or one for all; kept as buffers of shape (1, C, 1, 1).

    Examples
    --------
    >>> half = Normalized(nn.Identity(), mean=(0.5,), std=(0.5,))
    >>> half(torch.ones(1, 1, 1, 1)).item()
    1.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W) in [0, 1]."""
        return cast("Tensor", self.network((inputs - self.mean) / self.std))

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation as plain numbers."""
        return _numbers(self.mean), _numbers(self.std)


def inner(network: nn.Module) -> nn.Module:
    """Return the network behind its normalisation; itself where it has none.

    Examples
    --------
    >>> inner(Normalized(nn.Identity(), mean=(0.5,), std=(0.5,)))
    Identity()
    """
    return network.network if isinstance(network, Normalized) else network


def _numbers(buffer: Tensor) -> tuple[float, ...]:
    # the shortest decimal that float32 reads back exactly, so that 0.4914 stays 0.4914 in files and tables
    return tuple(float(str(value)) for value in buffer.detach().cpu().float().flatten().numpy())


def parse_normalization(value: NormalizationLike | None) -> Normalization | None:
    """Return (mean, std) of a name, of a pair of numbers or of sequences, or of the text ``"MEAN/STD"``.

    ``None`` and ``"none"`` give ``None``: pixels go in as they are.

    Raises
    ------
    InputError
        An unknown name, or numbers that cannot be a mean and a standard deviation.

    Examples
    --------
    >>> parse_normalization("mnist")
    ((0.1307,), (0.3081,))
    >>> parse_normalization("0.5,0.5,0.5/0.25,0.25,0.25")
    ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value in NORMALIZATIONS:
            return NORMALIZATIONS.get(value)
        try:
            mean, std = (tuple(float(part) for part in half.split(",")) for half in value.split("/"))
        except ValueError:
            raise InputError(
                f"`normalization` {value!r} is not known: give one of {', '.join(NORMALIZATIONS.names())}, "
                "or MEAN/STD as in 0.49,0.48,0.45/0.25,0.24,0.26"
            ) from None
    else:
        try:
            mean, std = (
                (float(part),) if isinstance(part, int | float) else tuple(float(number) for number in part)
                for part in value
            )
        except (TypeError, ValueError):
            raise InputError(f"`normalization` must be a name or a pair (mean, std), got {value!r}") from None
    if len(mean) != len(std):
        mean, std = (part * max(len(mean), len(std)) if len(part) == 1 else part for part in (mean, std))
    if not mean or len(mean) != len(std):
        raise InputError(
            f"`normalization` has {len(mean)} means and {len(std)} standard deviations: give as many of each"
        )
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise InputError(
            f"`normalization` must have finite means and positive standard deviations, got {mean} and {std}"
        )
    return None if set(mean) == {0.0} and set(std) == {1.0} else (mean, std)


def normalization_text(normalization: Normalization | None) -> str:
    """Return the name of a normalisation where it has one, else its numbers as ``MEAN/STD``.

    Examples
    --------
    >>> normalization_text(((0.1307,), (0.3081,))), normalization_text(((0.1,), (0.2,)))
    ('mnist', '0.1/0.2')
    """
    for name in NORMALIZATIONS.names():
        if NORMALIZATIONS.get(name) == normalization:
            return name
    mean, std = cast("Normalization", normalization)
    return f"{','.join(f'{number:g}' for number in mean)}/{','.join(f'{number:g}' for number in std)}"
