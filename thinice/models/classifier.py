"""A network that takes pixels in [0, 1], frozen, with everything that is known of it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from thinice.errors import InputError
from thinice.losses import are_probabilities
from thinice.models.architectures import find_architecture, origin_of
from thinice.models.fingerprints import fingerprint_of, hashed_identity, structure_of
from thinice.models.normalization import (
    Normalization,
    NormalizationLike,
    Normalized,
    inner,
    normalization_text,
    parse_normalization,
)
from thinice.models.pickles import plain
from thinice.models.weights import prunable_weights, sparsity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thinice.models.weights import Masks

__all__ = [
    "Classifier",
    "OneByOne",
    "as_classifier",
    "assemble",
    "last_width",
    "looks_like_probabilities",
    "same_task",
    "with_weights",
]


class OneByOne(nn.Module):
    """A network that gets each sample of a batch alone, for one whose logits depend on the batch.

    Examples
    --------
    >>> inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> OneByOne(nn.BatchNorm1d(2, track_running_stats=False)).eval()(inputs)
    Traceback (most recent call last):
    ...
    ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 2])
    >>> OneByOne(nn.Softmax(0))(inputs)
    tensor([[1., 1.],
            [1., 1.]])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K) of inputs (N, C, H, W)."""
        return torch.cat([self.network(sample[None]) for sample in inputs] or [self.network(inputs)])


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, repr=False)
class Classifier:
    """A network from inputs (N, C, H, W) in [0, 1] to logits (N, K); normalisation is inside.

    Made by `as_classifier` and `load_classifier`, never by hand.

    Attributes
    ----------
    module
        In eval mode, float32, without gradients of its parameters. A `Normalized` where it normalises, and a `OneByOne`
        around that where it is given one sample at a time.
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
    masks
        Which weights pruning kept, where the file says so: a weight that is zero may be kept, too.
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
    masks: Masks | None = None
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
        """The module without what is around it: the normalisation, `OneByOne`."""
        inner = self.module.network if isinstance(self.module, OneByOne) else self.module
        return inner.network if isinstance(inner, Normalized) else inner

    @property
    def weights(self) -> int:
        """How many prunable weights the network has, zeros among them: fewer where channels were removed."""
        return sum(weight.numel() for weight in prunable_weights(self.module).values())

    @property
    def one_by_one(self) -> bool:
        """Whether the network is given one sample at a time, however many are asked for."""
        return isinstance(self.module, OneByOne)

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
        with torch.inference_mode(mode=False):  # weights moved in a caller's inference mode could give no gradients
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
    one_by_one: bool | None = None,
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
    one_by_one
        Give the network each sample alone, however many are asked for, where its logits depend on the batch: slow, but
        what is measured of a sample is its own. A classifier becomes another that does, or with False does not.

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
            raise InputError(
                "`network` is a classifier already: only `name` and `one_by_one` can change, or use its `network`"
            )
        if one_by_one not in {None, network.one_by_one}:
            network = _given(network, one_by_one=not network.one_by_one)
        return network if name is None else replace(network, name=name)
    if not isinstance(network, nn.Module):
        raise InputError(f"`network` must be a torch module or a Classifier, got {type(network).__name__}")
    if isinstance(network, OneByOne):
        one_by_one, network = one_by_one is not False, network.network
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
        one_by_one=bool(one_by_one),
    )


def _given(classifier: Classifier, *, one_by_one: bool) -> Classifier:
    """Return the classifier that gives its network each sample alone, or the whole batch."""
    module = OneByOne(classifier.module).eval() if one_by_one else cast("nn.Module", classifier.module.network)
    identity = hashed_identity(classifier.architecture, classifier.arguments)
    weights, normalization = classifier.network.state_dict(), classifier.normalization
    fingerprint = fingerprint_of(*identity, weights, normalization, one_by_one=one_by_one)
    return replace(classifier, module=module, fingerprint=fingerprint)


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
    one_by_one: bool = False,
    **facts: Any,  # noqa: ANN401 - the remaining fields of Classifier
) -> Classifier:
    """Return the classifier around a network that nobody else holds: normalised, frozen, hashed."""
    network = network.float().eval().requires_grad_(requires_grad=False)
    module = network
    if normalization is not None:
        device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        module = Normalized(network, mean=normalization[0], std=normalization[1]).eval().to(device)
    classifier = Classifier(
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
    return _given(classifier, one_by_one=True) if one_by_one else classifier


def with_weights(classifier: Classifier, module: nn.Module, **facts: Any) -> Classifier:  # noqa: ANN401 - of Classifier
    """Return a classifier like another, with the weights of a module of the same architecture, copied.

    Examples
    --------
    >>> dense = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), data="toys")
    >>> other = with_weights(dense, nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), parent=dense.fingerprint)
    >>> other.data, other.fingerprint != dense.fingerprint, other.parent == dense.fingerprint
    ('toys', True, True)
    """
    kept = ("name", "class_names", "data", "normalization_known", "input_shape", "recipe", "parent")
    return assemble(
        own_copy(inner(module)),
        architecture=classifier.architecture,
        arguments=classifier.arguments,
        classes=classifier.classes,
        normalization=classifier.normalization,
        **({name: getattr(classifier, name) for name in kept} | facts),
    )


def usual_shape(architecture: str, arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return (C, H, W) where an architecture works with that size alone."""
    shape = find_architecture(architecture).input_shape
    return None if shape is None else (int(arguments.get("channels", shape[0])), *shape[1:])


def own_copy(network: nn.Module) -> nn.Module:
    """Return a deep copy whose masks, norms of weights and parametrisations (torch's own) are plain weights."""
    memo: dict[int, Any] = {}
    for layer in network.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # a pruned weight, which deepcopy refuses
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(network, memo)
    for layer in list(twin.modules()):
        _fold(layer)
    return twin


def _fold(layer: nn.Module) -> None:
    """Make plain weights of a layer's masks, norms of weights and parametrisations, in place."""
    for hook in list(layer._forward_pre_hooks.values()):  # noqa: SLF001 - where torch keeps its pruning
        if isinstance(hook, BasePruningMethod):
            prune.remove(layer, hook._tensor_name)  # type: ignore[no-untyped-call]  # noqa: SLF001 - the same
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(layer, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(layer, hook.name)
    if parametrize.is_parametrized(layer):
        for tensor_name in list(cast("nn.ModuleDict", layer.parametrizations)):
            parametrize.remove_parametrizations(layer, tensor_name)
    loading = layer._load_state_dict_pre_hooks  # noqa: SLF001 - torch leaves hooks of norms there
    for key, entry in list(loading.items()):  # which ask for more weights, or cannot be sent to another process
        if getattr(entry, "hook", entry).__module__.startswith("torch.nn.utils."):
            del loading[key]


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
