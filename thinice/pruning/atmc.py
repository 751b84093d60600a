"""ATMC: weights as factors, trained under one budget of non-zero numbers for all of them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from thinice.errors import InputError
from thinice.models import prunable_weights
from thinice.models.normalization import inner
from thinice.models.weights import Masks
from thinice.pruning import PruningMethod
from thinice.pruning.quantisation import FewValues, quantised
from thinice.registry import added

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ATMC", "Factored", "atmc_state", "highest"]

FACTORS = ("A", "B", "C")
MOST_BITS = 16


class Factored(nn.Module):
    """A weight W, as a matrix with one row an output, out of its factors: (B + I) A + C, or B (A + I) + C.

    I is square. The first form is that of weights with fewer rows than columns, A is of their shape; the second that of
    all others, B is. Either begins with W itself in the one of its shape, and with zeros in the other two.
    """

    eye: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.wide, self.shape = rows < columns, tuple(weight.shape)
        self.register_buffer("eye", torch.eye(min(rows, columns), dtype=weight.dtype, device=weight.device))

    def forward(self, first: Tensor, second: Tensor, rest: Tensor) -> Tensor:
        """Return the weight."""
        flat = first.flatten(1)
        product = (second + self.eye) @ flat if self.wide else second @ (flat + self.eye)
        return product.reshape(self.shape) + rest

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factors that a search begins with, A, B and C."""
        size, rest = len(self.eye), torch.zeros_like(weight)
        if self.wide:
            return weight.clone(), weight.new_zeros(size, size), rest
        return weight.new_zeros(size, *self.shape[1:]), weight.flatten(1).clone(), rest


@dataclass(kw_only=True)
class ATMC(PruningMethod):
    """Each weight is trained as ``(B + I) A + C``; the largest numbers in all factors of all layers together stay.

    After every step all but as many numbers go as the sparsity leaves of the weights: it is that of the factors. Their
    product, which the network computes with, has fewer zeros: the file tells both. `reached` tells what the search
    ended with; training under the masks afterwards (``--finetune``) trains the product alone.

    Attributes
    ----------
    sparsity : float
        In [0, 1): 1 - non-zero numbers in A, B and C over weights of the layers.
    bits : int, optional
        Quantise as well: the non-zero numbers of each factor have at most 2 to the power of so many values, towards
        which ADMM pulls them (`thinice.pruning.quantisation`), and which they have in the end. By default they do not.
    rho : float
        Of that pull.

    Notes
    -----
    Gui et al., Model Compression with Adversarial Robustness: A Unified Optimization Framework, NeurIPS 2019. There,
    values are renewed every few batches and the number of bits may differ from layer to layer; here they are once an
    epoch, and it does not. Training under the masks afterwards leaves the values. Of equal numbers the first goes
    first. A layer may lose all of them: that is told; a smaller learning rate avoids it.

    """

    searches = True
    search_recipe = "atmc-prune"
    cost: ClassVar[str] = "factors"
    bits: int | None = added(None)
    rho: float = added(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.bits, int) and not isinstance(self.bits, bool)
        if self.bits is not None and not (whole and 1 <= self.bits <= MOST_BITS):
            raise InputError(f"`bits` must be a whole number from 1 to {MOST_BITS}, got {self.bits!r}: give 8, say")
        number = isinstance(self.rho, int | float) and not isinstance(self.rho, bool)
        if not number or not 0 < self.rho < math.inf:
            raise InputError(f"`rho` must be a number above 0, got {self.rho!r}")

    def ranked(self, model: nn.Module) -> tuple[str, ...]:
        """Return the names of all prunable weights of the network behind its normalisation.

        Raises
        ------
        InputError
            For a network without any, and for one whose layers share a weight.

        """
        model = inner(model)
        weights = prunable_weights(model)
        if not weights:
            raise InputError("`network` has nothing to prune: it has neither convolutions nor linear layers")
        for name, weight in weights.items():
            shared = [other for other, value in model.named_parameters(remove_duplicate=False) if value is weight]
            if len(shared) > 1:
                raise InputError(
                    f"`network`: {' and '.join(shared)} are one weight, which ATMC cannot write as factors of {name}: "
                    "choose another method"
                )
        return tuple(weights)

    def prepare(self, model: nn.Module) -> None:
        """Write the weights as factors, and project them for the first time."""
        model = inner(model)
        weights = prunable_weights(model)
        self._names, self._weights = tuple(weights), sum(weight.numel() for weight in weights.values())
        self._ended_with: dict[str, tuple[Tensor, ...]] = {}
        self._product_zeros = 0
        for name, weight in weights.items():
            owner, _, leaf = name.rpartition(".")
            parametrize.register_parametrization(model.get_submodule(owner), leaf, Factored(weight.detach()))
        self.project(model)
        self._few = None if self.bits is None else FewValues(self._all_factors(model), self.bits, self.rho)

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what pulls the factors towards few values, where they are quantised."""
        return None if self._few is None else self._few.penalty(self._all_factors(model))

    def after_epoch(self, model: nn.Module, done: float) -> None:  # noqa: ARG002 - in each epoch alike
        """Renew the values that the factors are pulled to."""
        if self._few is not None:
            self._few.renew(self._all_factors(model))

    def state_dict(self) -> dict[str, Any]:
        """Return these values; the factors are in the model."""
        return {} if self._few is None else self._few.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them over."""
        if self._few is not None:
            self._few.load_state_dict(state)

    def _all_factors(self, model: nn.Module) -> list[nn.Parameter]:
        return [factor for layer in self.factors(model).values() for factor in layer]

    def factors(self, model: nn.Module) -> dict[str, tuple[nn.Parameter, ...]]:
        """Return A, B and C of each weight, while a search goes on."""
        named: dict[str, tuple[nn.Parameter, ...]] = {}
        for name in self._names:
            owner, _, leaf = name.rpartition(".")
            layer = f"{owner}.parametrizations.{leaf}".removeprefix(".")
            named[name] = tuple(inner(model).get_parameter(f"{layer}.original{index}") for index in range(len(FACTORS)))
        return named

    @torch.no_grad()
    def project(self, model: nn.Module) -> None:
        """Zero all but the largest numbers of all factors."""
        factors = self._all_factors(model)
        sizes = torch.cat([factor.abs().flatten() for factor in factors])
        kept = highest(sizes, round((1 - self.sparsity) * self._weights))
        for factor, keeps in zip(factors, torch.split(kept, [factor.numel() for factor in factors]), strict=True):
            factor.masked_fill_(~keeps.view(factor.shape), 0)

    def after_step(self, model: nn.Module) -> None:
        """Project."""
        self.project(model)

    @torch.no_grad()
    def masks(self, model: nn.Module) -> Masks:
        """Return where the product is not zero; an average of weights is projected before, and values are quantised."""
        self.project(model)
        if self.bits is not None:
            for factor in self._all_factors(model):
                factor.copy_(quantised(factor, self.bits))
        layers = self.factors(model)
        return Masks({name: (multiplied(layer)[1] != 0).to(layer[0].device) for name, layer in layers.items()})

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        """Leave the products as plain weights."""
        for name, layer in self.factors(model).items():
            self._ended_with[name], product = multiplied(layer)
            self._product_zeros += int((product == 0).sum())
            path, _, leaf = name.rpartition(".")
            owner = inner(model).get_submodule(path)
            parametrize.remove_parametrizations(owner, leaf, leave_parametrized=True)
            delattr(owner, leaf)
            owner.register_parameter(leaf, nn.Parameter(product.to(layer[0].device)))

    def measured(self) -> dict[str, object]:
        """Return how many numbers of the factors are not zero, and the sparsity of these and of their product."""
        counts = self._counts()
        return {
            "factors": counts
            | {
                "sparsity": 1 - sum(counts.values()) / self._weights,
                "sparsity_of_product": self._product_zeros / self._weights,
                **({} if self.bits is None else {"bits": self.bits, "most_values": self._most_values()}),
            }
        }

    def _most_values(self) -> int:
        """Return how many values other than zero a factor has at most."""
        factors = [factor for layer in self._ended_with.values() for factor in layer]
        return max(len(set(factor[factor != 0].tolist())) for factor in factors)

    def _counts(self) -> dict[str, int]:
        by_factor = zip(*self._ended_with.values(), strict=True)
        return {name: count_nonzero(factors) for name, factors in zip(FACTORS, by_factor, strict=True)}

    def notes(self) -> tuple[str, ...]:
        """Return what stands for how many weights."""
        counts = self._counts()
        nonzero, told = sum(counts.values()), ", ".join(f"{count} in {name}" for name, count in counts.items())
        note = (
            f"{nonzero} non-zero numbers of ATMC's factors ({told}) stand for {self._weights} weights: sparsity "
            f"{1 - nonzero / self._weights:.4f}; {self._product_zeros / self._weights:.4f} of their product"
            + ("" if self.bits is None else f"; at most {self._most_values()} values a factor, in {self.bits} bits")
        )
        return (note,)


def multiplied(layer: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return copies of A, B and C, and the weight; on the CPU, where files are read, so that no bit differs."""
    factors = tuple(factor.detach().cpu().clone() for factor in layer)
    return factors, Factored(factors[-1])(*factors)


def count_nonzero(tensors: Sequence[Tensor]) -> int:
    """Return how many numbers are not zero."""
    return sum(int((tensor != 0).sum()) for tensor in tensors)


def highest(values: Tensor, count: int) -> Tensor:
    """Return which `count` values are the highest, as booleans; of equal ones the last are.

    Examples
    --------
    >>> highest(torch.tensor([2.0, 1.0, 2.0, 2.0]), 2).tolist()
    [False, False, True, True]

    """
    if count >= len(values):
        return torch.ones_like(values, dtype=torch.bool)
    if count <= 0:
        return torch.zeros_like(values, dtype=torch.bool)
    bound = values.kthvalue(len(values) - count + 1).values
    above, equal = values > bound, values == bound
    last = equal.flip(0).cumsum(0).flip(0) <= count - above.sum()
    return above | (equal & last)


def atmc_state(method: ATMC, network: nn.Module) -> dict[str, Tensor]:
    """Return a network as the authors' program saves it, for ``torch.save``: factors in the place of weights.

    Parameters
    ----------
    method : ATMC
        What found the masks: `thinice.pruning.Pruned.method`.
    network : nn.Module
        ``Pruned.module``. A normalisation has no place in the authors' files: who reads one names it.

    Raises
    ------
    InputError
        Where the weights are no longer the product of the factors: the network was trained after the search.

    """
    state = {name: value.detach().cpu().clone() for name, value in inner(network).state_dict().items()}
    found: Mapping[str, tuple[Tensor, ...]] = getattr(method, "_ended_with", {})
    if not found:
        raise InputError("`method` has no factors: it has found no masks yet")
    for name, factors in found.items():
        weight, (first, second, rest) = state.pop(name, None), [factor.cpu() for factor in factors]
        if not name.endswith("weight"):
            raise InputError(
                f"`network`: {name} is no weight of a convolution or a linear layer: ATMC has no file for it"
            )
        factored = Factored(rest)
        if weight is None or weight.shape != rest.shape or not torch.equal(factored(first, second, rest), weight):
            raise InputError(
                f"`network`: {name} is not the product of its factors, as the search left it: save the network before "
                "it is trained further"
            )
        state[f"{name}A"], state[f"{name}C"], state[f"{name.removesuffix('weight')}eye_const"] = (
            first,
            rest,
            factored.eye,
        )
        state[f"{name}B"] = second if rest.ndim == 2 else second.reshape(*second.shape, *[1] * (rest.ndim - 2))
    return state
