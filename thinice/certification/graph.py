"""The operations of a network, read from what it runs: linear maps, their transposes, and how far float32 rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional, grad

from thinice.certification.record import EXAMPLES, named, operation_name, record, refused
from thinice.errors import InputError
from thinice.models import Classifier

__all__ = ["Graph", "Operation", "read_graph"]

ROUNDOFF = 2.0**-24
"""Half the distance from 1 to the next float32."""
SMALLEST = torch.finfo(torch.float32).tiny
LARGEST = torch.finfo(torch.float32).max

RESHAPES = frozenset({"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "flatten", "reshape"})
RESHAPES |= {"squeeze", "unflatten", "unsqueeze", "view", "_unsafe_view"}
"""They move no entry: of one sample, in the order of memory. Dropout is one where it is switched off."""
MOVES = RESHAPES | {"pad", "permute", "select", "slice", "t", "transpose"}
"""They compute nothing, and so round nothing."""
ENTRYWISE = MOVES | {"add", "batch_norm", "div", "mul", "neg", "rsub", "sub"}
"""Each entry of the result depends on one entry of each source at most."""
MIXING = frozenset({"adaptive_avg_pool2d", "addmm", "avg_pool2d", "conv1d", "conv2d", "conv3d", "linear", "matmul"})
MIXING |= {"mean", "mm", "sum"}
ROUNDINGS = {"add": 2, "batch_norm": 12, "div": 2, "mul": 2, "rsub": 2, "sub": 2}
"""On the way to an entry, in any order of the steps; a weight that is a plain number is rounded too."""
NUMBERS = {"avg_pool2d": 6, "pad": 3}
"""Where operations take a number that has a sign: what is divided by, or padded with."""
EVERYTHING = ((0,), (0, 2**63 - 1), (None,), (None, None), (0, None))
"""From where to where a slice goes that leaves nothing out."""
SAME = 1e-2
"""Logits that differ by so much, of the largest, differ by more than rounding, also that of TF32."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One step of a network.

    Attributes
    ----------
    name
        What torch calls it: ``conv2d``; ``input`` for the first.
    sources
        The operations whose results it takes, by their place in the graph.
    shape
        Of its result for one sample.
    apply
        The result in float64, for any number of samples.
    apply_absolute
        The same of sizes, with the size of each weight: no entry of `apply` is larger, nor any partial sum on the
        way there.
    transpose
        Coefficients (P, *shape) of the result turned into those of each source.
    terms
        A bound on the roundings on the way to one entry of the result.
    mixes
        Whether an entry of the result depends on several entries of a source.
    """

    name: str
    sources: tuple[int, ...]
    shape: tuple[int, ...]
    apply: Callable[..., Tensor]
    apply_absolute: Callable[..., Tensor]
    transpose: Callable[[Tensor], tuple[Tensor, ...]]
    terms: int
    mixes: bool

    @property
    def is_affine(self) -> bool:
        """Whether the result is a linear map of the sources, and a constant."""
        return self.name != "relu"

    def rounding(self, sizes: Tensor) -> Tensor:
        """Return how far a float32 result may lie from the exact one, given what `apply_absolute` returns.

        ``n u / (1 - n u)`` of the sizes for n roundings, in whatever order the terms are added (N. J. Higham, *Accuracy
        and Stability of Numerical Algorithms*, 2nd ed., section 3.1); one rounding more than there are pays for the
        float64 arithmetic of the bounds themselves, 2**29 times finer. Infinite where float32 may overflow.
        """
        share = (self.terms + 1) * ROUNDOFF
        error = share / (1 - share) * sizes + (self.terms + 1) * SMALLEST
        return torch.where(sizes < LARGEST / 2, error, torch.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The operations of a network in order, the input first, the logits last."""

    operations: tuple[Operation, ...]

    @property
    def relu_sources(self) -> tuple[int, ...]:
        """The operations whose results go through a ReLU."""
        return tuple(operation.sources[0] for operation in self.operations if not operation.is_affine)

    @property
    def units(self) -> int:
        """How many values of one sample go through a ReLU."""
        return sum(math.prod(self.operations[place].shape) for place in self.relu_sources)

    def work(self, place: int) -> int:
        """Return about how many products it takes to compute an operation and all before it, for one sample."""
        return sum(math.prod(operation.shape) * (operation.terms + 1) for operation in self.operations[: place + 1])

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) in float64."""
        results: list[Tensor] = []
        for operation in self.operations:
            results.append(operation.apply(*[results[source] for source in operation.sources] or [inputs.double()]))
        return results[-1]


def read_graph(classifier: Classifier, shape: tuple[int, ...]) -> Graph:
    """Return the graph of a classifier for inputs (C, H, W), with its weights in float64.

    What the network runs is recorded, not what its code says: the graph is compared with the network on random inputs,
    one at a time.

    Raises
    ------
    InputError
        An operation that has no linear bounds here, by its name; a weight that is not finite; a network that cannot be
        recorded, or whose samples depend on each other.

    Examples
    --------
    >>> from torch import nn
    >>> from thinice.models import as_classifier
    >>> classifier = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> [operation.name for operation in read_graph(classifier, (1, 2, 2)).operations]
    ['input', 'flatten', 'linear', 'relu', 'linear']
    """
    generator = torch.Generator().manual_seed(0)
    trial = torch.rand(EXAMPLES + 1, *shape, generator=generator).to(classifier.device)
    with torch.no_grad():
        graph = _Reader(classifier, record(classifier, trial)).read()
        expected, repeated = (torch.cat([classifier(sample[None]) for sample in trial]).double() for _ in range(2))
        try:
            logits = graph.logits(trial)
            same = logits.shape == expected.shape and torch.equal(expected, repeated)
            same = same and bool((logits - expected).abs().max() <= SAME * expected.abs().max())
        except RuntimeError:  # shapes that hold the batch size
            same = False
    if not same:
        raise InputError(
            f"{named(classifier)} computes something else than was recorded of it: its samples depend on each other, "
            "on their number, or on chance; there are no lower bounds for it"
        )
    return graph


class _Reader:
    """Turns the recorded nodes into operations, and refuses by name what has no linear bounds."""

    def __init__(self, classifier: Classifier, traced: fx.GraphModule) -> None:
        self.classifier = classifier
        self.traced = traced
        self.nodes = list(traced.graph.nodes)
        self.places: dict[fx.Node, int] = {}
        self.constants: dict[fx.Node, Tensor] = {}
        self.operations: list[Operation] = []

    def read(self) -> Graph:
        result = self.nodes[-1].args[0]
        result = result[0] if isinstance(result, tuple | list) and len(result) == 1 else result
        needed = self._ancestors(result)
        for node in self.nodes[:-1]:
            if node in needed:
                self._add(node)
        if result not in self.places or len(self.operations[-1].shape) != 1:
            raise InputError(f"{named(self.classifier)} returns no logits (N, K) that depend on its inputs")
        return Graph(tuple(self.operations))

    @staticmethod
    def _ancestors(result: object) -> set[fx.Node]:
        needed: set[fx.Node] = set()
        waiting = [result] if isinstance(result, fx.Node) else []
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += node.all_input_nodes
        return needed

    def _add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            shape = tuple(node.meta["val"].shape[1:])
            self.places[node] = self._append("input", (), lambda values: values, shape=shape)
        elif node.op == "get_attr":
            self._hold(node, getattr(self.traced, str(node.target)))
        elif any(source in self.places for source in node.all_input_nodes):
            self._step(node)
        else:  # of weights alone: in float32, as the network computes it
            arguments, keywords = fx.node.map_arg((node.args, node.kwargs), lambda source: self.constants[source])
            self._hold(node, node.target(*arguments, **keywords))  # type: ignore[operator]  # an operator

    def _hold(self, node: fx.Node, value: Tensor) -> None:
        if value.layout != torch.strided:
            raise InputError(f"{named(self.classifier)} has a weight in the layout {value.layout}: make it dense")
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{named(self.classifier)} has a weight that is not finite: nothing can be proved of it")
        self.constants[node] = value

    def _append(
        self,
        name: str,
        sources: tuple[int, ...],
        apply: Callable[..., Tensor],
        apply_absolute: Callable[..., Tensor] | None = None,
        transpose: Callable[[Tensor], tuple[Tensor, ...]] | None = None,
        *,
        terms: int = 0,
        mixes: bool = False,
        shape: tuple[int, ...] | None = None,
    ) -> int:
        """Add an operation; return its place."""
        shapes = [self.operations[source].shape for source in sources]
        if shape is None:
            device = self.classifier.device
            shape = tuple(
                apply(*[torch.zeros(1, *before, dtype=torch.float64, device=device) for before in shapes]).shape[1:]
            )
        transpose = transpose or partial(_transposed, apply, shapes)
        self.operations.append(Operation(name, sources, shape, apply, apply_absolute or apply, transpose, terms, mixes))
        return len(self.operations) - 1

    def _step(self, node: fx.Node) -> None:
        """Add what a node does to results that depend on the inputs."""
        name, result = operation_name(node), node.meta.get("val")
        dependent = [position for position, value in enumerate(node.args) if value in self.places]
        has_options = any(value is not None and value is not False for value in node.kwargs.values())
        in_a_list_or_twice = len(dependent) != sum(source in self.places for source in node.all_input_nodes)
        if not isinstance(result, Tensor) or has_options or in_a_list_or_twice:
            raise refused(self.classifier, name, "is used in a way that has no linear bounds here")
        if result.shape[:1] != (EXAMPLES,):
            raise refused(
                self.classifier, name, f"turns a batch of {EXAMPLES} samples into the shape {tuple(result.shape)}"
            )
        if result.dtype != torch.float32:
            raise refused(self.classifier, name, f"computes in {result.dtype}")
        if name == "slice" and (node.args[1:2] or (0,)) == (0,) and (node.args[2:] or (0,)) not in EVERYTHING:
            raise refused(self.classifier, name, "takes some samples of a batch")
        sources = tuple(self.places[node.args[position]] for position in dependent)  # type: ignore[index]  # a node
        if name in RESHAPES and dependent == [0] and not ("dropout" in name and node.args[2]):
            before, after = self.operations[sources[0]].shape, tuple(result.shape[1:])
            if math.prod(before) != math.prod(after):
                raise refused(self.classifier, name, "repeats entries")
            self.places[node] = self._append(
                name,
                sources,
                lambda values: values.reshape(len(values), *after),
                transpose=lambda rows: (rows.reshape(len(rows), *before),),
            )
        elif name == "relu":
            self.places[node] = self._append(name, sources, torch.relu)
        elif name == "max_pool2d":
            self.places[node] = self._max_pool(node, sources[0])
        elif name in (ENTRYWISE | MIXING) - RESHAPES and self._is_affine(node, name, dependent):
            self.places[node] = self._affine(node, name, dependent, sources)
        else:
            raise refused(self.classifier, name)

    def _max_pool(self, node: fx.Node, place: int) -> int:
        """Add a max pool as what it is made of, ``max(a, b) = a + relu(b - a)``; return its place.

        Padding repeats the edge, which is in the same window, so that no maximum changes.
        """
        settings: list[Any] = [*node.args[1:], *[None] * (6 - len(node.args))]
        kernel, stride, padding, dilation, ceil_mode = settings
        kernel, padding, dilation = _pair(kernel), _pair(padding or [0]), _pair(dilation or [1])
        stride = _pair(stride) if stride else kernel
        if ceil_mode or (any(padding) and max(dilation) > 1):
            raise refused(self.classifier, "max_pool2d", "rounds its size up or pads between holes")
        if any(padding):
            edges = (padding[1], padding[1], padding[0], padding[0])
            place = self._append("pad", (place,), partial(functional.pad, pad=edges, mode="replicate"))
        for axis, width, step, hole in zip((2, 3), kernel, stride, dilation, strict=True):
            place = self._largest_along(place, axis, width, step, hole)
        return place

    def _largest_along(self, source: int, axis: int, width: int, step: int, hole: int) -> int:
        """Add the maxima of windows of one axis, ``width`` entries each; return their place."""
        outputs = (self.operations[source].shape[axis - 1] - hole * (width - 1) - 1) // step + 1
        starts = torch.arange(outputs, device=self.classifier.device) * step

        def entries(number: int) -> int:
            return self._append("slice", (source,), partial(torch.index_select, dim=axis, index=starts + number * hole))

        largest = entries(0)
        for number in range(1, width):
            excess = self._append(
                "sub", (entries(number), largest), torch.sub, torch.add, lambda rows: (rows, -rows), terms=2, mixes=True
            )
            excess = self._append("relu", (excess,), torch.relu)
            largest = self._append(
                "add", (largest, excess), torch.add, transpose=lambda rows: (rows, rows), terms=2, mixes=True
            )
        return largest

    def _is_affine(self, node: fx.Node, name: str, dependent: list[int]) -> bool:
        """Whether an operation of a known name is linear in what depends on the input, and nothing else does."""
        if name in {"add", "sub", "rsub"}:
            return len(node.args) == 2
        if name == "mul":
            return len(dependent) == 1
        if name == "addmm":
            return dependent == [1]
        if name == "batch_norm":
            if dependent != [0] or node.args[5] is not False:
                return False
            if node.args[7] < 0 or bool((self.constants[node.args[4]] < 0).any()):  # type: ignore[operator,index]
                raise refused(self.classifier, name, "has a negative variance")
            return True
        return dependent == [0]

    def _affine(self, node: fx.Node, name: str, dependent: list[int], sources: tuple[int, ...]) -> int:
        """Add an operation as torch itself computes it, in float64, and the same with the sizes of all weights."""

        def prepared(change: Callable[[Any], Any]) -> list[Any]:
            arguments: list[Any] = list(node.args)
            return [change(self.constants[value].double() if value in self.constants else value) for value in arguments]

        def call(target: Callable[..., Tensor], arguments: list[Any]) -> Callable[..., Tensor]:
            def called(*values: Tensor) -> Tensor:
                filled = list(arguments)
                for place, value in zip(dependent, values, strict=True):
                    filled[place] = value
                return target(*filled)

            return called

        target = getattr(getattr(torch.ops.aten, name), node.target._overloadname)  # type: ignore[union-attr]  # noqa: SLF001 - not in place
        weights = prepared(lambda value: value)
        sizes, absolute = prepared(lambda value: value.abs() if isinstance(value, Tensor) else value), target
        if name in {"add", "sub", "rsub", "mul", "div"}:
            sizes = [abs(value) if isinstance(value, int | float) else value for value in sizes]
            absolute = torch.add if name in {"sub", "rsub"} else target
        elif name == "neg":
            absolute = torch.abs
        elif name == "batch_norm":  # (x - mean) / std * weight + bias
            sizes[3] = -sizes[3]
        elif name in NUMBERS and len(sizes) > NUMBERS[name] and sizes[NUMBERS[name]] is not None:
            sizes[NUMBERS[name]] = abs(sizes[NUMBERS[name]])
        return self._append(
            name,
            sources,
            call(target, weights),
            call(absolute, sizes),
            self._known_transpose(name, weights, sources),
            terms=ROUNDINGS.get(name, 0) + self._summed(node, name, weights, sources),
            mixes=name in MIXING or len(dependent) > 1,
        )

    def _known_transpose(
        self, name: str, weights: list[Any], sources: tuple[int, ...]
    ) -> Callable[[Tensor], tuple[Tensor, ...]] | None:
        """Return the transpose where it is known: without, the map itself has to be run before it."""
        if name == "linear":
            return lambda rows: (rows @ weights[1],)
        if name.startswith("conv") and not any(isinstance(value, str) for value in weights):
            shape = self.operations[sources[0]].shape
            transpose = getattr(grad, f"{name}_input")
            return lambda rows: (transpose((len(rows), *shape), weights[1], rows, *weights[3:]),)
        return None

    def _summed(self, node: fx.Node, name: str, weights: list[Any], sources: tuple[int, ...]) -> int:
        """Return how many products or entries are added up to one entry of the result, at most."""
        if name == "linear" or name.startswith("conv"):
            return int(weights[1].shape[1:].numel()) + 1
        if name in {"addmm", "mm", "matmul"}:
            return int(weights[-1].shape[-2]) + 1
        if name == "avg_pool2d":
            height, width = _pair(weights[1])
            return height * width + 1
        if name in {"adaptive_avg_pool2d", "mean", "sum"}:
            ratio = -(-math.prod(self.operations[sources[0]].shape) // int(node.meta["val"].shape[1:].numel()))
            return (4 * ratio if name == "adaptive_avg_pool2d" else ratio) + 1  # its windows may overlap
        return 0


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return value[0], value[-1]


def _transposed(apply: Callable[..., Tensor], shapes: list[tuple[int, ...]], rows: Tensor) -> tuple[Tensor, ...]:
    """Return what the transpose of a linear map makes of rows: its vector-Jacobian product, which is exact."""
    with torch.enable_grad():
        points = [rows.new_zeros(len(rows), *shape, requires_grad=True) for shape in shapes]
        return torch.autograd.grad(apply(*points), points, rows)
