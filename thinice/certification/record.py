"""The record of what a network runs, and the guards without which a record would say less than the network does.

A record has operations and constants, of one batch of inputs. Where values of the inputs decide what runs, leave torch,
or are changed in memory that has two names, it would be wrong on other inputs, without a word: such networks are
refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from thinice.errors import InputError
from thinice.models import Classifier

__all__ = ["EXAMPLES", "named", "operation_name", "record", "refused"]

ALIASING = frozenset({"aten::dropout", "aten::feature_dropout", "aten::_unsafe_view"})
"""They return what they got, or a view of it, and their schemas do not say so."""
LEAVING = frozenset({Tensor.__array__, Tensor.item, Tensor.numpy, Tensor.tolist, Tensor.data.__get__})  # type: ignore[attr-defined]  # a property
EXAMPLES = 2
"""Samples in the batch that is traced: an axis of another length is not that of the samples."""


def record(classifier: Classifier, trial: Tensor) -> fx.GraphModule:
    """Return what a classifier runs on a batch of `EXAMPLES` samples, the first of some more (N, C, H, W).

    It is recorded twice, on different samples.

    Raises
    ------
    InputError
        Where something else may run on other inputs.

    """
    try:
        with _Watch(trial) as watch:
            classifier.module(trial)
        run = make_fx(partial(_run_aside, classifier.module), pre_dispatch=True)
        traced, again = (run(part.clone()) for part in (trial[:EXAMPLES], trial[-EXAMPLES:]))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise InputError(f"{named(classifier)} cannot be recorded for lower bounds ({_line(error)})") from None
    if watch.dynamic:
        raise InputError(
            f"{named(classifier)} uses {watch.dynamic}, whose shape depends on its inputs: what the network does "
            "with that is not recorded, and there are no lower bounds for it"
        )
    _refuse_hidden_writes(classifier, traced)
    if not _same_record(traced, again):
        raise InputError(
            f"{named(classifier)} runs something else on other inputs: their values, or chance, get into what is "
            "recorded of it, and there are no lower bounds for it"
        )
    return traced


def named(classifier: Classifier) -> str:
    """Return how an error speaks of a classifier."""
    return f"`classifier` {classifier.name!r}"


def refused(classifier: Classifier, name: str, why: str = "has no linear bounds here") -> InputError:
    """Return the error that names an operation and says why it has no lower bounds."""
    return InputError(
        f"{named(classifier)} uses {name}, which {why}: lower bounds are for networks of linear layers, convolutions, "
        "batch norm, ReLU, additions, average and max pools"
    )


def operation_name(node: fx.Node) -> str:
    """Return what torch calls an operation, without the mark of one that works in place."""
    name = str(node.target._schema.name) if hasattr(node.target, "_schema") else str(node.target)  # noqa: SLF001
    return name.removeprefix("aten::").removesuffix("_")


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _same_record(first: fx.GraphModule, second: fx.GraphModule) -> bool:
    """Whether two records have the same operations with the same numbers and constants, bit for bit."""

    def bare(argument: object) -> object:
        return argument.name if isinstance(argument, fx.Node) else repr(argument)

    nodes = list(first.graph.nodes), list(second.graph.nodes)
    if len(nodes[0]) != len(nodes[1]):
        return False
    for one, other in zip(*nodes, strict=True):
        if (one.op, one.name, str(one.target)) != (other.op, other.name, str(other.target)):
            return False
        if one.op == "get_attr" and not _equal(getattr(first, str(one.target)), getattr(second, str(other.target))):
            return False
        if [*map(bare, tree_leaves((one.args, one.kwargs)))] != [*map(bare, tree_leaves((other.args, other.kwargs)))]:
            return False
    return True


def _equal(constant: Tensor, other: Tensor) -> bool:
    """Whether two constants are the same, NaN for NaN; what is not dense is refused later."""
    if (constant.shape, constant.dtype, constant.layout) != (other.shape, other.dtype, other.layout):
        return False
    if constant.layout != torch.strided:
        return True
    return bool(((constant == other) | (constant.isnan() & other.isnan())).all())


def _refuse_hidden_writes(classifier: Classifier, traced: fx.GraphModule) -> None:
    """Refuse what works in place where another name of the same memory is used afterwards, or in constants.

    The record names results, not memory: it would have the old values under the other name.
    """
    memory: dict[fx.Node, fx.Node] = {}
    stale: dict[fx.Node, str] = {}
    for node in traced.graph.nodes:
        for source in node.all_input_nodes:
            if source in stale:
                raise refused(classifier, stale[source], "works in place on what is also used under another name")
        schema: Any = getattr(node.target, "_schema", None)
        writes = [] if schema is None else [each for each in schema.arguments if _is_written(each)]
        views = node.target is operator.getitem or (schema is not None and _returns_its_source(schema))
        memory[node] = memory[node.all_input_nodes[0]] if (writes or views) and node.all_input_nodes else node
        if not writes:
            continue
        changed = node.args[0] if node.args and len(writes) == 1 and _is_written(schema.arguments[0]) else None
        if not isinstance(changed, fx.Node) or memory[changed].op == "get_attr":
            raise refused(classifier, operation_name(node), "works in place on several results, or on a constant")
        same = (other for other in memory if memory[other] is memory[changed] and other is not node)
        stale |= dict.fromkeys(same, operation_name(node))


def _is_written(argument: torch.Argument) -> bool:
    """Whether an operation changes an argument, as its schema says."""
    return argument.alias_info is not None and argument.alias_info.is_write


def _returns_its_source(schema: torch.FunctionSchema) -> bool:
    """Whether the result of an operation may be in the memory of its first argument."""
    return any(result.alias_info for result in schema.returns) or schema.name in ALIASING


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation with a shape that depends on values of the inputs: by it, a number gets into Python.

    A branch on such a number would be recorded as the only one. Operations that return numbers cannot be recorded.
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dependent = {id(inputs): inputs}
        self.dynamic = ""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(id(value) in self.dependent for value in tree_leaves((args, kwargs))):
            if torch.Tag.dynamic_output_shape in func.tags:
                self.dynamic = self.dynamic or str(func).split(".")[1]
            self.dependent |= {id(value): value for value in tree_leaves(result) if isinstance(value, Tensor)}
        return result


class _Aside(TorchFunctionMode):
    """Leaves out of the record what does not depend on the inputs, so that sizes may be read from tensors.

    What does must not leave torch: a branch that NumPy decides would be recorded as the only one.
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.dependent = {id(inputs): inputs}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        kwargs = kwargs or {}
        if any(id(value) in self.dependent for value in tree_leaves((args, kwargs))):
            if func in LEAVING:
                raise RuntimeError("what depends on its inputs leaves torch, for NumPy or Python's own numbers")
            result = func(*args, **kwargs)
            self.dependent |= {id(value): value for value in tree_leaves(result) if isinstance(value, Tensor)}
            return result
        with disable_proxy_modes_tracing():
            return func(*args, **kwargs)


def _run_aside(module: nn.Module, inputs: Tensor) -> Tensor:
    with _Aside(inputs):
        return cast("Tensor", module(inputs))
