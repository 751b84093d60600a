"""Shrinking: a network with pruned channels in, a smaller one without them out, which computes the same."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from thinice.errors import InputError
from thinice.models import Classifier, as_classifier, build
from thinice.models.architectures import origin_of
from thinice.models.architectures.layer_sizes import resize
from thinice.models.classifier import assemble, own_copy
from thinice.models.normalization import Normalized, inner
from thinice.models.weights import Masks, prunable_weights
from thinice.pruning.channels import Channels, Layer, pads_nothing, trace_channels

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Cost", "Shrunk", "cost", "shrink"]

TOLERANCE = 1e-4
"""Of the logits, as a share of the largest: the same sums are taken in another order."""
BATCH = 64
"""Random images that are compared and timed where nobody gives inputs."""
ROUNDS = 9
PATIENCE = 5.0
"""Seconds after which no further round is timed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs.

    Attributes
    ----------
    parameters : int
        Numbers that are trained, zeros among them.
    flops : int
        Floating-point operations of convolutions and linear layers for one sample; a multiplication and an addition are
        two. Zeros are multiplied, too.
    seconds : float
        Measured: the time for one sample of the batch in the fastest of several rounds, which other work on the machine
        disturbed least.

    """

    parameters: int
    flops: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A smaller network that computes what the pruned one does.

    Attributes
    ----------
    network : nn.Module or Classifier
        What was given, smaller; a classifier can be saved and loaded as any other.
    layer_sizes : Mapping of str to list of int
        The layers that changed: (outputs, inputs), the channels of batch norm, the zeros around a shortcut. Empty
        where nothing could go.
    masks : Masks
        What is left of the masks: kernels and weights inside the remaining channels are not removed.
    before, after : Cost
        Parameters, operations and measured time.
    notes : tuple of str
        Where a channel had to stay, and why.

    """

    network: nn.Module | Classifier
    layer_sizes: Mapping[str, list[int]]
    masks: Masks
    before: Cost
    after: Cost
    notes: tuple[str, ...] = ()


def shrink(network: nn.Module | Classifier, inputs: Tensor | None = None, *, masks: Masks | None = None) -> Shrunk:
    """Return a smaller network with the same logits, without the channels that are zero or that nothing reads.

    Filters that are zero, and channels whose every reader is zero, go, through residual connections and batch norm:
    where two results are added, a channel goes only if it can on both sides. A filter that is zero still gives its
    batch norm's shift: that constant moves into the bias of the next layer, or, where zeros are padded around the maps
    so that no bias can replace it, into one channel that stays for all of its kind.

    Parameters
    ----------
    network : nn.Module or Classifier
        Stays as it is. In a module, torch's own masks are folded in.
    inputs : Tensor, optional
        (N, C, H, W) in [0, 1], to compare and time both networks on; without them, random images of the classifier's
        input shape.
    masks : Masks, optional
        Of the network: put in force first. Without, what is zero is zero.

    Raises
    ------
    InputError
        A network without an input shape where no inputs are given, masks of another one, or one whose forward cannot
        be followed.

    Examples
    --------
    >>> from thinice.pruning import prune
    >>> pruned = prune(as_classifier(build("cnn5")), sparsity=0.5, structure="filter")
    >>> small = shrink(as_classifier(pruned.module))
    >>> small.after.parameters < small.before.parameters
    True

    """
    module = own_copy(network.module if isinstance(network, Classifier) else network).eval().cpu()
    if masks is not None:
        masks.apply_(module)
    images = _images(network, inputs)
    bare = inner(module)
    plan = _Plan(trace_channels(bare))
    sizes, weights = plan.layer_sizes(), plan.weights(bare.state_dict())
    notes = plan.notes if sizes else ["nothing to shrink: no filter or input channel can go"]
    smaller = _smaller(network, bare, sizes, weights)
    left = plan.masks(Masks.of(bare) if masks is None else masks, smaller)
    if isinstance(module, Normalized):
        mean, std = module.normalization
        smaller = Normalized(smaller, mean=mean, std=std)
    module, smaller = module.to(images.device), smaller.to(images.device).eval()
    _compare(module, smaller, images)
    before, after = _costs((module, smaller), images)
    result = smaller if not isinstance(network, Classifier) else _as_classifier(network, smaller, sizes, left)
    return Shrunk(result, sizes, left, before, after, tuple(notes))


def cost(network: nn.Module, inputs: Tensor) -> Cost:
    """Return what a network in eval mode costs on inputs (N, C, H, W) on its device."""
    return _costs((network,), inputs)[0]


class _Plan:
    """Which channels stay, and how the weights of the layers around them change."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.gone = channels.removable()
        self.notes: list[str] = []
        self.carriers: dict[str, int] = {}
        self._keep_one_each()
        while self._keep_carriers():
            pass

    def kept(self, labels: list[int]) -> Tensor:
        """Return the places of the channels that stay."""
        find = self.channels.find
        return torch.tensor([place for place, label in enumerate(labels) if find(label) not in self.gone]).long()

    def _keep_one_each(self) -> None:
        """Keep the first channel of whatever would vanish: no layer can be without one."""
        for layer in (*self.channels.layers, *self.channels.norms):
            for result in (layer.inputs, layer.outputs):
                if not len(self.kept(result.labels)):
                    self.gone.discard(self.channels.find(result.labels[0]))

    def _constant(self, layer: Layer) -> Tensor:
        """Return the places of the channels that go and gave a layer a constant other than 0, which it reads."""
        find = self.channels.find
        gone = torch.tensor([find(label) in self.gone for label in layer.inputs.labels])
        constants = layer.inputs.constants
        return (gone & ~constants.isnan() & (constants != 0) & layer.kernels.ne(0).any(-1).any(0)).nonzero()[:, 0]

    def _carrier(self, layer: Layer) -> int | None:
        """Return the place of the largest constant that stays among the inputs of a layer."""
        channels = self.kept(layer.inputs.labels)
        sizes = layer.inputs.constants[channels].abs().nan_to_num(0.0)
        return int(channels[sizes.argmax()]) if len(channels) and sizes.max() > 0 else None

    def _keep_carriers(self) -> bool:
        """Keep one more channel for a layer that needs one to carry its constants; False where none does."""
        for layer in self.channels.layers:
            constant = self._constant(layer)
            if len(constant) and not _takes_bias(layer.module) and self._carrier(layer) is None:
                best = int(constant[layer.inputs.constants[constant].abs().argmax()])
                self.gone.discard(self.channels.find(layer.inputs.labels[best]))
                others = f", which carries those of {len(constant) - 1} others as well" if len(constant) > 1 else ""
                self.notes.append(
                    f"{layer.name} keeps one pruned input channel for its constant{others}: a bias cannot where zeros "
                    "are padded"
                )
                return True
        return False

    def layer_sizes(self) -> dict[str, list[int]]:
        """Return the sizes of the layers that change."""
        sizes = {}
        for layer in self.channels.layers:
            inputs, outputs = (self.kept(result.labels) for result in (layer.inputs, layer.outputs))
            if len(inputs) < len(layer.inputs.labels) or len(outputs) < len(layer.outputs.labels):
                sizes[layer.name] = [len(outputs), len(inputs) * layer.factor]
        for layer in self.channels.norms:
            channels = self.kept(layer.inputs.labels)
            if len(channels) < len(layer.inputs.labels):
                sizes[layer.name] = [len(channels)]
        for name, sides in self.channels.shortcuts.items():
            kept_sides = [len(self.kept(labels)) for labels in sides]
            if kept_sides != [len(labels) for labels in sides]:
                sizes[name] = kept_sides
        return sizes

    def weights(self, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of the smaller network."""
        weights = dict(before)
        for layer in self.channels.layers:
            inputs, outputs = (self.kept(result.labels) for result in (layer.inputs, layer.outputs))
            kernels, bias = layer.kernels, _bias(layer.module)
            constant = self._constant(layer)
            if len(constant):
                values = layer.inputs.constants[constant]
                lost = (kernels[:, constant] * values[:, None]).sum(1)  # (outputs, all of one pair)
                if bias is not None and _takes_bias(layer.module):
                    bias = bias + lost.sum(-1)
                else:
                    carrier = self._carrier(layer)
                    assert carrier is not None
                    kernels[:, carrier] += lost / layer.inputs.constants[carrier]
            name = f"{layer.name}.weight" if layer.name else "weight"
            old = before[name]
            shape = (len(outputs), len(inputs) * layer.factor, *old.shape[2:])
            weights[name] = kernels[outputs][:, inputs].reshape(shape).to(old.dtype)
            if bias is not None:
                weights[name.removesuffix("weight") + "bias"] = bias[outputs].to(old.dtype)
        for layer in self.channels.norms:
            channels = self.kept(layer.inputs.labels)
            for part in ("weight", "bias", "running_mean", "running_var"):
                name = f"{layer.name}.{part}" if layer.name else part
                if name in before:
                    weights[name] = before[name][channels]
        return weights

    def masks(self, before: Masks, smaller: nn.Module) -> Masks:
        """Return what is left of the masks; what carries a constant now is kept."""
        masks = dict(before.kept)
        for layer in self.channels.layers:
            inputs, outputs = (self.kept(result.labels) for result in (layer.inputs, layer.outputs))
            name = f"{layer.name}.weight" if layer.name else "weight"
            if name in masks:
                mask = masks[name].cpu()
                grouped = mask.reshape(len(mask), len(layer.inputs.labels), -1)[outputs][:, inputs]
                masks[name] = grouped.reshape(len(outputs), len(inputs) * layer.factor, *mask.shape[2:])
        weights = prunable_weights(smaller)
        return Masks({name: mask | (weights[name].detach().cpu() != 0) for name, mask in masks.items()})


def _bias(module: nn.Module) -> Tensor | None:
    bias = module.bias
    return bias.detach().double() if isinstance(bias, Tensor) else None


def _takes_bias(module: nn.Module) -> bool:
    """Return whether a constant input is the same as another bias of a layer: it has one, and pads nothing."""
    if _bias(module) is None:
        return False
    return isinstance(module, nn.Linear) or pads_nothing(module.padding)


def _images(network: nn.Module | Classifier, inputs: Tensor | None) -> Tensor:
    classifier = network if isinstance(network, Classifier) else None
    if inputs is None:
        shape = None if classifier is None else classifier.input_shape
        if shape is None:
            raise InputError("`inputs` must be given, a batch (N, C, H, W): the network does not say what it takes")
        inputs = torch.rand((BATCH, *shape), generator=torch.Generator().manual_seed(0))
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or not len(inputs):
        raise InputError(f"`inputs` must be a batch (N, C, H, W), got {type(inputs).__name__}")
    module = network.module if isinstance(network, Classifier) else network
    images = inputs.to(next((parameter.device for parameter in module.parameters()), torch.device("cpu")))
    with torch.no_grad():
        try:
            own_copy(module).eval()(images[:1])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"`inputs` of shape {tuple(images.shape)} do not fit the network: {reason}") from None
    return images


def _smaller(
    network: nn.Module | Classifier, bare: nn.Module, sizes: Mapping[str, list[int]], weights: Mapping[str, Tensor]
) -> nn.Module:
    """Return the smaller network: as `build` makes it where it knows how, else the module's own layers resized."""
    origin = origin_of(inner(network)) if isinstance(network, nn.Module) else None
    if isinstance(network, Classifier) and "class" not in network.arguments and _is_registered(network):
        name, classes, arguments = network.architecture, int(network.classes or 0), dict(network.arguments)
    elif origin is not None:
        name, classes, arguments = origin.architecture, origin.classes, dict(origin.arguments)
    else:
        smaller = own_copy(bare)
        with torch.random.fork_rng(devices=[]):
            resize(smaller, sizes)
        smaller.load_state_dict(dict(weights))
        return smaller
    if sizes:
        arguments["layer_sizes"] = {**arguments.get("layer_sizes", {}), **sizes}
    with torch.random.fork_rng(devices=[]):
        smaller = build(name, classes, **arguments)
    smaller.load_state_dict(dict(weights))
    return smaller


def _is_registered(classifier: Classifier) -> bool:
    return not classifier.architecture.startswith("module:")


def _compare(before: nn.Module, after: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        logits, others = before(images), after(images)
    difference = float((logits - others).abs().max())
    if not difference <= TOLERANCE * max(float(logits.abs().max()), 1e-6):
        raise InputError(
            f"`network` cannot be shrunk: its logits would change by {difference:.3g}; leave shrinking out"
        )


def _costs(networks: tuple[nn.Module, ...], images: Tensor) -> list[Cost]:
    """Return the cost of each network; their times are measured in turns, so that a busy machine slows down all."""
    seconds: list[list[float]] = [[] for _ in networks]
    flops = []
    with torch.no_grad():
        for network in networks:
            flops.append(_flops(network, images[:1]))
            network(images)  # the first time takes longer
        start = time.monotonic()
        for _ in range(ROUNDS):
            for network, times in zip(networks, seconds, strict=True):
                times.append(_timed(network, images))
            if time.monotonic() - start > PATIENCE:
                break
    return [
        Cost(sum(parameter.numel() for parameter in network.parameters()), operations, min(times))
        for network, operations, times in zip(networks, flops, seconds, strict=True)
    ]


def _flops(network: nn.Module, images: Tensor) -> int:
    operations: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        weight = cast("Tensor", layer.weight)
        places = inputs[0] if isinstance(layer, _ConvTransposeNd) else outputs  # each is used by all of its kernels
        axis = -1 if isinstance(layer, nn.Linear) else 1
        operations.append(2 * weight.numel() * places.numel() // places.shape[axis])

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | _ConvNd)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return sum(operations)


def _timed(network: nn.Module, images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    start = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return (time.perf_counter() - start) / len(images)


def _as_classifier(network: Classifier, smaller: nn.Module, sizes: Mapping[str, list[int]], masks: Masks) -> Classifier:
    """Return the classifier that the given one is now; only what `build` made can be saved."""
    facts: dict[str, Any] = {
        "class_names": network.class_names,
        "data": network.data,
        "input_shape": network.input_shape,
        "recipe": {**(network.recipe or {}), "shrunk": {"layer_sizes": dict(sizes)}},
        "parent": network.parent or network.fingerprint,
    }
    origin = origin_of(inner(smaller))
    if origin is None:
        classifier = as_classifier(smaller, name=network.name, classes=network.classes, **facts)
        return replace(classifier, masks=masks)
    return assemble(
        own_copy(inner(smaller)),
        name=network.name,
        architecture=origin.architecture,
        arguments=origin.arguments,
        classes=network.classes,
        normalization=network.normalization,
        normalization_known=network.normalization_known,
        masks=masks,
        **facts,
    )
