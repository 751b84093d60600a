"""A small convolutional network for the embedded digits."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from thinice.models.registry import register

__all__ = ["digits_cnn"]


@register(input_shape=(1, 8, 8))
def digits_cnn(classes: int = 10, *, channels: int = 1) -> nn.Module:
    """Small CNN for 8x8 digits: three 3x3 convolutions with batch norm, one linear layer; 19,258 parameters.

    Widths 16, 32, 32; a 2x2 max-pool after the second convolution; the 4x4 maps are flattened.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in digits_cnn().parameters())
    19258
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 32, 3, padding=1, bias=False),
            bn3=nn.BatchNorm2d(32),
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(32 * 4 * 4, classes),
        )
    )
