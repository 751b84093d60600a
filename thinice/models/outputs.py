"""What networks return: logits (N, K), the same each time, and of each sample alone; or what is wrong, and the cure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.losses import input_gradient
from thinice.numerics import exact

if TYPE_CHECKING:
    from thinice.models.classifier import Classifier

__all__ = ["differ", "output_doubts", "refuse_other_outputs"]

SAME = 1e-4
"""Logits that differ by less than this, in units of the largest, are the same: AutoAttack's tolerance."""
FEW = 2
"""So many samples, and a negative, tell whether logits are random, depend on the batch, or have no gradient."""
MANY = 32
"""So many, their negatives and as much noise tell whether a network without gradients is constant."""
TWO_LOGITS = "torch.nn.ZeroPad1d((1, 0))"
"""The layer that puts 0 before one logit: its sigmoid is the softmax of both."""
ALONE = "give it one sample at a time (--one-by-one, as_classifier(network, one_by_one=True))"
RANDOM = (
    "the same samples have other logits each time, so epsilons and verdicts are chance: switch dropout and noise off, "
    "F.dropout(…, training=self.training) say, or let the network average over many passes"
)
IN_BATCHES = (
    "the logits of a sample depend on the batch it is in{where}, so epsilons and verdicts depend on the other samples: "
    f"let it have fixed statistics (track_running_stats=True), or {ALONE}"
)
NO_GRADIENT = (
    "no gradient reaches the pixels (detach(), no_grad, NumPy, rounding or argmax inside), so distances come from "
    "search without gradients, perhaps too far: let them through, or give such a step that of the identity (BPDA)"
)
CONSTANT = (
    "its logits are the same for all samples that were tried, so that it has no boundary to measure: a layer of it is "
    "dead, perhaps pruned away as a whole (`thinice inspect` shows what each layer keeps)"
)


def differ(logits: Tensor, others: Tensor) -> Tensor:
    """Return where two logits (N, K) of a sample differ by more than rounding explains; NaN is the same as NaN.

    >>> differ(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([[1.0, 2.00001], [1.0, 2.1]]))
    tensor([False,  True])
    """
    scale = 1 + logits.abs().nan_to_num(posinf=0).amax(1, keepdim=True)
    same = (logits - others).abs() <= SAME * scale
    return ~(same | (logits == others) | (logits.isnan() & others.isnan())).all(1)


def output_doubts(classifier: Classifier, inputs: Tensor) -> tuple[str, ...]:
    """Return why no attack can measure a network as it is, with the cure: a sentence for each reason.

    Logits that are random, that depend on the batch, or that have no gradient. A batch of a few samples is passed
    twice, then each of them alone. torch's random state is put back afterwards.

    Parameters
    ----------
    classifier : Classifier
        Returns logits (N, K); see `refuse_other_outputs`.
    inputs : Tensor
        (N, C, H, W) in [0, 1], on the classifier's device, at least one.

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> class Noisy(torch.nn.Linear):
    ...     def forward(self, inputs):
    ...         return super().forward(inputs.flatten(1)) + torch.rand(1)
    >>> [doubt.partition(",")[0] for doubt in output_doubts(as_classifier(Noisy(4, 3)), torch.rand(2, 1, 2, 2))]
    ['the same samples have other logits each time']
    """
    few = inputs[:FEW]
    batch = torch.cat([few, 1 - few[:1]])
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    doubts, slopes = [], torch.ones(1)
    with torch.random.fork_rng(devices=devices), exact(inputs.device):
        with torch.no_grad():
            first, again = classifier(batch), classifier(batch)
            alone = torch.cat([classifier(sample[None]) for sample in few])
        with suppress(torch.OutOfMemoryError):  # the engine takes fewer at a time, or says that one is too large
            slopes = _slopes(classifier, few)
        flat = bool(alone.isfinite().all()) and not slopes.any()
        constant = flat and _constant(classifier, inputs[:MANY])
    if differ(first, again).any():
        doubts.append(RANDOM)
    elif differ(alone, first[: len(few)]).any():
        doubts.append(IN_BATCHES.format(where=_batch_layer(classifier)))
    if flat:
        doubts.append(CONSTANT if constant else NO_GRADIENT)
    return tuple(doubts)


def _constant(classifier: Classifier, inputs: Tensor) -> bool:
    """Return whether the logits of these inputs, of their negatives and of noise (N, K) are all the same."""
    noise = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)).to(inputs.device)
    with torch.no_grad():
        logits = torch.cat([classifier(images) for images in (inputs, 1 - inputs, noise)])
    return not bool(differ(logits, logits[:1].expand_as(logits)).any())


def _slopes(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Return the gradients (N, D) of a fixed combination of each sample's logits."""
    points = inputs.detach().clone().requires_grad_()
    logits = classifier(points)
    return input_gradient((logits * torch.linspace(-1, 1, logits.shape[1], device=logits.device)).sum(1), points)


def _batch_layer(classifier: Classifier) -> str:
    """Return the name of the first layer that normalises with the statistics of the batch, in brackets; or nothing."""
    for name, layer in classifier.network.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:  # noqa: SLF001 - the base of all batch norms has no public name
            return f" ({name or 'the network'} is a {type(layer).__name__} without running statistics)"
    return ""


def refuse_other_outputs(classifier: Classifier, inputs: Tensor, named: str) -> int:
    """Return the number of classes K of a network whose outputs are logits (N, K).

    Parameters
    ----------
    classifier : Classifier
        The network.
    inputs : Tensor
        (N, C, H, W) in [0, 1], on the classifier's device, at least one.
    named : str
        What errors call the inputs.

    Raises
    ------
    InputError
        For outputs of any other kind or shape, with the line of code that makes logits of them where it is certain;
        and for a network that cannot take the inputs, or not one sample alone.
    """
    name = f"the network {classifier.name!r}"
    pair = torch.cat([inputs[:1], 1 - inputs[:1]])
    with torch.no_grad():
        alone, error = _attempt(classifier, inputs[:1])
        two, of_two = _attempt(classifier, pair)
        if error is not None and of_two is None:
            raise InputError(
                f"{name} takes several samples but not one alone{_batch_layer(classifier)}, so no sample has logits of "
                f"its own ({_reason(error)}): let it treat each sample by itself, batch norm with fixed statistics "
                "(track_running_stats=True)"
            ) from error
        if error is not None:
            raise InputError(f"{named} do not fit {name}: {_reason(error)}") from error
        if not isinstance(alone, Tensor):
            raise InputError(
                f"{name} returns a {type(alone).__name__}, not logits (N, classes): {_cure_of_kind(alone)}"
            )
        if not alone.is_floating_point():
            raise InputError(
                f"{name} returns {alone.dtype} of shape {tuple(alone.shape)}, not logits (N, classes): let it return "
                "the scores before argmax or rounding, which attacks can follow"
            )
        if alone.dtype != torch.float32:
            line = "class Float32(torch.nn.Sequential): forward = lambda self, inputs: self[0](inputs).float()"
            raise InputError(
                f"{name} returns {alone.dtype}, and attacks compute in float32: leave the cast out, or wrap it in "
                f"Float32(network), where {line}"
            )
        if of_two is not None:
            raise InputError(f"{name} takes one sample but not several ({_reason(of_two)}): {ALONE}") from of_two
        if alone.ndim != 2 or len(alone) != 1 or two.shape != (2, alone.shape[1]):
            raise InputError(_text_of_shape(name, alone, two))
        if alone.shape[1] < 2:
            way_out = _cure_of_one(classifier(inputs))
            raise InputError(f"{name} has one output, and attacks compare the logits of classes: {way_out}")
    return int(alone.shape[1])


def _attempt(classifier: Classifier, inputs: Tensor) -> tuple[Any, Exception | None]:
    """Return what a network returns, and None; or None and what it raises."""
    try:
        return classifier(inputs), None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign forward may raise anything
        return None, error


def _reason(error: Exception) -> str:
    """Return the first line of what a network raised, with what that means where it is about types of numbers."""
    line = str(error).strip().partition("\n")[0]
    text = line if isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: {line}"
    types = re.search(r"half|bfloat16|double|dtype", line, re.IGNORECASE)
    return f"{text}; it is run in float32, so leave casts to other types out" if types else text


def _cure_of_kind(outputs: object) -> str:
    """Return how the logits among several outputs are returned alone: by line of code where one alone can be them."""
    entries: dict[object, object] = {}
    if isinstance(outputs, Mapping):
        entries = {"logits": outputs["logits"]} if "logits" in outputs else dict(outputs)
    elif isinstance(outputs, Sequence):
        entries = dict(enumerate(outputs))
    able = [key for key, value in entries.items() if isinstance(value, Tensor) and value.ndim == 2 and len(value) == 1]
    if len(able) != 1:
        return "wrap it in a module that does"
    line = f"class Logits(torch.nn.Sequential): forward = lambda self, inputs: self[0](inputs)[{able[0]!r}]"
    return f"wrap it in Logits(network), where {line}"


def _text_of_shape(name: str, alone: Tensor, pair: Tensor) -> str:
    """Return what is said of outputs that are not (N, K), by those of one sample and of two."""
    two = tuple(pair.shape)
    text = f"{name} returns shape {two} for 2 samples, not logits (N, classes)"
    if two == (2,) and alone.shape in {(), (1,)}:
        layers = f"torch.nn.Flatten(0), torch.nn.Unflatten(0, (-1, 1)), {TWO_LOGITS}"
        return f"{text}: of one logit a sample make two with torch.nn.Sequential(network, {layers})"
    if len(two) == 2 and two[0] == 2 and alone.shape == two[1:]:
        one = f"{name} returns shape {tuple(alone.shape)} for one sample and {two} for two, not logits (N, classes)"
        return f"{one}: squeeze() drops the batch of one, flatten(1) in its place does not"
    if len(two) > 2 and two[0] == 2 and alone.shape == (1, *two[1:]):
        if alone.numel() == alone.shape[1]:
            layers = "torch.nn.Flatten()" if alone.shape[1] > 1 else f"torch.nn.Flatten(), {TWO_LOGITS}"
            return f"{text}: wrap it, torch.nn.Sequential(network, {layers})"
        if len(two) == 4:
            layers = "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()"
            return f"{text} but one a place: if their mean decides, torch.nn.Sequential(network, {layers})"
    return text


def _cure_of_one(outputs: Tensor) -> str:
    """Return how one output (N, 1) becomes the logits of two classes."""
    line = f"torch.nn.Sequential(network, {TWO_LOGITS})"
    if bool(((outputs >= 0) & (outputs <= 1)).all()):
        return f"it looks like a sigmoid's; leave that out, and make two logits of the one with {line}"
    return f"make two of it with {line}, class 1 where it is positive"
