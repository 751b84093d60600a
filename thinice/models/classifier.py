"""A network that takes pixels in [0, 1], frozen, with everything that is known of it."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import re
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.prune import BasePruningMethod

from thinice.errors import InputError
from thinice.losses import are_probabilities
from thinice.models.architectures import find_architecture, origin_of
from thinice.models.normalization import (
    Normalization,
    NormalizationLike,
    Normalized,
    normalization_text,
    parse_normalization,
)
from thinice.models.pickles import plain
from thinice.models.weights import sparsity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "Classifier",
    "as_classifier",
    "assemble",
    "fingerprint_of",
    "hashed_identity",
    "last_width",
    "looks_like_probabilities",
    "same_task",
    "structure_of",
]


def fingerprint_of(
    architecture: str,
    arguments: Mapping[str, object],
    weights: Mapping[str, Tensor],
    normalization: Normalization | None,
) -> str:
    """Return 32 hex digits of SHA-256 over architecture, arguments, weights and normalisation.

    Counters of batch norm are left out and -0.0 counts as 0.0: neither changes a logit.

    Examples
    --------
    >>> a = fingerprint_of("net", {}, {"w": torch.zeros(2)}, None)
    >>> a == fingerprint_of("net", {}, {"w": -torch.zeros(2)}, None), len(a)
    (True, 32)
    """
    digest = hashlib.sha256()
    header = {
        "architecture": architecture,
        "arguments": dict(arguments),
        "normalization": None
        if normalization is None
        else [torch.tensor(part, dtype=torch.float32).tolist() for part in normalization],
    }
    digest.update(json.dumps(header, sort_keys=True, default=repr).encode())
    for name in sorted(weights):
        if name.rpartition(".")[2] == "num_batches_tracked":
            continue
        value = weights[name].detach().cpu().contiguous()
        if value.is_floating_point():
            value = value + 0.0  # turns -0.0 into 0.0
        array = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        digest.update(f"{name}|{array.dtype.name}|{tuple(array.shape)}|".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()[:32]


def hashed_identity(architecture: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return what the fingerprint takes as architecture and arguments: of the user's code, what it computes.

    So a network has one fingerprint wherever its code lies, and also where the module itself is given.
    """
    if "class" in arguments:
        return f"module:{arguments['class']}", {"structure": arguments["structure"]}
    return architecture, arguments


def structure_of(module: nn.Module) -> str:
    """Return text that tells modules apart which have the same weights but compute something else.

    The printed structure, the plain attributes of every layer and the byte code of every ``forward`` that is
    not torch's own. What a ``forward`` reads from globals or closures is not seen.

    Examples
    --------
    >>> structure_of(nn.ReLU()) == structure_of(nn.GELU())
    False
    """
    parts = [repr(module)]
    for name, layer in module.named_modules():
        kind = type(layer)
        if not kind.__module__.startswith("torch."):
            plain = {
                key: value
                for key, value in sorted(vars(layer).items())
                if not key.startswith("_") and key != "training" and _is_plain(value)
            }
            parts.append(f"{name}|{kind.__qualname__}|{plain}")
            forward = inspect.unwrap(kind.forward)
            parts.append(repr(_code(forward.__code__)) if hasattr(forward, "__code__") else repr(forward.__qualname__))
    return "\n".join(parts)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _code(code: CodeType) -> tuple[object, ...]:
    constants = tuple(
        _code(constant)
        if isinstance(constant, CodeType)
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    )
    return code.co_code.hex(), code.co_names, constants


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Classifier:
    """A network from inputs (N, C, H, W) in [0, 1] to logits (N, K); normalisation is inside.

    Made by `as_classifier` and `load_classifier`, never by hand.

    Attributes
    ----------
    module
        In eval mode, float32, without gradients of its parameters. A `Normalized` where it normalises.
    name
        What tables and figures call it: the file's stem, or what the caller said.
    architecture, arguments
        What `build` needs to make it again; ``onnx`` for whole programs, ``models.py:CLASS(…)`` for the user's own
        code, with its class, structure and arguments, ``module:CLASS`` for other modules.
    classes
        Number of classes; ``None`` where a plain module does not tell (it has no linear layer).
    fingerprint
        Hex digits of architecture, weights and normalisation: equal where the function is.
    sparsity
        Fraction of the prunable weights that are zero.
    class_names, data, input_shape, recipe, parent
        Class names, name of the data set, (C, H, W), how it was trained and pruned, the fingerprint of
        the dense network it came from; ``None`` where unknown.
    normalization, normalization_known
        (mean, std), or ``None`` where pixels go in as they are; ``normalization_known`` is false where nobody
        said so and ``None`` is only an assumption (`infer_normalization` finds out).
    architecture_known, alternatives
        False where parameter names and shapes alone said the architecture; then ``alternatives`` are the others that
        have the same and compute something else. They are listed too where the names are those of one published
        program, until labels were asked (`decide`).
    recorded_accuracy
        What the file says of itself: the name of the entry, and the fraction of samples.
    path
        The file it came from.
    notes
        What was found out and converted while loading, one sentence each, to be shown to the user.
    """

    module: nn.Module
    name: str
    architecture: str
    classes: int | None
    fingerprint: str
    sparsity: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    data: str | None = None
    normalization: Normalization | None = None
    normalization_known: bool = True
    input_shape: tuple[int, int, int] | None = None
    recipe: Mapping[str, Any] | None = None
    parent: str | None = None
    architecture_known: bool = True
    alternatives: tuple[str, ...] = ()
    recorded_accuracy: tuple[str, float] | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W) in [0, 1], which stay as they are.

        The network gets a copy: some normalise their input in place.
        """
        return cast("Tensor", self.module(inputs.clone()))

    def __repr__(self) -> str:
        assumed = "" if self.normalization_known else " (assumed)"
        return (
            f"<Classifier {self.name!r}: {self.architecture}, {self.classes} classes, "
            f"sparsity {self.sparsity:.4f}, normalisation {normalization_text(self.normalization)}{assumed}, "
            f"fingerprint {self.fingerprint[:8]}>"
        )

    @property
    def network(self) -> nn.Module:
        """The module without the normalisation around it."""
        return self.module.network if isinstance(self.module, Normalized) else self.module

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a network without any."""
        return next((tensor.device for tensor in self.module.state_dict().values()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Classifier:
        """Return the same classifier on a device; itself where it is there already.

        Examples
        --------
        >>> from thinice.models import build
        >>> classifier = as_classifier(build("digits_cnn"))
        >>> classifier.to("cpu") is classifier
        True
        """
        target = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        if target == self.device:
            return self
        return replace(self, module=copy.deepcopy(self.module).to(target))


def as_classifier(
    network: nn.Module | Classifier,
    *,
    name: str | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    data: str | None = None,
    normalization: NormalizationLike | None = None,
    input_shape: tuple[int, int, int] | None = None,
    recipe: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> Classifier:
    """Return a classifier with its own frozen copy of a module; a classifier comes back as it is, or renamed.

    Parameters
    ----------
    network
        A module from (N, C, H, W) to logits. Left untouched: the copy is float32, in eval mode, without
        gradients, and torch's own pruning masks and parametrisations are folded into its weights. What
        `build` made keeps its architecture's name.
    name
        What tables call it; else the architecture's name.
    classes
        Number of classes, where the module does not tell.
    class_names, data, input_shape, recipe, parent
        See `Classifier`.
    normalization
        What `parse_normalization` takes; without it pixels go in as they are. A `Normalized` brings its own.

    Raises
    ------
    InputError
        Something that is not a module, a second normalisation, or new facts about a finished classifier.

    Examples
    --------
    >>> toy = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> classifier = as_classifier(toy, name="toy", normalization="half")
    >>> classifier.classes, classifier(torch.full((1, 1, 2, 2), 0.5)).shape
    (3, torch.Size([1, 3]))
    """
    facts = (classes, class_names, data, normalization, input_shape, recipe, parent)
    if isinstance(network, Classifier):
        if any(fact is not None for fact in facts):
            raise InputError("`network` is a classifier already: only `name` can change, or use its `network`")
        return network if name is None else replace(network, name=name)
    if not isinstance(network, nn.Module):
        raise InputError(f"`network` must be a torch module or a Classifier, got {type(network).__name__}")
    _refuse_quantised(network)
    inside = parse_normalization(normalization)
    if isinstance(network, Normalized):
        if normalization is not None and inside != network.normalization:
            raise InputError("`normalization`: the module is `Normalized` already: leave the argument out")
        inside, network = network.normalization, network.network
    origin = origin_of(network)
    if origin is None:
        architecture, arguments = f"module:{type(network).__qualname__}", {"structure": structure_of(network)}
    else:
        architecture, arguments = origin.architecture, dict(origin.arguments)
        input_shape = input_shape or usual_shape(architecture, arguments)
        classes = classes or origin.classes
    return assemble(
        own_copy(network),
        name=name or architecture,
        architecture=architecture,
        arguments=arguments,
        classes=classes or last_width(network),
        class_names=None if class_names is None else tuple(class_names),
        data=data,
        normalization=inside,
        input_shape=input_shape,
        recipe=recipe,
        parent=parent,
    )


def _refuse_quantised(network: nn.Module) -> None:
    """Raise InputError for layers and weights that are no numbers with gradients."""
    way_out = "which has no gradients to follow: give the network in float32, before it is quantised"
    for name, layer in network.named_modules():
        if re.match(r"torch\.ao\.nn\.(\w+\.)*quantized\.|torch\.nn\.quantized\.", type(layer).__module__):
            raise InputError(
                f"`network` is quantised ({plain(name)} is {type(layer).__module__}.{type(layer).__name__}), {way_out}"
            )
    for name, value in network.state_dict().items():
        packages = ("torchao.", "bitsandbytes.", "optimum.quanto.")
        if not isinstance(value, Tensor):
            raise InputError(
                f"`network`: {plain(name)} in its state_dict() is a {type(value).__name__}, not a tensor: give a "
                "network whose state is tensors alone"
            )
        if value.is_quantized or type(value).__module__.startswith(packages):
            raise InputError(f"`network` is quantised ({plain(name)} is a {type(value).__name__}), {way_out}")


def assemble(
    network: nn.Module,
    *,
    name: str,
    architecture: str,
    arguments: Mapping[str, Any],
    classes: int | None,
    normalization: Normalization | None,
    **facts: Any,  # noqa: ANN401 - the remaining fields of Classifier
) -> Classifier:
    """Return the classifier around a network that nobody else holds: normalised, frozen, hashed."""
    network = network.float().eval().requires_grad_(requires_grad=False)
    module = network
    if normalization is not None:
        device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        module = Normalized(network, mean=normalization[0], std=normalization[1]).eval().to(device)
    return Classifier(
        module=module,
        name=name,
        architecture=architecture,
        arguments=dict(arguments),
        classes=classes,
        fingerprint=fingerprint_of(*hashed_identity(architecture, arguments), network.state_dict(), normalization),
        sparsity=sparsity(network),
        normalization=normalization,
        **facts,
    )


def usual_shape(architecture: str, arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return (C, H, W) where an architecture works with that size alone."""
    shape = find_architecture(architecture).input_shape
    return None if shape is None else (int(arguments.get("channels", shape[0])), *shape[1:])


def own_copy(network: nn.Module) -> nn.Module:
    """Return a deep copy whose masks and parametrisations (of torch itself) are folded into plain weights."""
    memo: dict[int, Any] = {}
    for layer in network.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # a pruned weight, which deepcopy refuses
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(network, memo)
    for layer in list(twin.modules()):
        for hook in list(layer._forward_pre_hooks.values()):  # noqa: SLF001 - where torch keeps its pruning
            if isinstance(hook, BasePruningMethod):
                prune.remove(layer, hook._tensor_name)  # type: ignore[no-untyped-call]  # noqa: SLF001 - the same
        if parametrize.is_parametrized(layer):
            for tensor_name in list(cast("nn.ModuleDict", layer.parametrizations)):
                parametrize.remove_parametrizations(layer, tensor_name)
    return twin


def last_width(network: nn.Module) -> int | None:
    """Return how many outputs the last linear layer has; ``None`` without one."""
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]
    return widths[-1] if widths else None


def looks_like_probabilities(logits: Tensor) -> bool:
    """Return whether every row lies in [0, 1] and sums to one: a softmax inside, which blinds attacks.

    Examples
    --------
    >>> looks_like_probabilities(torch.tensor([[0.2, 0.8]]))
    True
    >>> looks_like_probabilities(torch.tensor([[0.2, 0.9]]))
    False
    """
    return logits.numel() > 0 and bool(are_probabilities(logits).all())


def same_task(dense: Classifier, pruned: Classifier) -> None:
    """Return nothing where two classifiers answer the same task, as far as both say what it is.

    Raises
    ------
    InputError
        Different class counts, class names, input shapes or data sets.

    Examples
    --------
    >>> from thinice.models import build
    >>> same_task(as_classifier(build("digits_cnn", 10)), as_classifier(build("digits_cnn", 10)))
    """
    for what in ("classes", "class_names", "input_shape", "data"):
        ours, theirs = getattr(dense, what), getattr(pruned, what)
        if ours is not None and theirs is not None and ours != theirs:
            raise InputError(
                f"`pruned` {pruned.name!r} answers another task than `dense` {dense.name!r}: "
                f"{what} is {theirs}, not {ours}; compare networks of one data set"
            )
