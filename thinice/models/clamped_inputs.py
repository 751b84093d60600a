"""The ends of the box: a network that clamps its inputs has no gradient there, though it has one a hair inside.

torch's ``clamp`` and ``hardtanh`` have gradient 0 where they just begin to act, and ``minimum`` and ``maximum`` half of
it. Behind one of them, the slope of every black and white pixel is hidden from whoever searches along gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from thinice.losses import input_gradient

__all__ = ["Onlooker", "drawn_in", "hides_ends", "seen_inside"]

Model = Callable[[Tensor], Tensor]

HAIR = 2.0**-20
"""How far inside gradients are taken: no attack notices it, and float32 keeps it through a normalisation."""
PROBES = 4
"""So many random images, a third of their pixels black and a third white, tell whether a network hides the ends."""
MUTED = 0.75
"""A gradient at the end is hidden where it is less than this share of the one inside: a clamp leaves 0 or a half."""
ALMOST_ALL = 0.9
"""So many of the pixels at an end must be hidden: a unit here or there may sit at its kink."""


def drawn_in(inputs: Tensor) -> Tensor:
    """Return the inputs with values at the ends of the box a hair inside; gradients go back to the inputs unchanged.

    >>> inside = drawn_in(torch.tensor([0.0, 0.5, 1.0]))
    >>> inside[1].item(), (inside - torch.tensor([0.0, 0.5, 1.0])).abs().max().item() == HAIR
    (0.5, True)
    """
    return inputs + (inputs.clamp(HAIR, 1 - HAIR) - inputs).detach()


class Onlooker(nn.Module):
    """A network that something looks on at as it is asked: what is drawn in stands behind the onlooker."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def over(self, model: Model) -> Onlooker:
        """Return what looks on at another form of the network, and takes down in the same place."""
        raise NotImplementedError


class Inside(nn.Module):
    """A network whose gradients are taken a hair inside the box; without gradients it answers at the exact point."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        behind = None if isinstance(model, nn.Module) else getattr(model, "module", None)
        self.model: Any = behind if isinstance(behind, nn.Module) else model  # so that it can be copied to float64

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W) in [0, 1]."""
        sloped = torch.is_grad_enabled() and inputs.requires_grad
        logits: Tensor = self.model(drawn_in(inputs) if sloped else inputs.clone())
        return logits


def seen_inside(model: Model, inputs: Tensor) -> Model:
    """Return the network as a search should see it: itself, or `Inside` where it hides the ends of the box.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs : Tensor
        (N, C, H, W): their shape and device count alone, so that no sample depends on others. Of none, nothing is
        asked.

    Examples
    --------
    >>> def bright(inputs):
    ...     return torch.cat([1 - inputs.flatten(1), inputs.flatten(1)], 1)
    >>> some = torch.zeros(1, 1, 2, 2)
    >>> seen_inside(bright, some) is bright
    True
    >>> type(seen_inside(lambda inputs: bright(inputs.clamp(0, 1)), some)).__name__
    'Inside'
    """
    if isinstance(model, Onlooker):
        behind = seen_inside(model.model, inputs)
        return model if behind is model.model else model.over(behind)
    return Inside(model) if hides_ends(model, inputs) else model


def hides_ends(model: Model, inputs: Tensor) -> bool:
    """Return whether a network's gradients vanish, or halve, at 0 or at 1 and nowhere near: a clamp is in the way.

    Asked are four random images (`PROBES`) of the shape of the inputs, at the exact point and a hair inside, each by
    itself. Whatever else is random in a network draws as it would have without.

    Parameters
    ----------
    model, inputs
        As of `seen_inside`.
    """
    if not inputs[0:1].numel():
        return False
    asked = torch.zeros(2, device=inputs.device)  # of the pixels at 0, and at 1
    hidden = torch.zeros_like(asked)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        for probe in _probes(inputs):
            exact, inside = _slope(model, probe).abs(), _slope(model, drawn_in(probe)).abs()
            ends = torch.stack([probe.flatten() == end for end in (0, 1)]) & (inside > 0)
            asked += ends.sum(1)
            hidden += (ends & (exact < MUTED * inside)).sum(1)
    return bool(((asked > 0) & (hidden >= ALMOST_ALL * asked)).any())


def _probes(inputs: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(PROBES):
        levels = torch.rand(1, *inputs.shape[1:], generator=generator)
        yield (3 * levels - 1).clamp(0, 1).to(inputs.device)


def _slope(model: Model, point: Tensor) -> Tensor:
    """Return the gradient (D,) of a fixed combination of the logits of one image."""
    point = point.clone().requires_grad_()
    with torch.enable_grad():
        logits = model(point.clone())
        value = (logits * torch.linspace(-1, 1, logits.shape[1], device=logits.device)).sum(1)
    return input_gradient(value, point).squeeze(0)
