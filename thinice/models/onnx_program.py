"""ONNX files as programs that have gradients: checked by onnx, converted by onnx2torch.

onnx2torch writes the names of a file's steps into Python code and runs it, so no name goes in that could be more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from thinice.errors import CheckpointError, MissingExtraError
from thinice.models.program import Program

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NEWEST_OPSET", "load_onnx"]

NEWEST_OPSET = 17
"""onnx2torch lacks converters of newer operator sets; onnx itself translates such files down to this one."""
HARMLESS = re.compile(r"[\w./:; -]+", re.ASCII)
"""Names of steps that exporters write. A quotation mark would end the text that a name stands in."""


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
        import onnx2torch  # noqa: PLC0415 - an extra
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # noqa: PLC0415 - of onnx
    except ImportError:
        raise MissingExtraError("reading ONNX files", "onnx") from None
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is not a valid ONNX file ({_line(error)}): export it again") from None
    notes: list[str] = []
    version = _opset(model, path)
    if version > NEWEST_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, NEWEST_OPSET)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: cannot be translated from operator set {version} to {NEWEST_OPSET} ({_line(error)}): export "
                f"it with opset_version={NEWEST_OPSET}, or with torch.export"
            ) from None
        notes.append(f"ONNX operator set {version} translated to {NEWEST_OPSET}")
    declared, batch = _input_shape(model, path)
    _rename(model)
    try:
        graph = onnx2torch.convert(model)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be converted ({_line(error)}): export it with opset_version=13, or with torch.export"
        ) from None
    names = _weights(graph)
    program = Program(graph.eval(), declared, batch=batch, prunable_names=tuple(f"graph.{name}" for name in names))
    program.notes = tuple(notes)
    return program


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _opset(model: Any, path: Path) -> int:  # noqa: ANN401 - a protocol buffer
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise CheckpointError(
            f"{path}: uses operators of {', '.join(foreign)}: export it with standard operators alone"
        )
    return int(versions.get("", versions.get("ai.onnx", 1)))


def _rename(model: Any) -> None:  # noqa: ANN401 - a protocol buffer
    """Number the steps, unless their names are harmless and distinct, or all empty (onnx2torch then numbers them)."""
    names = [node.name.replace(".", "/") for node in model.graph.node]
    if not any(names) or (all(map(HARMLESS.fullmatch, names)) and len(set(names)) == len(names)):
        return
    for place, node in enumerate(model.graph.node):
        node.name = f"step_{place}"


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
