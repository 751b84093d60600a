"""Which of torchvision's architectures a state dict can belong to, told without building them."""

from __future__ import annotations

from collections.abc import Container

from thinice.models.architectures import TORCHVISION, known_architectures

__all__ = ["MARKS", "family_of", "plausible"]

MARKS = {
    "alexnet": "features.8.weight",
    "convnext": "features.1.0.block.0.bias",
    "densenet": "features.denseblock1.denselayer1.norm1.bias",
    "efficientnet": "features.1.0.block.0.1.weight",
    "googlenet": "inception3a.branch1.conv.weight",
    "inception": "Conv2d_1a_3x3.conv.weight",
    "maxvit": "stem.0.0.weight",
    "mnasnet": "layers.8.0.layers.0.weight",
    "mobilenet_v2": "features.1.conv.0.1.weight",
    "mobilenet_v3": "features.1.block.0.1.weight",
    "regnet": "trunk_output.block1.block1-0.proj.1.weight",
    "resnet": "layer4.0.downsample.0.weight",
    "resnext": "layer4.0.downsample.0.weight",
    "shufflenet": "stage2.0.branch1.1.weight",
    "squeezenet": "features.3.expand3x3.weight",
    "swin": "features.1.0.attn.relative_position_bias_table",
    "swin_v2": "features.1.0.attn.logit_scale",
    "vgg": "classifier.6.bias",
    "vit": "class_token",
    "wide_resnet": "layer4.0.downsample.0.weight",
}
"""A parameter that all architectures have whose names begin so."""


def plausible(parameters: Container[str]) -> list[str]:
    """Return torchvision's architectures whose mark is among the parameters; without any, torchvision is not imported.

    Examples
    --------
    >>> plausible({"features.3.expand3x3.weight"})
    ['torchvision:squeezenet1_0', 'torchvision:squeezenet1_1']
    """
    families = {family for family, mark in MARKS.items() if mark in parameters}
    if not families:
        return []
    names = [name for name in known_architectures(torchvision=True) if name.startswith(TORCHVISION)]
    return [name for name in names if family_of(name) in families]


def family_of(architecture: str) -> str:
    """Return the family in `MARKS` that a name of torchvision begins with, the longest; empty for none.

    Examples
    --------
    >>> family_of("torchvision:swin_v2_t")
    'swin_v2'
    """
    name = architecture.removeprefix(TORCHVISION)
    return max((family for family in MARKS if name.startswith(family)), key=len, default="")
