"""torch.export files as programs, read as plain data.

torch's own reader unpickles parts of such a file and evaluates texts in it, so it must not see untrusted files. Here
the graph is read from its JSON, the weights from their raw bytes, and every step is one of ATen's tensor operations:
nothing in the file can do more than compute with tensors.
"""

from __future__ import annotations

import json
import operator
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from thinice.errors import CheckpointError
from thinice.models.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["Graph", "Name", "Step", "load_export"]

MAJOR_VERSION = 8
"""Of the JSON schema."""
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
STRIDED = 7
INTEGER_OPERATIONS = {f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg")}
PLAIN_TYPES = re.compile(r"((Optional|List)\[)*(Tensor|int|float|bool|number|SymInt|Device|Layout)\]*")
TEXT_ARGUMENTS = {"approximate", "rounding_mode", "padding", "mode", "reduce", "indexing"}
CHECKS = {
    "_assert_scalar",
    "_assert_async",
    "_assert_tensor_metadata",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
}
PRIVATE = {
    "_adaptive_avg_pool2d",
    "_log_softmax",
    "_native_batch_norm_legit_no_training",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_softmax",
    "_to_copy",
    "_unsafe_view",
}
"""Operations that are not public but appear in decomposed programs; others may trust their arguments blindly."""
MODES = {"training", "train"}
SHAPES = {"size", "shape"}
WEIGHTED = re.compile(r"aten\.(conv\w*|linear|addmm|mm|bmm|matmul)\.")
REARRANGED = re.compile(
    r"aten\.(t|permute|transpose|numpy_T|view|_unsafe_view|reshape|unsqueeze|squeeze|expand|clone)\."
)


@dataclass(frozen=True, slots=True)
class Name:
    """A value of the graph, by its name."""

    name: str


class Device:
    """Wherever the inputs are."""


class Batch:
    """As many as there are inputs."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: what it is called with, the names of what it gives, and the names not needed afterwards."""

    operation: str
    arguments: Mapping[str, Any]
    results: tuple[str | tuple[str, ...], ...]
    spent: tuple[str, ...] = ()

    @property
    def read(self) -> Iterator[str]:
        """The names of the values it is called with."""
        for argument in self.arguments.values():
            yield from _names(argument)

    @property
    def names(self) -> Iterator[str]:
        """The names of the values it gives."""
        for names in self.results:
            yield from [names] if isinstance(names, str) else names


def _same(value: Any) -> object:  # noqa: ANN401 - JSON
    return value


def _tensor(value: Mapping[str, Any]) -> Name:
    return Name(value["name"])


def _symbol(value: Mapping[str, Any]) -> object:
    ((kind, what),) = value.items()
    return Name(what) if kind == "as_name" else what


def _each(read: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda values: [read(value) for value in values]


def _layout(value: int) -> torch.layout:
    if value != STRIDED:
        raise ValueError(f"layout {value} is not strided")
    return torch.strided


ARGUMENTS: Mapping[str, Callable[[Any], object]] = {
    "as_none": lambda _: None,
    **dict.fromkeys(("as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings"), _same),
    "as_float": float,  # infinities are written as texts
    "as_floats": _each(float),
    "as_tensor": _tensor,
    "as_tensors": _each(_tensor),
    **dict.fromkeys(("as_sym_int", "as_sym_bool", "as_sym_float"), _symbol),
    **dict.fromkeys(("as_sym_ints", "as_sym_bools", "as_sym_floats"), _each(_symbol)),
    "as_scalar_type": DTYPES.__getitem__,
    "as_memory_format": MEMORY_FORMATS.__getitem__,
    "as_device": lambda _: Device(),
    "as_layout": _layout,
}
"""How each kind of argument is read."""


def _operation(target: str) -> Callable[..., Any]:
    """Return the operation of a name that the reader has let pass."""
    if target.startswith("_operator."):
        found: Callable[..., Any] = getattr(operator, target.removeprefix("_operator."))
        return found
    return operator.attrgetter(target.removeprefix("torch.ops.aten."))(torch.ops.aten)  # type: ignore[no-any-return] # a table of functions


class Graph(nn.Module):
    """Steps in order, on weights held as parameters."""

    def __init__(self, steps: tuple[Step, ...], given: str, result: str, held: Mapping[str, str]) -> None:
        super().__init__()
        self.steps = _with_spent(steps, {*held, given, result})
        self.given, self.result, self.held = given, result, dict(held)

    def twin(self, steps: tuple[Step, ...], added: Mapping[str, nn.Parameter]) -> Graph:
        """Return a graph of other steps on the same tensors and those added, without what these steps read no more."""
        before, after = ({name for step in some for name in step.read} for some in (self.steps, steps))
        kept = {name: place for name, place in self.held.items() if name in after or name not in before}
        twin = Graph(steps, self.given, self.result, {**kept, **{name: name for name in added}})
        for place in dict.fromkeys(twin.held.values()):
            twin.hold(place, added[place] if place in added else getattr(self, place))
        return twin

    def hold(self, place: str, value: Tensor) -> None:
        """Keep a tensor, as a parameter where it is one."""
        if isinstance(value, nn.Parameter):
            self.register_parameter(place, value)
        else:
            self.register_buffer(place, value)

    def for_any_batch(self, batch: int) -> Graph:
        """Return a graph on the same tensors whose shapes that begin with a batch size begin with that of the inputs.

        A guess: an 1 may mean something else. Whether the graph computes the same must be tried.
        """
        moving, steps = {self.given}, []
        for step in self.steps:
            depends = not moving.isdisjoint(step.read)
            if depends:
                moving.update(step.names)
            sized = depends or "self" not in step.arguments or step.operation.startswith("torch.ops.aten.expand.")
            freed = {what: _freed(value, batch) for what, value in step.arguments.items() if what in SHAPES and sized}
            steps.append(Step(step.operation, {**step.arguments, **freed}, step.results))
        return self.twin(tuple(steps), {})

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the program's one output."""
        values: dict[str, Any] = {name: getattr(self, place) for name, place in self.held.items()}
        values[self.given] = inputs
        for step in self.steps:
            arguments = {name: _value(value, values, inputs) for name, value in step.arguments.items()}
            call = _operation(step.operation)
            positional = step.operation.startswith("_operator.")
            output = call(*arguments.values()) if positional else call(**arguments)
            outputs = output if len(step.results) > 1 else (output,)
            for names, value in zip(step.results, outputs, strict=True):
                if isinstance(names, str):
                    values[names] = value
                else:
                    values.update(zip(names, value, strict=True))
            for name in step.spent:
                del values[name]
        result: Tensor = values[self.result]
        return result


def _freed(sizes: object, batch: int) -> object:
    return [Batch(), *sizes[1:]] if isinstance(sizes, list) and sizes[:1] == [batch] else sizes


def _value(value: object, values: Mapping[str, Any], inputs: Tensor) -> object:
    if isinstance(value, Name):
        return values[value.name]
    if isinstance(value, list):
        return [_value(item, values, inputs) for item in value]
    if isinstance(value, Batch):
        return inputs.shape[0]
    return inputs.device if isinstance(value, Device) else value


def load_export(path: Path) -> Program:
    """Return the program of a ``torch.export.save`` file.

    Raises
    ------
    CheckpointError
        A damaged file, a program in training mode, or one that needs more than tensor operations.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive).program()
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RuntimeError,
        OSError,
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: is a damaged or unknown torch.export file ({reason}): export it again"
        ) from None


class _Reader:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        self.root = archive.namelist()[0].partition("/")[0]
        self.model: Mapping[str, Any] = json.loads(self._bytes("models/model.json"))
        self.graph: Mapping[str, Any] = self.model["graph_module"]["graph"]

    def refuse(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {message}")

    def _bytes(self, name: str) -> bytes:
        entry = self.archive.getinfo(f"{self.root}/{name}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise self.refuse(f"{name} is compressed, which torch.export never does: export it again")
        return self.archive.read(entry)

    def program(self) -> Program:
        version = self.model["schema_version"]["major"]
        if version != MAJOR_VERSION:
            raise self.refuse(f"has schema version {version}, not {MAJOR_VERSION}: export it with another torch")
        signature = self.model["graph_module"]["signature"]
        given, held, tensors = self._inputs(signature["input_specs"])
        result = self._output(signature["output_specs"])
        steps = tuple(self._steps())
        graph = Graph(steps, given, result, held)
        for place, value in tensors.items():
            graph.hold(place, value)
        sizes = [size.get("as_int") for size in self.graph["tensor_values"][given]["sizes"]]
        weights = _weights(steps, held)
        names = tuple(f"graph.{place}" for place in weights if isinstance(tensors[place], nn.Parameter))
        batch = sizes[0]

        def freed() -> Program:
            return Program(graph.for_any_batch(batch), tuple(sizes[1:]), prunable_names=names)

        return Program(graph, tuple(sizes[1:]), batch=batch, prunable_names=names, freed=freed)

    def _inputs(self, specs: list[Mapping[str, Any]]) -> tuple[str, dict[str, str], dict[str, Tensor]]:
        """Return the name of the input, the attribute that holds each other name, and the tensors by attribute."""
        weights, constants = self._tensors("weights"), self._tensors("constants")
        given: list[str] = []
        held: dict[str, str] = {}
        tensors: dict[str, Tensor] = {}
        for spec in specs:
            ((kind, what),) = spec.items()
            if kind == "user_input":
                given.append(what["arg"]["as_tensor"]["name"])
                continue
            key = {
                "parameter": "parameter_name",
                "buffer": "buffer_name",
                "tensor_constant": "tensor_constant_name",
            }.get(kind)
            if key is None:
                raise self.refuse(f"needs {kind}, which is not a tensor: export the network for tensors alone")
            name = what[key]
            value = weights[name] if name in weights else constants[name]
            place = f"{kind}/{name}".replace(".", "/")
            tensors[place] = nn.Parameter(value) if kind == "parameter" and value.is_floating_point() else value
            held[what["arg"]["name"]] = place
        if len(given) != 1:
            raise self.refuse(f"has {len(given)} inputs: export a network of one batch of images")
        return given[0], held, tensors

    def _output(self, specs: list[Mapping[str, Any]]) -> str:
        kinds = [next(iter(spec)) for spec in specs]
        if any("mutation" in kind for kind in kinds):
            raise self.refuse("changes its own buffers, so it was exported in training mode: export network.eval()")
        if kinds != ["user_output"]:
            raise self.refuse(f"has {len(kinds)} outputs: export a network with one tensor of logits")
        return str(specs[0]["user_output"]["arg"]["as_tensor"]["name"])

    def _tensors(self, what: str) -> dict[str, Tensor]:
        config = json.loads(self._bytes(f"data/{what}/model_{what}_config.json"))["config"]
        return {name: self._tensor(what, name, entry) for name, entry in config.items()}

    def _tensor(self, what: str, name: str, entry: Mapping[str, Any]) -> Tensor:
        meta = entry["tensor_meta"]
        if entry["use_pickle"] or meta is None or meta["layout"] != STRIDED or meta["dtype"] not in DTYPES:
            raise self.refuse(f"{name} is stored as a pickle or in an unknown type: export a network of plain tensors")
        data = bytearray(self._bytes(f"data/{what}/{entry['path_name']}"))
        dtype = DTYPES[meta["dtype"]]
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()

    def _steps(self) -> Iterator[Step]:
        for node in self.graph["nodes"]:
            target = str(node["target"])
            if any(target.startswith(f"torch.ops.aten.{check}.") for check in CHECKS):
                continue
            self._check(target)
            arguments = {
                one["name"] or str(place): self._argument(one["arg"]) for place, one in enumerate(node["inputs"])
            }
            if any(arguments.get(mode) is True for mode in MODES):
                raise self.refuse("was exported in training mode: export network.eval()")
            yield Step(target, arguments, tuple(map(self._result, node["outputs"])))

    def _check(self, target: str) -> None:
        """Refuse whatever is not arithmetic of sizes or an operation on tensors and numbers alone."""
        if target in INTEGER_OPERATIONS:
            return
        found = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
        public = found is not None and (not found[1].startswith("_") or found[1] in PRIVATE)
        packet = getattr(torch.ops.aten, found[1], None) if found and public else None
        overload = getattr(packet, found[2], None) if found else None
        if not isinstance(overload, torch._ops.OpOverload):  # noqa: SLF001 - torch has no public name for it
            raise self.refuse(
                f"uses {target}, which is not a tensor operation: export the network without it, or as ONNX"
            )
        for argument in overload._schema.arguments:  # noqa: SLF001 - torch has no public name for it
            kind = str(argument.type)
            text = kind in {"str", "Optional[str]"} and argument.name in TEXT_ARGUMENTS
            if not text and not PLAIN_TYPES.fullmatch(kind):
                raise self.refuse(f"uses {target}, which takes more than tensors and numbers: export it as ONNX")

    def _argument(self, argument: Mapping[str, Any]) -> object:
        ((kind, value),) = argument.items()
        if kind in {"as_optional_tensors", "as_nested_tensors"}:
            return [self._argument(one) for one in value]
        if kind not in ARGUMENTS:
            raise self.refuse(f"has an argument of kind {kind}, which is no tensor or number: export it as ONNX")
        return ARGUMENTS[kind](value)

    def _result(self, output: Mapping[str, Any]) -> str | tuple[str, ...]:
        ((kind, value),) = output.items()
        if kind == "as_tensor":
            return str(value["name"])
        if kind in {"as_sym_int", "as_sym_bool", "as_sym_float"}:
            return str(value["as_name"])
        if kind == "as_tensors":
            return tuple(str(one["name"]) for one in value)
        raise self.refuse(f"has a result of kind {kind}, which is no tensor or number: export it as ONNX")


def _names(value: object) -> Iterator[str]:
    if isinstance(value, Name):
        yield value.name
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def _with_spent(steps: tuple[Step, ...], lasting: set[str]) -> tuple[Step, ...]:
    """Return the steps, each with the names that no later step needs."""
    needed, done = set(lasting), []
    for step in reversed(steps):
        results, used = set(step.names), set(step.read)
        spent = tuple(sorted((used | results) - needed))
        needed |= used
        done.append(Step(step.operation, step.arguments, step.results, spent))
    return tuple(reversed(done))


def _weights(steps: tuple[Step, ...], held: Mapping[str, str]) -> list[str]:
    """Return the attributes that hold weights of convolutions and linear layers, also rearranged ones."""
    origin = dict(held)
    found: list[str] = []
    for step in steps:
        operation = step.operation.removeprefix("torch.ops.")
        if REARRANGED.match(operation):
            source = next(_names(step.arguments.get("self")), "")
            if source in origin and isinstance(step.results[0], str):
                origin[step.results[0]] = origin[source]
        elif WEIGHTED.match(operation):
            for argument in ("weight", "mat1", "mat2", "self", "other"):
                if operation.startswith("aten.addmm") and argument == "self":
                    continue  # the bias
                for name in _names(step.arguments.get(argument)):
                    if name in origin and origin[name] not in found:
                        found.append(origin[name])
    return found
