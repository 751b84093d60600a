"""What networks return: logits (N, K), the same each time, and of each sample alone; or what is wrong, and the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thinice.errors import InputError

if TYPE_CHECKING:
    from thinice.models.classifier import Classifier

__all__ = ["differ", "output_doubts", "refuse_other_outputs"]

SAME = 1e-4
"""Logits that differ by less than this, in units of the largest, are the same: AutoAttack's tolerance."""
FEW = 4
"""So many samples tell whether logits are random, or depend on the batch."""
FAILURES = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError)
"""What a network raises for inputs that do not fit it."""
TWO_LOGITS = "torch.nn.ZeroPad1d((1, 0))"
"""The layer that puts 0 before one logit: its sigmoid is the softmax of both."""
RANDOM = (
    "the same samples have other logits each time, so epsilons and verdicts are chance: switch dropout and noise off, "
    "F.dropout(…, training=self.training) say, or let the network average over many passes"
)
IN_BATCHES = (
    "the logits of a sample depend on the batch it is in{where}, so epsilons and verdicts depend on the other samples: "
    "give it fixed statistics (track_running_stats=True), or have each sample judged alone (--one-by-one, "
    "as_classifier(network, one_by_one=True))"
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
    """Return why no attack can measure a network as it is, with the cure: random logits, or logits of a whole batch.

    A batch of a few samples and their negatives is passed twice, and then each of these samples alone. torch's random
    state is put back afterwards.

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
    batch = torch.cat([few, 1 - few])
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        first, again = classifier(batch), classifier(batch)
        alone = torch.cat([classifier(sample[None]) for sample in few])
    if differ(first, again).any():
        return (RANDOM,)
    if differ(alone, first[: len(few)]).any():
        return (IN_BATCHES.format(where=_batch_layer(classifier)),)
    return ()


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
        try:
            alone = classifier(inputs[:1])
        except FAILURES as error:
            reason = str(error).strip().partition("\n")[0]
            if _takes(classifier, pair):
                raise InputError(
                    f"{name} takes several samples but not one alone{_batch_layer(classifier)}, so no sample has "
                    f"logits of its own ({reason}): let it treat each sample by itself, batch norm with fixed "
                    "statistics (track_running_stats=True)"
                ) from None
            raise InputError(f"{named} do not fit {name}: {reason}") from None
        if not isinstance(alone, Tensor):
            raise InputError(
                f"{name} returns a {type(alone).__name__}, not logits (N, classes): {_cure_of_kind(alone)}"
            )
        if not alone.is_floating_point():
            raise InputError(
                f"{name} returns {alone.dtype} of shape {tuple(alone.shape)}, not logits (N, classes): let it return "
                "the scores before argmax or rounding, which attacks can follow"
            )
        if alone.ndim != 2 or len(alone) != 1:
            raise InputError(_text_of_shape(name, alone, classifier(pair)))
        if alone.shape[1] < 2:
            way_out = _cure_of_one(classifier(inputs))
            raise InputError(f"{name} has one output, and attacks compare the logits of classes: {way_out}")
    return int(alone.shape[1])


def _takes(classifier: Classifier, inputs: Tensor) -> bool:
    try:
        classifier(inputs)
    except FAILURES:
        return False
    return True


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


def _text_of_shape(name: str, alone: Tensor, pair: object) -> str:
    """Return what is said of outputs that are not (N, K), by those of one sample and of two."""
    two = tuple(pair.shape) if isinstance(pair, Tensor) else ()
    text = f"{name} returns shape {two or tuple(alone.shape)} for {2 if two else 1} samples, not logits (N, classes)"
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
