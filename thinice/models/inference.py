"""The inference form of a network: the same function on [0, 1], but faster, for the search of an attack.

Batch norm is folded into the layer before it, clamps of the inputs that change nothing in [0, 1] are left out, images
and kernels lie channels last in memory. A form is used only where its logits and gradients equal those of the network
on a few samples. Adversarials are verified with the network itself.
"""

from __future__ import annotations

import copy
import logging
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from thinice.errors import InputError
from thinice.models.clamped_inputs import drawn_in
from thinice.models.classifier import Classifier
from thinice.models.onnx_models import Program

__all__ = ["FoldedTwin", "fold_batch_norm", "inference_form", "unclamped"]

LOGGER = logging.getLogger(__name__)
LOGIT_TOLERANCE = 1e-4
"""Tolerance of the logits, as a share of a sample's largest: the same sums are taken in another order."""
GRADIENT_TOLERANCE = 0.01
"""Tolerance of the gradients, as a share of their length: such a change may move a ReLU across its kink."""
FOLDABLE = {nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear}
BATCH_NORMS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}
LIMITS: Mapping[str, tuple[str | None, str | None]] = MappingProxyType(
    {
        "clamp": ("min", "max"),
        "clip": ("min", "max"),
        "hardtanh": ("min_val", "max_val"),
        "relu6": (None, None),
        "relu": (None, None),
        "clamp_min": ("min", None),
        "clamp_max": (None, "max"),
        "maximum": ("other", None),
        "minimum": (None, "other"),
        "max": ("other", None),
        "min": (None, "other"),
    }
)
"""The operations that clamp, and what their limits are called, the lower one first."""
USUAL_LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0), "relu": (0.0, math.inf)}
)
"""Their limits where none are given; for the others there are none."""
REARRANGING = {"flatten", "reshape", "view", "permute", "transpose", "contiguous", "clone"}
"""Operations after which the inputs are still the same pixels in [0, 1], in another shape."""
CONSTANT: Mapping[str, float] = MappingProxyType({"zeros_like": 0.0, "ones_like": 1.0})
"""Operations that give a constant, and its value."""
REARRANGERS = {nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelUnshuffle, nn.ChannelShuffle}
IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}

Statistics: TypeAlias = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Mean, variance, scale and shift of a batch norm."""
Limits: TypeAlias = tuple[float, float]
"""Between which a clamp leaves what it is given as it is."""


def inference_form(classifier: Classifier, inputs: Tensor, *, compiled: bool = False) -> Classifier:
    """Return the classifier in the fastest of its forms that gives the same logits and gradients on these inputs.

    Tried in this order: batch norm folded and channels last, batch norm folded, the network's own form. Clamps of the
    inputs that change nothing in the box are left out, with batch norms or alone: they hide the gradient at its ends.
    The last note of the result says which it is.

    Parameters
    ----------
    classifier : Classifier
        Stays as it is.
    inputs : Tensor
        (N, C, H, W) in [0, 1], at least one; on the classifier's device.
    compiled : bool
        Also run it through `torch.compile`, which takes a minute and is worth it for long runs.

    Raises
    ------
    InputError
        Where `torch.compile` fails, or changes the logits, and for networks that are given samples one by one.

    Examples
    --------
    >>> from thinice.models import as_classifier, build
    >>> classifier = as_classifier(build("digits_cnn"))
    >>> fast = inference_form(classifier, torch.rand(2, 1, 8, 8))
    >>> any(isinstance(layer, nn.BatchNorm2d) for layer in fast.module.modules())
    False
    """
    if compiled and classifier.one_by_one:
        raise InputError(
            f"`compiled` (--compile) pays in batches, and {classifier.name!r} is given samples one by one: choose"
        )
    bare, clamps = unclamped(classifier.module)
    points = drawn_in(inputs) if clamps else inputs  # at 0 and 1, a clamp hides the gradients to compare with
    own = _logits_and_gradient(classifier, points)
    fast = next((form for form in _forms(classifier, bare, clamps) if _same(form, own, points)), None)
    if fast is None:
        fast = _noted(classifier, classifier.module, "searched in its own form")
    if compiled:
        fast = _compiled(fast, own, points)
    LOGGER.info("%s: %s", fast.name, fast.notes[-1])
    return fast


def _noted(classifier: Classifier, module: nn.Module, note: str) -> Classifier:
    return replace(classifier, module=module, notes=(*classifier.notes, note))


def _forms(classifier: Classifier, bare: nn.Module, clamps: int) -> Iterator[Classifier]:
    """Yield the forms to try, the fastest first, of a network without its clamps."""
    module, count = fold_batch_norm(bare)
    dropped = [f"clamps of the inputs dropped ({clamps})"] if clamps else []
    changes = [*dropped, f"batch norms folded ({count})"] if count else dropped
    if any(weight.ndim == 4 for weight in module.parameters()):  # kernels of images
        last = ChannelsLast(copy.deepcopy(module))
        laid_out = ", ".join([*changes, "channels last"])
        yield _noted(classifier, last, f"searched with {laid_out}" if changes else "searched channels last")
    if changes:
        yield _noted(classifier, module, f"searched with {', '.join(changes)}")
    if dropped and count:
        yield _noted(classifier, bare, f"searched with {dropped[0]}")


class ChannelsLast(nn.Module):
    """A network whose images and kernels lie channels last in memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # torch's own annotation lacks the memory format
        self.network = cast("Callable[..., nn.Module]", network.to)(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W)."""
        return cast("Tensor", self.network(inputs.contiguous(memory_format=torch.channels_last)))


class Compiled(nn.Module):
    """A network compiled for any batch size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = cast("nn.Module", torch.compile(network, dynamic=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W)."""
        with warnings.catch_warnings():  # torch's own: tracing looks at the gradient of the copy that it is given
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            return cast("Tensor", self.network(inputs))


def fold_batch_norm(module: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy whose batch norms are folded into the convolution or linear layer before them, and how many were.

    Folded is a batch norm with fixed statistics that is the only reader of the layer's output. Everything else, and
    networks that `torch.fx` cannot trace, stay as they are. A layer that is used twice, or a batch norm that follows
    two layers, is folded at each place by itself. Programs out of files are graphs already: they are not traced again.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> twin, count = fold_batch_norm(network)
    >>> count, torch.allclose(twin(torch.ones(1, 3, 5, 5)), network(torch.ones(1, 3, 5, 5)), atol=1e-6)
    (1, True)
    """
    twin = copy.deepcopy(module).requires_grad_(requires_grad=False)
    programs = [layer for layer in twin.modules() if isinstance(layer, Program)]
    if programs:
        return twin, sum(_fold_program(program) for program in programs)
    traced = _traced(twin)
    if traced is None:
        return copy.deepcopy(module).requires_grad_(requires_grad=False), 0
    count = _fold_traced(traced)
    return traced.eval(), count


class FoldedTwin:
    """A twin of a network in training, with batch norm folded in as in eval mode; all else is shared with the network.

    Its `module` computes what the network does in eval mode, as of the last `refresh`. Where nothing can be folded,
    `module` is ``None``: where `torch.fx` cannot trace the network, where it has parametrisations, or no batch norm
    behind a layer of its own.

    Parameters
    ----------
    network : nn.Module
        In eval mode.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> twin = FoldedTwin(network)
    >>> _ = nn.init.ones_(network[0].weight)
    >>> twin.refresh()
    >>> torch.allclose(twin.module(torch.ones(1, 3, 5, 5)), network(torch.ones(1, 3, 5, 5)), atol=1e-5)
    True
    """

    def __init__(self, network: nn.Module) -> None:
        self.module: nn.Module | None = None
        self.pairs: list[tuple[nn.Module, _BatchNorm, nn.Module]] = []
        if any(parametrize.is_parametrized(layer) or isinstance(layer, Program) for layer in network.modules()):
            return
        traced = _traced(network)
        if traced is not None:
            _fold_traced(traced, self.pairs)
            self.module = traced if self.pairs else None

    @torch.no_grad()
    def refresh(self) -> None:
        """Fold anew, after weights or running statistics have changed."""
        for layer, norm, merged in self.pairs:
            mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
            factor = (variance + norm.eps).rsqrt()
            factor = factor * norm.weight if norm.affine else factor
            weight, bias = cast("Tensor", layer.weight), cast("Tensor | None", layer.bias)
            offset = (-mean if bias is None else bias - mean) * factor
            cast("Tensor", merged.weight).copy_(weight * factor.view(-1, *[1] * (weight.ndim - 1)))
            cast("Tensor", merged.bias).copy_(offset + norm.bias if norm.affine else offset)


def _traced(module: nn.Module) -> fx.GraphModule | None:
    """Return a network as a graph that shares its layers, or None where `torch.fx` cannot follow it."""
    try:
        return fx.symbolic_trace(module)
    except Exception as error:  # noqa: BLE001 - a foreign forward may do anything with a stand-in for a tensor
        LOGGER.info("not traceable: %s", str(error).strip().partition("\n")[0])
        return None


def _fold_traced(traced: fx.GraphModule, pairs: list[tuple[nn.Module, _BatchNorm, nn.Module]] | None = None) -> int:
    """Fold batch norms of a traced network, in place; return how many, and note in `pairs` what became what."""
    count = 0
    for node in traced.graph.nodes:
        layer, norm = _pair(node, traced)
        if layer is not None and norm is not None:
            before = node.args[0]
            name = f"folded_{count}"
            together = _fold(layer, norm)
            traced.add_submodule(name, together)
            if pairs is not None:
                pairs.append((layer, norm, together))
            with traced.graph.inserting_before(before):
                merged = traced.graph.call_module(name, before.args, before.kwargs)
            node.replace_all_uses_with(merged)
            traced.graph.erase_node(node)
            traced.graph.erase_node(before)
            count += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return count


def _pair(node: fx.Node, traced: fx.GraphModule) -> tuple[nn.Module | None, _BatchNorm | None]:
    """Return the layer and the batch norm that can be one where this node is that batch norm; else nothing."""
    before = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
        return None, None
    layer, norm = traced.get_submodule(str(before.target)), traced.get_submodule(str(node.target))
    fits = type(layer) in FOLDABLE and type(norm) in BATCH_NORMS and len(before.users) == 1
    if not fits or _hooked(layer) or _hooked(norm) or not isinstance(norm, _BatchNorm):
        return None, None
    if norm.num_features != len(cast("Tensor", layer.weight)):  # it normalises rows of a linear layer's outputs
        return None, None
    fixed = not norm.training and norm.running_mean is not None and norm.running_var is not None
    return (layer, norm) if fixed else (None, None)


def _hooked(layer: nn.Module) -> bool:
    """Return whether a layer has hooks, which may change what it computes: weight norm, masks, probes."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)  # noqa: SLF001 - torch has no other way to ask


def _fold(layer: nn.Module, norm: _BatchNorm) -> nn.Module:
    """Return one layer that computes both."""
    merged = copy.deepcopy(layer)
    weight, bias = cast("Tensor", merged.weight), cast("Tensor | None", merged.bias)
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale, shift = (norm.weight, norm.bias) if norm.affine else (None, None)
    merged.weight, merged.bias = _merged(weight, bias, (mean, variance, scale, shift), norm.eps)
    return merged


def _merged(
    weight: Tensor, bias: Tensor | None, statistics: Statistics, eps: float
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias of y = s (Wx + b - m) + t with s = gamma / sqrt(v + eps), computed in float64."""
    mean, variance, scale, shift = statistics  # m, v, gamma, t
    factor = (variance.double() + eps).rsqrt()
    factor = factor if scale is None else factor * scale.double()
    offset = -mean.double() if bias is None else bias.double() - mean.double()
    offset = offset * factor if shift is None else offset * factor + shift.double()
    both = weight.double() * factor.view(-1, *[1] * (weight.ndim - 1)), offset
    merged, moved = (nn.Parameter(value.to(weight), requires_grad=False) for value in both)
    return merged, moved


def unclamped(module: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy without the clamps of its inputs that change nothing in the box, and how many there were.

    That is ``clamp``, ``hardtanh``, ``relu``, ``minimum`` and the like, between constant limits that contain [0, 1],
    where they come first: before them the inputs may at most be rearranged. Without any, and where `torch.fx` cannot
    trace it, the module itself comes back.

    Examples
    --------
    >>> network = nn.Sequential(nn.Hardtanh(0, 1), nn.Conv2d(3, 4, 3), nn.Hardtanh(0, 1))
    >>> [type(layer).__name__ for layer in unclamped(network)[0].children()]
    ['Conv2d', 'Hardtanh']
    """
    twin = copy.deepcopy(module).requires_grad_(requires_grad=False)
    if isinstance(twin, Program):
        count = _unclamp_traced(twin.graph) if isinstance(twin.graph, fx.GraphModule) else 0
        return (twin, count) if count else (module, 0)
    if any(isinstance(layer, Program) for layer in twin.modules()):  # behind a normalisation: never first
        return module, 0
    traced = _traced(twin)
    count = 0 if traced is None else _unclamp_traced(traced)
    return (traced.eval(), count) if traced is not None and count else (module, 0)


def _unclamp_traced(traced: fx.GraphModule) -> int:
    """Take the clamps of the inputs out of a traced network, in place; return how many."""
    pixels: set[fx.Node] = set()
    count = 0
    for node in list(traced.graph.nodes):
        source = node.args[0] if node.args else None
        if node.op == "placeholder":
            pixels.add(node)
        elif not isinstance(source, fx.Node) or source not in pixels:
            continue
        elif _operation(node) in REARRANGING or type(_layer(node, traced)) in REARRANGERS:
            pixels.add(node)
        elif _operation(node).endswith("_") or node.target in IN_PLACE:
            break  # what reads the inputs after that reads changed ones
        elif _idle(_limits_of_node(node, traced)):
            with traced.graph.inserting_before(node):
                same = traced.graph.call_method("clone", (source,))  # keeps operations in place off the inputs
            node.replace_all_uses_with(same)
            traced.graph.erase_node(node)
            pixels.add(same)
            count += 1
    if count:
        traced.delete_all_unused_submodules()
        traced.recompile()
    return count


def _idle(limits: Limits | None) -> bool:
    """Return whether a clamp between these limits changes nothing in [0, 1]."""
    return limits is not None and limits[0] <= 0 and limits[1] >= 1


def _layer(node: fx.Node, traced: fx.GraphModule) -> nn.Module | None:
    """Return the layer that a node calls; ``None`` where it calls none, or one with hooks."""
    layer = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return None if layer is None or _hooked(layer) else layer


def _operation(node: fx.Node) -> str:
    """Return the name of a tensor's method, or of a function of torch; else nothing."""
    if node.op == "call_method":
        return str(node.target)
    name = getattr(node.target, "__name__", "")
    is_torch = node.op == "call_function" and node.target in {
        getattr(torch, name, None),
        getattr(functional, name, None),
    }
    return name if is_torch else ""


def _limits_of_node(node: fx.Node, traced: fx.GraphModule) -> Limits | None:
    """Return the limits between which a node clamps what it is given first; None where it does something else."""
    layer, operation = _layer(node, traced), _operation(node)
    if type(layer) in {nn.Hardtanh, nn.ReLU6}:
        return _limits("hardtanh", vars(layer))
    if type(layer) is nn.ReLU:
        return USUAL_LIMITS["relu"]
    if layer is not None:
        clips = type(layer).__name__ == "OnnxClip" and type(layer).__module__.startswith("onnx2torch.")
        return _limits("clip", {"min": layer.min_val, "max": layer.max_val}) if clips else None
    keywords = [keyword for keyword in LIMITS.get(operation, ()) if keyword is not None]
    given = {**dict(zip(keywords, node.args[1:], strict=False)), **node.kwargs}
    if not isinstance(given.get("other"), fx.Node):
        given.pop("other", None)  # a dimension
    return _limits(operation, {keyword: _number(value, traced) for keyword, value in given.items()})


def _limits(operation: str, given: Mapping[str, object]) -> Limits | None:
    """Return the limits of an operation with these arguments, NaN where unknown; None where it does not clamp."""
    if operation not in LIMITS or ("other" in LIMITS[operation] and "other" not in given):  # the largest value of all
        return None
    usual = USUAL_LIMITS.get(operation, (-math.inf, math.inf))
    limits = []
    for keyword, limit in zip(LIMITS[operation], usual, strict=True):
        value = limit if keyword is None or given.get(keyword) is None else given[keyword]
        limits.append(float(value) if isinstance(value, int | float) else math.nan)
    return limits[0], limits[1]


def _number(value: object, traced: fx.GraphModule) -> object:
    """Return the number that an argument stands for, where it is a constant."""
    if not isinstance(value, fx.Node):
        return value
    if value.op == "get_attr":
        owner, _, leaf = str(value.target).rpartition(".")
        return _only_number(getattr(traced.get_submodule(owner), leaf))
    return math.nan if "dtype" in value.kwargs else CONSTANT.get(_operation(value), math.nan)


def _only_number(held: object) -> float:
    """Return the one number of a tensor that clamps others without widening them; else NaN."""
    fits = isinstance(held, Tensor) and held.numel() == 1 and held.ndim <= 1 and held.dtype == torch.float32
    return float(cast("Tensor", held)) if fits else math.nan


def _fold_program(program: Program) -> int:
    """Fold batch norms of a program, in place; return how many."""
    return _fold_traced(program.graph) if isinstance(program.graph, fx.GraphModule) else 0


def _logits_and_gradient(classifier: Classifier, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (N, K) and the gradient (N, D) of a fixed combination of them."""
    point = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = classifier(point)
        values = (logits * torch.linspace(-1, 1, logits.shape[1], device=logits.device)).sum()
    if not values.requires_grad:
        return logits.detach(), torch.zeros_like(point).flatten(1)
    # the graph is kept, as by attacks that differentiate several logits
    (gradient,) = torch.autograd.grad(values, point, retain_graph=True, materialize_grads=True)
    return logits.detach(), gradient.flatten(1)


def _same(form: Classifier, own: tuple[Tensor, Tensor], inputs: Tensor) -> bool:
    """Return whether a form has the logits and gradients of the network; a form that raises has not."""
    try:
        logits, gradient = _logits_and_gradient(form, inputs)
        alone = form(inputs[:1])  # attacks drop samples that are done: a form must take any batch size
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign forward may not stand another memory layout
        LOGGER.info("%s fails: %s", form.notes[-1], str(error).strip().partition("\n")[0])
        return False
    return _agree((logits, gradient), own) and _close(alone, own[0][:1])


def _agree(form: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> bool:
    """Return whether logits agree everywhere, and gradients for most samples: a ReLU may be at its kink."""
    close = (form[1] - own[1]).norm(dim=1) <= GRADIENT_TOLERANCE * own[1].norm(dim=1)
    return _close(form[0], own[0]) and bool(close.float().mean() > 0.5)


def _close(logits: Tensor, own: Tensor) -> bool:
    if logits.shape != own.shape or not torch.equal(logits.argmax(1), own.argmax(1)):
        return False
    tolerance = LOGIT_TOLERANCE * own.abs().amax(1, keepdim=True)
    same = (logits == own) | (logits.isnan() & own.isnan())
    return bool((same | ((logits - own).abs() <= tolerance)).all())


def _compiled(fast: Classifier, own: tuple[Tensor, Tensor], inputs: Tensor) -> Classifier:
    """Return the form compiled for any batch size, or say why that is not possible."""
    import torch._functorch.config  # noqa: PLC0415 - half a second, and few ask for it

    torch._functorch.config.donated_buffer = False  # noqa: SLF001 - else no graph can be differentiated twice
    try:
        form = _noted(fast, Compiled(fast.module), f"{fast.notes[-1]}, compiled")
        compiled = _logits_and_gradient(form, inputs)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"`compiled`: torch.compile fails on {fast.name!r}: {reason}; leave it out") from error
    if not _agree(compiled, own):
        raise InputError(f"`compiled`: torch.compile changes the logits of {fast.name!r}: leave it out")
    return form
