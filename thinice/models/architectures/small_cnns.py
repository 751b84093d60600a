"""Small networks for digits: the LeNet-like one of Merkle et al., that of TRADES, and that of the demo."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from thinice.models.architectures import for_images_of

__all__ = ["cnn5", "digits_cnn", "small_cnn"]


@for_images_of(1, 28, 28)
def cnn5(classes: int = 10, *, channels: int = 1) -> nn.Module:
    """LeNet-like CNN5 for 28x28 images: two 5x5 convolutions, three linear layers; 61,470 prunable weights.

    Merkle, Samsinger, Schoettle, "Pruning in the Face of Adversaries" (arXiv 2108.08560): convolutions 6
    (padded) and 16 (not padded), each with ReLU and a 2x2 max-pool; then 120, 84, classes.

    Examples
    --------
    >>> from thinice.models import prunable_weights
    >>> sum(weight.numel() for weight in prunable_weights(cnn5()).values())
    61470
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * 5 * 5, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            fc3=nn.Linear(84, classes),
        )
    )


@for_images_of(1, 8, 8)
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


@for_images_of(1, 28, 28)
def small_cnn(classes: int = 10, *, channels: int = 1) -> nn.Module:
    """SmallCNN of TRADES for 28x28 images: four 3x3 convolutions without padding, three linear layers.

    Widths 32, 32, 64, 64, each with ReLU, a 2x2 max-pool after every second; then 200, 200, classes.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in small_cnn().parameters())
    312202
    """
    features: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(((channels, 32), (32, 32), (32, 64), (64, 64)), start=1):
        features |= {f"conv{number}": nn.Conv2d(inputs, outputs, 3), f"relu{number}": nn.ReLU()}
        if number % 2 == 0:
            features[f"maxpool{number // 2}"] = nn.MaxPool2d(2)
    classifier = OrderedDict(
        fc1=nn.Linear(64 * 4 * 4, 200),
        relu1=nn.ReLU(),
        fc2=nn.Linear(200, 200),
        relu2=nn.ReLU(),
        fc3=nn.Linear(200, classes),
    )
    return nn.Sequential(
        OrderedDict(
            feature_extractor=nn.Sequential(OrderedDict(features)),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(classifier),
        )
    )
