"""ONNX files as torch modules with gradients: checked by onnx, converted by onnx2torch.

onnx2torch writes the names of a file's steps into Python code and runs it, so only harmless names are passed on.
"""

from __future__ import annotations

import contextlib
import keyword
import math
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from thinice.errors import CheckpointError, InputError, MissingExtraError
from thinice.models.bounded_trial import Bounded
from thinice.models.pickles import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["MOST_NUMBERS", "NEWEST_OPSET", "Program", "load_onnx"]

IMAGE_CHANNELS = (1, 3)
MOST_NUMBERS = 2**24
"""In one sample: an image of 3 x 2 365 x 2 365."""
MOST_AT_ONCE = 2**26
"""In one batch that a program is bound to."""
MOST_CLASSES = 1_000_000
"""As many as labels of samples may name."""


class Program(nn.Module):
    """A graph with fixed weights that takes inputs (N, C, H, W) as other networks do.

    Samples of another shape than the program declares are reshaped to it where the number of elements agrees, and
    permuted where it declares (H, W, C). A program exported for one batch size alone is given batches of that size,
    the last one filled up with zeros.

    Parameters
    ----------
    graph
        Takes one tensor; its parameters become those of the program.
    declared
        The shape of one sample as the program declares it; ``None`` for a size it leaves open.
    batch
        The batch size it was exported for; ``None`` where any goes.
    prunable_names
        Parameters of this module that are weights of convolutions and linear layers.
    with_any_batch
        Makes the program whose reshapes take any batch size, where there is one; it need not compute the same.
    """

    def __init__(
        self,
        graph: nn.Module,
        declared: tuple[int | None, ...],
        *,
        batch: int | None = None,
        prunable_names: tuple[str, ...] = (),
        with_any_batch: Callable[[], Program | None] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.declared = declared
        self.batch = batch
        self.prunable_names = prunable_names
        self.with_any_batch = with_any_batch
        self.classes: int | None = None
        self.notes: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Program:  # noqa: FBT001, FBT002 - the signature of torch
        """Return the program as it is: the mode was fixed when it was exported."""
        self.training = mode
        return self

    @property
    def channels_last(self) -> bool:
        """Whether the program declares samples as (H, W, C)."""
        shape = self.declared
        return len(shape) == 3 and shape[2] in IMAGE_CHANNELS and shape[0] not in IMAGE_CHANNELS

    @property
    def sample_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) where the program declares images."""
        if len(self.declared) != 3 or None in self.declared:
            return None
        first, second, third = (size or 0 for size in self.declared)
        return (third, first, second) if self.channels_last else (first, second, third)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W)."""
        arranged = self._arrange(inputs)
        if self.batch is None or len(inputs) == self.batch:
            return _logits(self.graph(arranged), len(inputs))
        parts = []
        for part in torch.split(arranged, self.batch):
            filled = torch.cat([part, part.new_zeros(self.batch - len(part), *part.shape[1:])])
            parts.append(_logits(self.graph(filled), self.batch)[: len(part)])
        return torch.cat(parts)

    def _arrange(self, inputs: Tensor) -> Tensor:
        if self.channels_last and inputs.shape[1:] == self.sample_shape:
            return inputs.permute(0, 2, 3, 1)
        shape = tuple(inputs.shape[1:])
        if len(shape) == len(self.declared) and all(
            wanted in {None, size} for wanted, size in zip(self.declared, shape, strict=True)
        ):
            return inputs
        if None in self.declared:
            raise InputError(f"`inputs` of shape {shape} do not fit a program that takes {self.declared}")
        wanted = tuple(size or 0 for size in self.declared)
        if inputs[0].numel() != torch.Size(wanted).numel():
            raise InputError(f"`inputs` of shape {shape} do not fit a program that takes {wanted}")
        return inputs.reshape(len(inputs), *wanted)

    def try_out(self, where: str) -> None:
        """Run the program on random images, to find its number of classes and whether it takes any batch size.

        A batch size that the file declares is often not built into the graph, or only into its reshapes: where a few
        samples at once give what they give in batches of that size, the program takes any batch.
        """
        shape = tuple(size or 32 for size in self.declared)
        numbers = math.prod(shape)
        if numbers > MOST_NUMBERS or numbers * (self.batch or 1) > MOST_AT_ONCE:
            raise CheckpointError(
                f"{where}: declares inputs of shape {(self.batch or 'N', *shape)}, larger than any batch of images: "
                "export it for images, one at a time"
            )
        generator = torch.Generator().manual_seed(0)
        trial = torch.rand(4 if self.batch == 3 else 3, *shape, generator=generator)  # never one batch
        with torch.no_grad():
            try:
                with Bounded(where):
                    alone = self(self._as_samples(trial))
            except CheckpointError:
                raise
            except Exception as error:  # noqa: BLE001 - a stranger's program may fail in any way
                reason = plain(str(error).strip().partition("\n")[0])
                raise CheckpointError(f"{where}: cannot be run on inputs {tuple(trial.shape)} ({reason})") from None
            if alone.shape[1] > MOST_CLASSES:
                raise CheckpointError(
                    f"{where}: gives {alone.shape[1]:,} logits for each image, more than the {MOST_CLASSES:,} classes "
                    "that there may be: export a network that classifies"
                )
            if self.batch is not None:
                self._choose_graph(self.batch, trial, alone)
        self.with_any_batch = None
        self.classes = alone.shape[1]
        if len(shape) != 3:
            self.notes += (f"samples are reshaped to {shape}, as the program declares",)
        elif self.channels_last:
            self.notes += (f"samples are permuted to {shape}, channels last, as the program declares",)

    def _choose_graph(self, batch: int, trial: Tensor, alone: Tensor) -> None:
        """Find a graph that takes any batch: its own, or the one with reshapes to any batch; else keep its own."""
        if self._all_at_once(self.graph, trial, alone):
            self.batch = None
            return
        other = None if self.with_any_batch is None else self.with_any_batch()
        if other is not None and self._all_at_once(other.graph, trial, alone):
            self.graph, self.prunable_names, self.batch = other.graph, other.prunable_names, None
            self.notes += (f"reshapes to batches of {batch} made to take any; a trial gave the same",)
        else:
            self.notes += (f"works on batches of {batch} alone; other sizes are split and filled up",)

    def _as_samples(self, arranged: Tensor) -> Tensor:
        return arranged.permute(0, 3, 1, 2) if self.channels_last else arranged

    @staticmethod
    def _all_at_once(graph: nn.Module, arranged: Tensor, alone: Tensor) -> bool:
        try:
            with Bounded("a trial"):
                together = _logits(graph(arranged), len(arranged))
        except Exception:  # noqa: BLE001 - a stranger's program may fail in any way
            return False  # the trial of a batch size that the graph need not accept
        return together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-4, atol=1e-5)


def _logits(output: object, samples: int) -> Tensor:
    if isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(f"it returns {type(output).__name__}, not one tensor of logits")
    if output.ndim < 2 or output.shape[0] != samples:
        raise ValueError(f"it returns shape {tuple(output.shape)} for {samples} samples")
    return output.flatten(1)


NEWEST_OPSET = 17
"""onnx2torch lacks converters of newer operator sets; onnx itself translates such files down to this one."""
MOST_STEPS = 10_000
"""A DenseNet of 201 layers has a thousand."""
ASIDE = "aside"
HARMLESS = re.compile(r"[\w./:; -]+", re.ASCII)
"""Names of steps that exporters write. A quotation mark would end the text that a name stands in."""
RESERVED = fx.GraphModule(nn.Module(), fx.Graph())
"""What it has already, no layer of it can be called."""


def load_onnx(path: Path) -> Program:
    """Return the program of an ONNX file.

    Raises
    ------
    MissingExtraError
        onnx or onnx2torch is not installed.
    CheckpointError
        A file that onnx refuses, an operator that cannot be converted, or not one input and one output.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
        import onnx2torch  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("reading ONNX files", "onnx") from None
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001 - what a reader fails on in a stranger's file may be anything
        raise CheckpointError(f"{path}: is not a valid ONNX file ({_line(error)}): export it again") from None
    if len(model.graph.node) > MOST_STEPS:
        raise CheckpointError(f"{path}: has more than {MOST_STEPS} steps: export a smaller network")
    try:
        return _understood(model, path)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - what stands in a stranger's model may be anything
        raise CheckpointError(f"{path}: cannot be understood ({_line(error)}): export it again") from None


def _understood(model: Any, path: Path) -> Program:  # noqa: ANN401 - a protocol buffer
    notes: list[str] = []
    version = _opset(model, path)
    if version > NEWEST_OPSET:
        model = _translated(model, version, path)
        notes.append(f"ONNX operator set {version} translated to {NEWEST_OPSET}")
    declared, batch = _input_shape(model, path)
    _rename(model)
    _without_zeros(model)

    def with_any_batch() -> Program | None:
        with contextlib.suppress(CheckpointError):
            return _program(_for_any_batch(model, batch), path, declared)
        return None

    program = _program(model, path, declared)
    program.batch, program.with_any_batch = batch, with_any_batch
    program.notes = tuple(notes)
    return program


def _program(model: Any, path: Path, declared: tuple[int | None, ...]) -> Program:  # noqa: ANN401 - a protocol buffer
    graph = _converted(model, path)
    names = tuple(f"graph.{name}" for name in _weights(graph))
    return Program(graph.eval(), declared, prunable_names=names)


def _line(error: Exception) -> str:
    return plain(str(error).strip().partition("\n")[0] or type(error).__name__)


def _opset(model: Any, path: Path) -> int:  # noqa: ANN401 - a protocol buffer
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise CheckpointError(
            f"{path}: uses operators of {', '.join(foreign)}: export it with standard operators alone"
        )
    return int(versions.get("", versions.get("ai.onnx", 1)))


def _translated(model: Any, version: int, path: Path) -> Any:  # noqa: ANN401 - a protocol buffer
    """Return the model in the newest operator set that onnx2torch knows.

    From 18 on, Pad may be told axes, and onnx cannot take that back. A Pad without is the same as before; it stands in
    a domain of its own meanwhile, where onnx does not look at it.
    """
    import onnx  # noqa: PLC0415 - an extra

    for node in model.graph.node:
        if node.op_type == "Pad" and not any(node.input[3:]):
            node.domain = ASIDE
    model.opset_import.add(domain=ASIDE, version=1)
    try:
        model = onnx.version_converter.convert_version(model, NEWEST_OPSET)
    except Exception as error:  # noqa: BLE001 - a stranger's model may fail in any way
        raise CheckpointError(
            f"{path}: cannot be translated from operator set {version} to {NEWEST_OPSET} ({_line(error)}): export "
            f"it with opset_version={NEWEST_OPSET}"
        ) from None
    for node in model.graph.node:
        node.domain = "" if node.domain == ASIDE else node.domain
    return model


def _constants(model: Any) -> dict[str, Any]:  # noqa: ANN401 - a protocol buffer
    """Return the tensors that stand in the file, by their names."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        tensor = _constant(node)
        if tensor is not None:
            held[node.output[0]] = tensor
    return held


def _constant(node: Any) -> Any:  # noqa: ANN401 - a protocol buffer
    """Return the tensor of a step that does nothing but give one; ``None`` of every other."""
    values = [attribute.t for attribute in node.attribute if attribute.name == "value" and attribute.HasField("t")]
    return values[0] if node.op_type == "Constant" and values and node.output else None


def _without_zeros(model: Any) -> None:  # noqa: ANN401 - a protocol buffer
    """Remove the attribute of reshapes about zeros in their shape where there is none: onnx2torch refuses it."""
    from onnx import numpy_helper  # noqa: PLC0415 - an extra

    held = _constants(model)
    for node in model.graph.node:
        sizes = held.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) == 2 else None
        if sizes is not None and numpy_helper.to_array(sizes).all():
            node.ClearField("attribute")  # it has no other


def _rename(model: Any) -> None:  # noqa: ANN401 - a protocol buffer
    """Give each step a number for a name, unless all names are harmless and distinct, or all are empty."""
    names = [node.name.replace(".", "/") for node in model.graph.node]
    if not any(names) or (all(map(_is_harmless, names)) and len(set(names)) == len(names)):
        return
    for index, node in enumerate(model.graph.node):
        node.name = f"step_{index}"


def _is_harmless(name: str) -> bool:
    """Return whether a name may become one of Python code, and of a layer: no word of Python, or of modules."""
    words = re.split(r"\W+", name)
    return HARMLESS.fullmatch(name) is not None and not any(
        keyword.iskeyword(word) or word == "self" or hasattr(RESERVED, word) for word in words if word
    )


def _converted(model: Any, path: Path) -> fx.GraphModule:  # noqa: ANN401 - a protocol buffer
    """Return a model as a torch module: with all weights as initializers, else unchanged."""
    import onnx2torch  # noqa: PLC0415 - an extra

    with contextlib.suppress(Exception):  # a model that cannot be changed is converted as it stands
        return _with_own_slices(onnx2torch.convert(_with_initializers(model)))
    try:
        return _with_own_slices(onnx2torch.convert(model))
    except Exception as error:  # noqa: BLE001 - a stranger's model may fail in any way
        raise CheckpointError(
            f"{path}: cannot be converted ({_line(error)}): export it with opset_version=13"
        ) from None


class Slice(nn.Module):
    """A step that takes parts of a tensor: onnx2torch's own indexes by a list, of which torch warns at every pass."""

    def forward(
        self, inputs: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
    ) -> Tensor:
        """Return the parts from starts to ends of these axes, of all axes in turn where none are given."""
        places = range(len(starts)) if axes is None else map(int, axes)
        strides = [1] * len(starts) if steps is None else map(int, steps)
        parts, backwards = [slice(None)] * inputs.ndim, []
        for start, end, axis, stride in zip(map(int, starts), map(int, ends), places, strides, strict=True):
            if stride < 0:
                backwards.append(axis)
            parts[axis] = slice(start, end, stride) if stride > 0 else slice(-start - 1, -end - 1, -stride)
        return (inputs.flip(backwards) if backwards else inputs)[tuple(parts)]


def _with_own_slices(graph: fx.GraphModule) -> fx.GraphModule:
    """Return the converted model with `Slice` for each slice of onnx2torch."""
    for name, layer in list(graph.named_modules()):
        if type(layer).__name__ == "OnnxSlice":
            graph.set_submodule(name, Slice())
    return graph


def _with_initializers(model: Any) -> Any:  # noqa: ANN401 - a protocol buffer
    """Return a copy whose weights are all initializers, also those that stand in a Constant or pass an Identity.

    onnx2torch makes torch's own layers where weights and statistics are initializers alone. torch's exporter writes
    equal tensors once, and lets Identity copy them.
    """
    twin = type(model)()
    twin.CopyFrom(model)
    results = {value.name for value in twin.graph.output}
    held = {tensor.name for tensor in twin.graph.initializer}
    origin: dict[str, str] = {}
    for node in list(twin.graph.node):
        node.input[:] = [origin.get(name, name) for name in node.input]
        if results.intersection(node.output):
            continue
        if node.op_type == "Identity" and node.output and set(node.input) <= held and node.input:
            origin[node.output[0]] = node.input[0]
            twin.graph.node.remove(node)
        elif (tensor := _constant(node)) is not None and _is_weight(tensor):
            twin.graph.initializer.add().CopyFrom(tensor)
            twin.graph.initializer[-1].name = node.output[0]
            held.add(node.output[0])
            twin.graph.node.remove(node)
    return twin


def _is_weight(tensor: Any) -> bool:  # noqa: ANN401 - a protocol buffer
    return len(tensor.dims) > 0 and tensor.data_type in {tensor.FLOAT, tensor.FLOAT16, tensor.DOUBLE, tensor.BFLOAT16}


def _for_any_batch(model: Any, batch: int | None) -> Any:  # noqa: ANN401 - a protocol buffer
    """Return a copy whose reshapes to a batch size take any: a guess, for an 1 may mean something else."""
    from onnx import numpy_helper  # noqa: PLC0415 - an extra

    twin = type(model)()
    twin.CopyFrom(model)
    held = _constants(twin)
    for index, node in enumerate(twin.graph.node):
        if node.op_type != "Reshape" or len(node.input) != 2 or node.input[0] in held or node.input[1] not in held:
            continue
        sizes = numpy_helper.to_array(held[node.input[1]]).copy()
        if sizes.ndim == 1 and len(sizes) > 0 and sizes[0] == batch:
            sizes[0] = 0 if sizes[1:].min(initial=1) < 1 else -1  # the input's own; what is left
            node.input[1] = f"{node.input[1]} for any batch {index}"
            twin.graph.initializer.append(numpy_helper.from_array(sizes, node.input[1]))
    return twin


def _input_shape(
    model: Any,  # noqa: ANN401 - a protocol buffer
    path: Path,
) -> tuple[tuple[int | None, ...], int | None]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise CheckpointError(
            f"{path}: has {len(inputs)} inputs and {len(model.graph.output)} outputs: export a network of one batch of "
            "images to one tensor of logits"
        )
    sizes = [
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in inputs[0].type.tensor_type.shape.dim
    ]
    if len(sizes) < 2:
        raise CheckpointError(
            f"{path}: its input has the shape {sizes}, without a batch: export it for a batch of images"
        )
    return tuple(sizes[1:]), sizes[0]


def _weights(graph: fx.GraphModule) -> list[str]:
    """Return the constants that are multiplied with maps, made parameters: weights of linear layers in disguise.

    Convolutions and Gemm become torch's own layers, whose weights are known; MatMul takes a bare constant.
    """
    names: list[str] = []
    for node in graph.graph.nodes:
        if node.op != "call_module" or "MatMul" not in type(graph.get_submodule(str(node.target))).__name__:
            continue
        for source in node.args:
            if isinstance(source, fx.Node) and source.op == "get_attr" and str(source.target) not in names:
                owner, _, leaf = str(source.target).rpartition(".")
                holder = graph.get_submodule(owner)
                value = getattr(holder, leaf)
                if value.is_floating_point() and value.ndim > 1:
                    delattr(holder, leaf)
                    holder.register_parameter(leaf, nn.Parameter(value))
                    names.append(str(source.target))
    return names
