"""How a network is trained, as a value: everything but the network and the data, ready to be stored with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thinice.errors import InputError

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum on the cross-entropy, at a learning rate that falls along a half cosine.

    Attributes
    ----------
    epochs : int
        Passes over the data.
    learning_rate : float
        Of the first step; the last one's is almost 0 (Loshchilov and Hutter 2017, without restarts).
    batch_size : int
        Samples a step; the last step of an epoch takes what is left.
    momentum, weight_decay, label_smoothing : float
        As in torch's ``SGD`` and ``CrossEntropyLoss``.
    shift : int
        Augmentation: each image moves by up to so many pixels both ways.
    flip : bool
        Augmentation: each image is mirrored with chance one half.
    seed : int
        Of order, augmentation and dropout, but not of the initial weights: those come with the network.

    Examples
    --------
    >>> recipe = Recipe(epochs=10, learning_rate=0.2)
    >>> [round(recipe.rate(part), 3) for part in (0, 0.5, 1)]
    [0.2, 0.1, 0.0]

    """

    epochs: int
    learning_rate: float = 0.1
    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"`learning_rate` must be above 0, got {self.learning_rate!r}")
        for name, below in (("momentum", 1), ("weight_decay", math.inf), ("label_smoothing", 1)):
            value = getattr(self, name)
            if not 0 <= value < below:
                raise InputError(f"`{name}` must lie from 0 to below {below}, got {value!r}")

    def rate(self, done: float) -> float:
        """Return the learning rate when this fraction of all steps is done."""
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2
