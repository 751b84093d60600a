"""Which channels of a network nobody needs: they are the same for all inputs, or nothing reads them.

The graph of the network is walked once. Each channel of each result gets a label; where two results are added their
channels get one label, so that what goes, goes on both sides of a shortcut.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from thinice.errors import InputError
from thinice.models.architectures.layer_sizes import pads_channels

__all__ = ["Channels", "Layer", "Result", "pads_nothing", "trace_channels"]

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
)
"""What is computed of each number for itself, without parameters."""
ACTIVATION_FUNCTIONS = {
    functional.relu,
    functional.relu6,
    functional.leaky_relu,
    functional.elu,
    functional.gelu,
    functional.silu,
    functional.mish,
    functional.softplus,
    functional.hardtanh,
    functional.hardswish,
    functional.sigmoid,
    torch.relu,
    torch.sigmoid,
    torch.tanh,
}
ACTIVATION_METHODS = {"relu", "relu_", "sigmoid", "tanh"}
POOLS = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
"""What leaves a channel that is the same everywhere as it is."""
POOL_FUNCTIONS = {functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d, functional.max_pool2d}
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
SAME = (nn.Identity, _DropoutNd)
ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
QUESTIONS = {"size", "dim", "shape", getattr}
"""What asks for sizes alone."""
IMAGE_AXES = ({2, 3}, {-2, -1})


@dataclass(slots=True)
class Result:
    """What one node of the graph gives: a label a channel, and the value of those that are the same everywhere.

    `constants` is (C,) float64, nan where a channel depends on the inputs. `flat` says that maps became features: as
    many for each channel as a layer that reads them tells.
    """

    labels: list[int]
    constants: Tensor
    flat: bool = False


@dataclass(slots=True)
class Layer:
    """A convolution or linear layer with what it reads and gives, or a batch norm, for which both are one."""

    name: str
    module: nn.Module
    inputs: Result
    outputs: Result

    @property
    def factor(self) -> int:
        """How many inputs of a linear layer belong to one channel of the maps that were flattened."""
        return int(self.module.in_features) // len(self.inputs.labels) if isinstance(self.module, nn.Linear) else 1

    @property
    def kernels(self) -> Tensor:
        """The weights as (outputs, input channels, all of one pair), float64."""
        weight = cast("Tensor", self.module.weight).detach().double()
        return weight.reshape(len(weight), len(self.inputs.labels), -1)


@dataclass(slots=True)
class Channels:
    """The labels of a network's channels: what is alike, what must stay, and who reads and writes them."""

    parents: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    layers: list[Layer] = field(default_factory=list)
    norms: list[Layer] = field(default_factory=list)
    shortcuts: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def new(self, count: int) -> list[int]:
        """Return labels that no channel has yet."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return list(range(first, first + count))

    def find(self, label: int) -> int:
        """Return the label that stands for all that are alike."""
        while self.parents[label] != label:
            self.parents[label] = label = self.parents[self.parents[label]]
        return label

    def join(self, ours: Sequence[int], theirs: Sequence[int]) -> None:
        """Make channels alike, each with its counterpart."""
        for channel, counterpart in zip(ours, theirs, strict=True):
            self.parents[self.find(counterpart)] = self.find(channel)

    def fix(self, result: Result | None) -> None:
        """Keep all channels of a result."""
        if result is not None:
            self.fixed |= set(result.labels)

    def removable(self) -> set[int]:
        """Return the labels that can go: the same everywhere they appear, or read by no layer that counts."""
        fixed = {self.find(label) for label in self.fixed}
        alive = set(fixed)
        varying: set[int] = set()
        for result in self.results:
            moving = result.constants.isnan().tolist()
            varying |= {self.find(label) for label, moves in zip(result.labels, moving, strict=True) if moves}
        readers = [(layer, layer.kernels.ne(0).any(-1), layer.outputs.constants.isnan()) for layer in self.layers]
        grown = True
        while grown:
            before = len(alive)
            for layer, reads, varies in reversed(readers):
                counts = varies & torch.tensor([self.find(label) in alive for label in layer.outputs.labels])
                read = reads[counts].any(0).tolist()
                alive |= {self.find(label) for label, yes in zip(layer.inputs.labels, read, strict=True) if yes}
            grown = len(alive) > before
        every = {self.find(label) for label in range(len(self.parents))}
        return {label for label in every - fixed if label not in varying or label not in alive}


class Tracer(fx.Tracer):
    """Follows a network down to torch's own layers and the shortcuts that put zeros around channels."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is taken as one operation."""
        return pads_channels(m) or super().is_leaf_module(m, module_qualified_name)


def pads_nothing(padding: object) -> bool:
    """Return whether the padding of a layer is none: 0 on every side.

    Examples
    --------
    >>> pads_nothing((0, 0)), pads_nothing("same"), pads_nothing(1)
    (True, False, False)
    """
    return padding == "valid" or (not isinstance(padding, str) and padding in (0, (0,), (0, 0), (0, 0, 0), [0, 0]))


def trace_channels(network: nn.Module) -> Channels:
    """Return the channels of a network in eval mode.

    What is not understood keeps all its channels: the result is never wrong, but may find less to remove.

    Raises
    ------
    InputError
        For a network whose forward asks for values, so that its graph is not one.
    """
    try:
        graph = Tracer().trace(network)
    except Exception as error:  # noqa: BLE001 - the user's forward may raise anything
        reason = " ".join(str(error).split())
        raise InputError(
            f"`network` cannot be shrunk: its forward is no fixed sequence of layers ({reason}); leave shrinking out"
        ) from None
    walk = _Walk(network, Channels())
    for node in graph.nodes:
        walk.results[node] = walk.result_of(node)
    return walk.channels


@dataclass(slots=True)
class _Walk:
    network: nn.Module
    channels: Channels
    results: dict[fx.Node, Result | None] = field(default_factory=dict)
    called: dict[str, tuple[Result | None, Result | None]] = field(default_factory=dict)

    def result_of(self, node: fx.Node) -> Result | None:
        """Return what a node gives; ``None`` where its channels are not known, or are those of the input."""
        result = None
        if node.op == "call_module":
            result = self.of_module(node)
        elif node.op in {"call_function", "call_method"}:
            result = self.of_function(node)
        elif node.op == "output":
            self.keep_all(node)
        if result is not None:
            self.channels.results.append(result)
        return result

    def keep_all(self, node: fx.Node) -> None:
        """Keep every channel that a node reads."""
        for read in node.all_input_nodes:
            self.channels.fix(self.results[read])

    def of_module(self, node: fx.Node) -> Result | None:
        name, module = str(node.target), self.network.get_submodule(str(node.target))
        read = self.results.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        again = name in self.called and any(True for _ in module.parameters())
        result = None if again else self.through(name, module, read)
        if again or (result is None and not isinstance(module, SAME)):
            self.keep_all(node)
        if again:
            for result_before in self.called[name]:
                self.channels.fix(result_before)
            return None
        self.called[name] = (read, result)
        return result

    def through(self, name: str, module: nn.Module, read: Result | None) -> Result | None:
        if isinstance(module, _ConvNd | nn.Linear):
            return self.weighted(name, module, read)
        if read is None:
            return None
        if isinstance(module, _BatchNorm):
            return self.normalized(name, module, read)
        if pads_channels(module):
            return self.padded(name, module, read)
        return _through_plain(module, read)

    def weighted(self, name: str, module: nn.Module, read: Result | None) -> Result | None:
        """Return what a convolution or linear layer gives; of what is no plain one, nothing is known."""
        linear = isinstance(module, nn.Linear)
        if isinstance(module, _ConvTransposeNd) or (not linear and module.groups != 1):
            return None
        reads = int(module.in_features if linear else module.in_channels)  # type: ignore[arg-type] # numbers
        if read is None:
            read = Result(self.channels.new(reads), torch.full((reads,), torch.nan, dtype=torch.float64), linear)
            self.channels.fix(read)
        if read.flat != linear or reads % len(read.labels) or (not linear and reads != len(read.labels)):
            return None
        outputs = Result(self.channels.new(len(module.weight)), torch.empty(0), linear)  # type: ignore[arg-type]
        layer = Layer(name, module, read, outputs)
        depends = layer.kernels.ne(0).any(-1)[:, read.constants != 0].any(1)  # nan is not 0
        bias = torch.zeros(len(depends)) if module.bias is None else cast("Tensor", module.bias).detach()
        outputs.constants = bias.double().masked_fill(depends, torch.nan)
        self.channels.layers.append(layer)
        return outputs

    def normalized(self, name: str, module: _BatchNorm, read: Result) -> Result | None:
        if module.running_mean is None or module.running_var is None or module.num_features != len(read.labels):
            return None
        constants = (read.constants - module.running_mean.double()) / (module.running_var.double() + module.eps).sqrt()
        if module.affine:
            constants = constants * module.weight.detach().double() + module.bias.detach().double()
        outputs = Result(read.labels, constants, read.flat)
        self.channels.norms.append(Layer(name, module, read, outputs))
        return outputs

    def padded(self, name: str, module: nn.Module, read: Result) -> Result:
        before, after = (self.channels.new(int(count)) for count in (module.before, module.after))  # type: ignore[arg-type]
        self.channels.shortcuts[name] = (before, after)
        zeros = [torch.zeros(len(labels), dtype=torch.float64) for labels in (before, after)]
        return Result([*before, *read.labels, *after], torch.cat([zeros[0], read.constants, zeros[1]]))

    def of_function(self, node: fx.Node) -> Result | None:
        if node.target in QUESTIONS:
            return None
        read = self.results.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        result = self.combined(node)
        for rule in (_activated, _pooled, _flattened):
            if result is None and read is not None:
                result = rule(node, read)
        if result is None:
            self.keep_all(node)
        return result

    def combined(self, node: fx.Node) -> Result | None:
        """Return a sum, or maps one after the other."""
        if node.target in ADDITIONS and len(node.args) == 2 and not node.kwargs:
            ours, theirs = (self.results.get(each) if isinstance(each, fx.Node) else each for each in node.args)
            if isinstance(ours, Result) and isinstance(theirs, int | float):
                return Result(ours.labels, ours.constants + theirs, ours.flat)
            if not isinstance(ours, Result) or not isinstance(theirs, Result):
                return None
            if (len(ours.labels), ours.flat) != (len(theirs.labels), theirs.flat):
                return None
            self.channels.join(ours.labels, theirs.labels)
            return Result(ours.labels, ours.constants + theirs.constants, ours.flat)
        if node.target in {torch.cat, torch.concat} and isinstance(node.args[0], list | tuple):
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            parts = [self.results.get(each) if isinstance(each, fx.Node) else None for each in node.args[0]]
            known = [part for part in parts if part is not None]
            if axis == 1 and len(known) == len(parts) and not any(part.flat for part in known):
                labels = [label for part in known for label in part.labels]
                return Result(labels, torch.cat([part.constants for part in known]))
        return None


def _through_plain(module: nn.Module, read: Result) -> Result | None:
    """Return what a layer without parameters gives; ``None`` for those that mix channels, or are not known."""
    if isinstance(module, ACTIVATIONS):
        return Result(read.labels, module(read.constants.clone()), read.flat)
    if isinstance(module, SAME) or (isinstance(module, POOLS) and not read.flat):
        return read
    if isinstance(module, AVERAGES) and not read.flat:
        return _averaged(read, padded=not pads_nothing(module.padding) and module.count_include_pad)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Result(read.labels, read.constants, flat=True)
    return None


def _activated(node: fx.Node, read: Result) -> Result | None:
    target: Any = node.target
    if target in ACTIVATION_FUNCTIONS:
        return Result(read.labels, target(read.constants.clone(), *node.args[1:], **node.kwargs), read.flat)
    if target in ACTIVATION_METHODS:
        return Result(read.labels, getattr(read.constants, target.rstrip("_"))(), read.flat)
    return None


def _pooled(node: fx.Node, read: Result) -> Result | None:
    target, rest = node.target, node.args[1:]
    if target is functional.dropout or (target in POOL_FUNCTIONS and not read.flat):
        return read
    if target is functional.avg_pool2d and not read.flat:
        return _averaged(read, padded=not pads_nothing(node.kwargs.get("padding", rest[2] if len(rest) > 2 else 0)))
    if target in {torch.mean, "mean"} and not read.flat:
        axes = rest[0] if rest else node.kwargs.get("dim")
        if isinstance(axes, list | tuple) and set(axes) in IMAGE_AXES:
            keeps = bool(node.kwargs.get("keepdim", rest[1] if len(rest) > 1 else False))
            return Result(read.labels, read.constants, flat=not keeps)
    return None


def _flattened(node: fx.Node, read: Result) -> Result | None:
    flattens = node.target in {torch.flatten, "flatten"} and node.args[1:] == (1,) and not node.kwargs
    views = node.target in {"view", "reshape", torch.reshape} and _is_flattening(node.args[1:])
    return Result(read.labels, read.constants, flat=True) if flattens or views else None


def _is_flattening(sizes: Sequence[Any]) -> bool:
    shape = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes
    return len(shape) == 2 and shape[1] == -1 and isinstance(shape[0], fx.Node)


def _averaged(read: Result, *, padded: bool) -> Result:
    """Return means over fields, in which zeros from outside may count."""
    constants = read.constants.masked_fill(read.constants != 0, torch.nan) if padded else read.constants
    return Result(read.labels, constants)
