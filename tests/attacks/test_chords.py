"""Chord gradients against slopes that are known, and against torch's own where there is nothing to see."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from thinice.attacks.tmn.chords import ACTIVATIONS, chord_gradients

LAYERS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky relu": nn.LeakyReLU(0.2, inplace=True),
    "elu": nn.ELU(0.5),
    "selu": nn.SELU(),
    "gelu": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(beta=1, threshold=20),
    "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(-2, 3),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}


def gradient(function, inputs, share):
    point = inputs.clone().requires_grad_()
    with chord_gradients(share):
        values = function(point + 0)  # not a leaf: some write into it
    return values.detach(), torch.autograd.grad(values.sum(), point)[0]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_slopes_are_those_of_chords_and_values_stay(layer):
    inputs = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double() * torch.arange(1, 6)[:, None]

    def plain(values):
        return layer(values.clone())

    for share in (0.3, 1.0):
        values, slopes = gradient(layer, inputs, share)
        torch.testing.assert_close(values, plain(inputs), rtol=0, atol=0)
        reach = share * inputs.abs().mean(1, keepdim=True)
        torch.testing.assert_close(slopes, (plain(inputs + reach) - plain(inputs - reach)) / (2 * reach))
    torch.testing.assert_close(gradient(layer, inputs, 1e-6)[1], gradient(layer, inputs, 0.0)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "function", [*ACTIVATIONS, lambda z: functional.relu(z, True), lambda z: functional.relu(input=z)]
)
def test_every_way_to_call_an_activation_is_seen(function):
    inputs = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    values, slopes = gradient(function, inputs, 2.0)
    torch.testing.assert_close(values, function(inputs.clone()), rtol=0, atol=0)
    assert not torch.allclose(slopes, gradient(function, inputs, 0.0)[1])


@pytest.mark.parametrize(
    "layer",
    [nn.ELU(), nn.Hardtanh(), nn.Softplus(), nn.LeakyReLU(1.0), nn.ReLU()],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_not_written_in_place_is_left_alone(layer):
    """Their options are 1, which equals True."""
    inputs = torch.tensor([[-1.0, 3.0]], requires_grad=True)
    before = inputs + 0
    with chord_gradients(1.0):
        layer(before)
    assert before.tolist() == [[-1.0, 3.0]]


def test_zeros_and_single_numbers_have_finite_slopes_of_their_own():
    values, slopes = gradient(torch.relu, torch.zeros(2, 3), 1.0)
    assert not values.any()
    assert slopes.unique().tolist() == [0.5]
    assert gradient(torch.relu, torch.tensor([-1.0, 0.0, 100.0]), 1.0)[1].tolist() == [0.0, 0.5, 1.0]


def test_what_is_written_in_place_is_seen_by_later_readers():
    def writes(z):
        functional.relu(z, inplace=True)  # the result is not looked at
        return z * 2

    inputs = torch.tensor([[-1.0, 3.0]])
    values, slopes = gradient(writes, inputs, 1.0)
    assert values.tolist() == [[0.0, 6.0]]
    assert slopes.tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 5, 5), (4, 9, 6)])
def test_no_sample_has_a_part_in_anothers_gradient(shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    together = gradient(torch.relu, inputs, 1.0)[1]
    torch.testing.assert_close(together[1:2], gradient(torch.relu, inputs[1:2], 1.0)[1])
    if len(shape) == 3:  # tokens first, as some transformers have them
        swapped = gradient(torch.relu, inputs.transpose(0, 1).contiguous(), 1.0)[1]
        torch.testing.assert_close(swapped.transpose(0, 1), together)


def test_units_that_are_off_are_seen():
    """A boundary that no gradient at the sample points to: all units that lead there are off."""
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 0]])
    network[2].weight.data = torch.tensor([[0.0, 0.0, 5.0, 7.0]])
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert not gradient(network, inputs, 0.0)[1].any()
    torch.testing.assert_close(gradient(network, inputs, 2.0)[1], torch.tensor([[-5.0, 0.0, -7.0, 0.0]]) * 0.25)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_network_is_seen_too():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    compiled = torch.compile(network, backend="eager")
    inputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    compiled(inputs)
    torch.testing.assert_close(gradient(compiled, inputs, 1.0), gradient(network, inputs, 1.0))
    assert not torch.allclose(gradient(compiled, inputs, 1.0)[1], gradient(compiled, inputs, 0.0)[1])
