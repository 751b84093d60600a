"""Gradients that see beyond the kinks: activations differentiated by a chord over a range instead of the tangent.

Around a sample of a network that is far from linear most units are off, or saturated, and the gradient knows nothing of
those that a perturbation would switch on. Where the slope of an activation at z is replaced by that of its chord from
z - r to z + r, one backward pass sees them too. Linear bounds (CROWN) take the same slope, over intervals that they
have to prove; here r is a share of the mean size of what enters the activation, of each sample by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["chord_gradients"]

Activation = Callable[..., Tensor]
ACTIVATIONS: Mapping[Activation, Activation] = MappingProxyType(
    {
        **dict.fromkeys((torch.relu, Tensor.relu, torch.relu_, Tensor.relu_), torch.relu),
        **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, functional.sigmoid), torch.sigmoid),
        **dict.fromkeys((torch.tanh, Tensor.tanh, functional.tanh), torch.tanh),
        **{
            activation: activation
            for activation in (
                functional.relu,
                functional.relu6,
                functional.leaky_relu,
                functional.elu,
                functional.selu,
                functional.gelu,
                functional.silu,
                functional.mish,
                functional.softplus,
                functional.hardswish,
                functional.hardtanh,
            )
        },
    }
)
"""What is called, and what computes the same without writing into its input."""
IN_PLACE = frozenset({torch.relu_, Tensor.relu_})


@contextmanager
def chord_gradients(share: float) -> Iterator[None]:
    """While it is entered, differentiate activations by their chords; the values of the network stay what they are.

    Compiled networks run uncompiled meanwhile. Operations that are not among `ACTIVATIONS` keep their gradients.

    Parameters
    ----------
    share : float
        Chords reach to either side by so many times the mean absolute input of the activation; 0: tangents, as ever.

    Examples
    --------
    >>> inputs = torch.tensor([[-1.0, 3.0]], requires_grad=True)  # of mean size 2
    >>> with chord_gradients(1.0):
    ...     torch.relu(inputs).sum().backward()
    >>> inputs.grad  # of the chords from (-3, 0) to (1, 1), and from (1, 1) to (5, 5)
    tensor([[0.2500, 1.0000]])

    """
    with ExitStack() as stack:
        if share > 0:
            if "torch._dynamo" in sys.modules:  # else nothing is compiled, and loading it takes seconds
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(_Chords(share))
        yield


class _Chords(TorchFunctionMode):
    """Every activation that is called becomes a `_Chord`."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401  # as torch has it
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        options = dict(kwargs or {})
        if func not in ACTIVATIONS:
            return func(*args, **options)
        inputs, *others = args or (options.pop("input"),)
        flags = [option for option in others if isinstance(option, bool)]  # none but `inplace`, which 1.0 equals
        others = [option for option in others if not isinstance(option, bool)]
        in_place = func in IN_PLACE or bool(options.pop("inplace", False)) or any(flags)
        activation = partial(ACTIVATIONS[func], **options)
        values = _Chord.apply(inputs.clone() if in_place else inputs, activation, others, self.share)
        return inputs.copy_(values) if in_place else values


class _Chord(torch.autograd.Function):
    """An activation whose slope is that of a chord."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, activation: Activation, options: list[float], share: float) -> Tensor:  # noqa: ANN401
        # of tokens (N, L, D) or (L, N, D) each has its own mean, so that no sample has a part in another's
        sizes = inputs.abs()
        if inputs.ndim > 1:
            sizes = sizes.mean(list(range(1, inputs.ndim)) if inputs.ndim > 3 else -1, keepdim=True)
        reach = share * sizes.clamp(min=torch.finfo(inputs.dtype).tiny / share)
        ctx.save_for_backward(
            (activation(inputs + reach, *options) - activation(inputs - reach, *options)) / (2 * reach)
        )
        return activation(inputs, *options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None, None
