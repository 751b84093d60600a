"""Networks that clamp their inputs to [0, 1]: their gradient at 0 and 1 is zero, or half of what it is just inside.

torch's ``clamp`` and ``hardtanh`` have gradient 0 exactly at their limits, ``minimum`` and ``maximum`` half of it. An
attack by gradients would leave every black and white pixel as it is; so gradients are taken `HAIR` inside the box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from thinice.losses import input_gradient
from thinice.models.classifier import Classifier

__all__ = ["Onlooker", "drawn_in", "hides_ends", "seen_inside"]

Model = Callable[[Tensor], Tensor]

HAIR = 2.0**-20
"""How far inside gradients are taken: far below any epsilon, and not lost to float32 in a normalisation."""
PROBES = 4
"""Random images, a third of their pixels black and a third white, on which gradients at 0 and 1 are tested."""
MUTED = 0.75
"""A gradient at 0 or 1 counts as hidden where it is below this share of the one inside: a clamp leaves 0 or half."""
ALMOST_ALL = 0.9
"""Share of the pixels at 0, or at 1, that must be hidden: a ReLU may be at its kink for some."""

_KNOWN: WeakKeyDictionary[Classifier, dict[torch.Size, bool]] = WeakKeyDictionary()
"""Which classifiers hide their gradients at the ends, by the shape of a sample: they are frozen, so asked once."""


def drawn_in(inputs: Tensor) -> Tensor:
    """Return the inputs with 0 and 1 moved `HAIR` inside the box; gradients go back to the inputs unchanged.

    >>> inside = drawn_in(torch.tensor([0.0, 0.5, 1.0]))
    >>> inside[1].item(), (inside - torch.tensor([0.0, 0.5, 1.0])).abs().max().item() == HAIR
    (0.5, True)
    """
    return inputs + (inputs.clamp(HAIR, 1 - HAIR) - inputs).detach()


class Onlooker(nn.Module):
    """A network whose calls are observed: inputs are moved inside the box after the observer has seen them."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def over(self, model: Model) -> Onlooker:
        """Return an observer of another form of the network that records in the same place."""
        raise NotImplementedError


class Inside(nn.Module):
    """A network whose gradients are taken `HAIR` inside the box; without gradients, the exact point counts."""

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
    """Return the network for a search by gradients: itself, or `Inside` where its gradients at 0 or 1 are hidden.

    Parameters
    ----------
    model : callable
        Takes inputs (N, C, H, W) in [0, 1] to logits (N, K).
    inputs : Tensor
        (N, C, H, W): only their shape and device are used, so that no sample depends on others. With no samples the
        network is not called.

    Examples
    --------
    >>> def bright(inputs):
    ...     return torch.cat([1 - inputs.flatten(1), inputs.flatten(1)], 1)
    >>> some = torch.zeros(1, 1, 2, 2)
    >>> seen_inside(bright, some) is bright
    True
    >>> type(seen_inside(lambda inputs: bright(torch.nn.functional.hardtanh(inputs, 0, 1)), some)).__name__
    'Inside'
    """
    if isinstance(model, Onlooker):
        behind = seen_inside(model.model, inputs)
        return model if behind is model.model else model.over(behind)
    return Inside(model) if hides_ends(model, inputs) else model


def hides_ends(model: Model, inputs: Tensor) -> bool:
    """Return whether a network's gradients vanish, or halve, exactly at 0 or at 1: it clamps its inputs.

    Gradients of `PROBES` random images in the shape of the inputs are compared, at the exact point and `HAIR` inside,
    one image at a time. torch's random state is put back afterwards. A classifier is asked once for each shape; other
    models, which may change between two calls, each time.

    Parameters
    ----------
    model, inputs
        As of `seen_inside`.
    """
    if not inputs[0:1].numel():
        return False
    if not isinstance(model, Classifier):
        return _hides_ends(model, inputs)
    known, shape = _KNOWN.setdefault(model, {}), inputs.shape[1:]
    if shape not in known:
        known[shape] = _hides_ends(model, inputs)
    return known[shape]


def _hides_ends(model: Model, inputs: Tensor) -> bool:
    """Return what `hides_ends` does, asking the network."""
    tested = torch.zeros(2, device=inputs.device)  # number of pixels at 0, and at 1
    hidden = torch.zeros_like(tested)
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        for probe in _probes(inputs):
            exact, inside = _slope(model, probe).abs(), _slope(model, drawn_in(probe)).abs()
            ends = torch.stack([probe.flatten() == end for end in (0, 1)]) & (inside > 0)
            tested += ends.sum(1)
            hidden += (ends & (exact < MUTED * inside)).sum(1)
    return bool(((tested > 0) & (hidden >= ALMOST_ALL * tested)).any())


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
