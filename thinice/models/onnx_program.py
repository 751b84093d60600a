"""ONNX files as programs that have gradients: checked by onnx, converted by onnx2torch.

onnx2torch writes the names of a file's steps into Python code and runs it, so no name goes in that could be more.
"""

from __future__ import annotations

import contextlib
import keyword
import re
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from thinice.errors import CheckpointError, MissingExtraError
from thinice.models.pickles import plain
from thinice.models.program import Program

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NEWEST_OPSET", "load_onnx"]

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
    except Exception as error:  # noqa: BLE001 - what a reader stumbles over in a stranger's file may be anything
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

    def freed() -> Program | None:
        with contextlib.suppress(CheckpointError):
            return _program(_for_any_batch(model, batch), path, declared)
        return None

    program = _program(model, path, declared)
    program.batch, program.freed = batch, freed
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
    """Take away what a reshape says of zeros in its shape where there is none: onnx2torch refuses to read it."""
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
    for place, node in enumerate(model.graph.node):
        node.name = f"step_{place}"


def _is_harmless(name: str) -> bool:
    """Return whether a name may become one of Python code, and of a layer: no word of Python, or of modules."""
    words = re.split(r"\W+", name)
    return HARMLESS.fullmatch(name) is not None and not any(
        keyword.iskeyword(word) or word == "self" or hasattr(RESERVED, word) for word in words if word
    )


def _converted(model: Any, path: Path) -> fx.GraphModule:  # noqa: ANN401 - a protocol buffer
    """Return torch's form of a model: with its weights settled where that can be converted, else as it stands."""
    import onnx2torch  # noqa: PLC0415 - an extra

    with contextlib.suppress(Exception):  # what cannot be settled is converted as it stands
        return onnx2torch.convert(_settled(model))  # type: ignore[no-any-return] # untyped
    try:
        return onnx2torch.convert(model)  # type: ignore[no-any-return] # untyped
    except Exception as error:  # noqa: BLE001 - a stranger's model may fail in any way
        raise CheckpointError(
            f"{path}: cannot be converted ({_line(error)}): export it with opset_version=13"
        ) from None


def _settled(model: Any) -> Any:  # noqa: ANN401 - a protocol buffer
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
    for place, node in enumerate(twin.graph.node):
        if node.op_type != "Reshape" or len(node.input) != 2 or node.input[0] in held or node.input[1] not in held:
            continue
        sizes = numpy_helper.to_array(held[node.input[1]]).copy()
        if sizes.ndim == 1 and len(sizes) > 0 and sizes[0] == batch:
            sizes[0] = 0 if sizes[1:].min(initial=1) < 1 else -1  # the input's own; what is left
            node.input[1] = f"{node.input[1]} for any batch {place}"
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
    found: list[str] = []
    for node in graph.graph.nodes:
        if node.op != "call_module" or "MatMul" not in type(graph.get_submodule(str(node.target))).__name__:
            continue
        for source in node.args:
            if isinstance(source, fx.Node) and source.op == "get_attr" and str(source.target) not in found:
                owner, _, leaf = str(source.target).rpartition(".")
                holder = graph.get_submodule(owner)
                value = getattr(holder, leaf)
                if value.is_floating_point() and value.ndim > 1:
                    delattr(holder, leaf)
                    holder.register_parameter(leaf, nn.Parameter(value))
                    found.append(str(source.target))
    return found
