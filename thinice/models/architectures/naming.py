"""How programs name the parameters of the families that thinice builds: one row of `SCHEMES` each.

A row translates names, and says what the program computes where names and shapes do not show it. Where code in
circulation computes several things under the same names, the row lists them all, the most usual first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["SCHEMES", "Scheme", "translate"]

Replacement = str | Callable[[re.Match[str]], str]
Renames = tuple[tuple[str, Replacement], ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The parameter names of one program, or of several that use the same.

    Attributes
    ----------
    programs : str
        Who names parameters so.
    family : str
        The family whose networks they are, as `families` reads them.
    mark : str
        Pattern that some name must match.
    renames : tuple of (pattern, replacement)
        Applied to every name, one after the other; what comes out are thinice's names.
    without : str
        Pattern that no name may match.
    functions : tuple of mappings
        Arguments of the builder that names and shapes do not show: one mapping for each thing that is computed under
        these names.
    known : bool, optional
        Whether the names are those of programs that compute the first of these functions, so that the others are only
        noted. Without it, where there is no other.
    """

    programs: str
    family: str
    mark: str
    renames: Renames = ()
    without: str = ""
    functions: tuple[Mapping[str, str | bool], ...] = field(default=({},))
    known: bool | None = None


def _counted(pattern: str, template: str, *offsets: int) -> tuple[str, Callable[[re.Match[str]], str]]:
    """Return a rename whose numbers are counted from elsewhere: each group of the pattern plus its offset."""

    def replace(match: re.Match[str]) -> str:
        numbers = (int(group) + offset for group, offset in zip(match.groups(), offsets, strict=True))
        return template.format(*numbers)

    return pattern, replace


OTHER_HEADS = r"fc|classifier|output|last_linear|logits|head\.fc|head"
HEAD = (rf"^({OTHER_HEADS}|linear)\.(\d+\.)?(?=weight$|bias$)", "linear.")
"""One linear layer, also after a dropout in a sequence."""
DOWNSAMPLE = (r"\.(downsample|down_sample|skip)\.", ".shortcut.")
BACKBONE = (r"^(backbone|encoder|features|feature_extractor)\.(?=(conv1|bn1|layer\d+)\.)", "")
RESIDUAL_FUNCTION = (
    (r"residual_function\.0\.", "conv1."),
    (r"residual_function\.1\.", "bn1."),
    (r"residual_function\.3\.", "conv2."),
    (r"residual_function\.4\.", "bn2."),
    (r"residual_function\.6\.", "conv3."),
    (r"residual_function\.7\.", "bn3."),
)
PREACTIVATED_RESIDUAL = (
    (r"residual\.0\.", "bn1."),
    (r"residual\.2\.", "conv1."),
    (r"residual\.3\.", "bn2."),
    (r"residual\.5\.", "conv2."),
    (r"residual\.6\.", "bn3."),
    (r"residual\.8\.", "conv3."),
)
WITH_OR_WITHOUT_POOL = ({"stem": "cifar"}, {"stem": "cifar-pool"})
RAW = ({"shortcut": "raw"},)

SCHEMES = (
    Scheme(
        "pytorch-cifar (kuangliu), TRADES, RobustBench, akamaster",
        "resnet",
        r"^layer1\.0\.conv1\.weight$",
        (BACKBONE, HEAD),
        without=rf"downsample|^({OTHER_HEADS})\.",
    ),
    Scheme("OpenOOD and others after kuangliu", "resnet", r"\.shortcut\.1\.", (BACKBONE, HEAD)),
    Scheme(
        "torchvision, chenyaofo, huyvnphan, bearpaw, MMPretrain",
        "resnet",
        r"\.downsample\.1\.|\.down_sample\.1\.|\.skip\.1\.",
        (BACKBONE, HEAD, DOWNSAMPLE),
        functions=WITH_OR_WITHOUT_POOL,
    ),
    Scheme(
        "rethinking-network-pruning, and others with padded shortcuts",
        "resnet",
        rf"^({OTHER_HEADS})\.(\d+\.)?weight$",
        (BACKBONE, HEAD),
        without=r"\.(downsample|shortcut|skip)\.",
        functions=({"shortcut": "averaged-padded-after"}, {"shortcut": "padded-after"}, {"shortcut": "padded"}),
    ),
    Scheme(
        "soft filter pruning, FPGM",
        "resnet",
        r"^stage_1\.0\.conv_a\.",
        (
            (r"^conv_1_3x3\.", "conv1."),
            (r"^bn_1\.", "bn1."),
            (r"^stage_", "layer"),
            (r"\.conv_a\.", ".conv1."),
            (r"\.bn_a\.", ".bn1."),
            (r"\.conv_b\.", ".conv2."),
            (r"\.bn_b\.", ".bn2."),
            HEAD,
        ),
        functions=({"shortcut": "padded-after"},),
    ),
    Scheme(
        "pytorch-cifar100 (weiaicunzai)",
        "resnet",
        r"^conv2_x\.0\.residual_function\.0\.",
        (
            (r"^conv1\.0\.", "conv1."),
            (r"^conv1\.1\.", "bn1."),
            _counted(r"^conv(\d+)_x\.", "layer{}.", -1),
            *RESIDUAL_FUNCTION,
            HEAD,
        ),
    ),
    Scheme(
        "pytorch-cifar (kuangliu), fast_adversarial, RobustBench, FlyingBird",
        "preact_resnet",
        r"^layer1\.0\.bn1\.weight$",
        (BACKBONE, HEAD),
        without=r"downsample",
        functions=({"shortcut": "activated"}, {"shortcut": "raw"}),
    ),
    Scheme(
        "pytorch-classification (bearpaw), network slimming",
        "preact_resnet",
        r"\.downsample\.0\.",
        (DOWNSAMPLE, HEAD),
        functions=RAW,
    ),
    Scheme(
        "pytorch-cifar100 (weiaicunzai)",
        "preact_resnet",
        r"^stage1\.0\.residual\.0\.",
        (
            (r"^pre\.0\.", "conv1."),
            (r"^pre\.1\.", "bn1."),
            (r"^stage", "layer"),
            *PREACTIVATED_RESIDUAL,
            (r"\.shortcut\.(?=weight$|bias$)", ".shortcut.0."),
            HEAD,
        ),
        functions=({"shortcut": "raw", "stride": "first"},),
    ),
    Scheme(
        "TRADES, HYDRA, RobustBench, bearpaw, xternalz",
        "wide_resnet",
        r"^block1\.layer\.0\.conv1\.",
        ((r"^(linear|classifier)\.", "fc."),),
    ),
    Scheme(
        "DeepMind, in RobustBench too",
        "wide_resnet",
        r"^layer\.0\.block\.0\.conv_0\.",
        (
            (r"^init_conv\.", "conv1."),
            _counted(r"^layer\.(\d+)\.block\.", "block{}.layer.", 1),
            (r"\.batchnorm_0\.", ".bn1."),
            (r"\.conv_0\.", ".conv1."),
            (r"\.batchnorm_1\.", ".bn2."),
            (r"\.conv_1\.", ".conv2."),
            (r"\.shortcut\.", ".convShortcut."),
            (r"^batchnorm\.", "bn1."),
            (r"^logits\.", "fc."),
        ),
        functions=({"padding": "same", "activation": "silu"}, {"padding": "same", "activation": "relu"}),
    ),
    Scheme(
        "pytorch-cifar100 (weiaicunzai)",
        "wide_resnet",
        r"^conv2\.0\.residual\.0\.",
        (
            _counted(r"^conv(\d+)\.", "block{}.layer.", -1),
            (r"^init_conv\.", "conv1."),
            (r"residual\.0\.", "bn1."),
            (r"residual\.2\.", "conv1."),
            (r"residual\.3\.", "bn2."),
            (r"residual\.6\.", "conv2."),
            (r"\.shortcut\.0\.", ".convShortcut."),
            (r"^bn\.", "bn1."),
            (r"^linear\.", "fc."),
        ),
        functions=RAW,
    ),
    Scheme(
        "wide-resnet.pytorch (meliketoy)",
        "wide_resnet",
        r"^layer1\.0\.conv1\.bias$",
        ((r"^layer(\d)\.", r"block\1.layer."), (r"\.shortcut\.0\.", ".convShortcut."), (r"^linear\.", "fc.")),
        functions=({"shortcut": "raw", "stride": "second"},),
    ),
    Scheme(
        "network slimming, rethinking-network-pruning",
        "vgg",
        r"^feature\.0\.weight$",
        ((r"^feature\.", "features."), (r"^(fc|linear)\.", "classifier.")),
        functions=({"pool": "mean"}, {"pool": "max"}),
        known=True,
    ),
    Scheme(
        "pytorch-cifar (kuangliu), chenyaofo, huyvnphan, weiaicunzai, bearpaw, HYDRA, torchvision",
        "vgg",
        r"^(features|layers)\.0\.weight$",
        ((r"^layers\.", "features."), (r"^(fc|linear)\.", "classifier.")),
        functions=({"pool": "max"}, {"pool": "max-mean"}, {"pool": "mean"}, {"pool": "none"}),
        known=False,  # every sequence of layers is named so, whatever its pools and activations
    ),
    Scheme("pytorch-cifar (kuangliu)", "densenet", r"^trans1\.conv\.", (HEAD,), functions=({"order": "before"},)),
    Scheme(
        "pytorch-classification (bearpaw), andreasveit",
        "densenet",
        r"^trans1\.conv1\.",
        (
            (r"^block(\d+)\.layer\.", r"dense\1."),
            (r"^trans(\d+)\.conv1\.", r"trans\1.conv."),
            (r"^trans(\d+)\.bn1\.", r"trans\1.bn."),
            (r"^bn1\.", "bn."),
            HEAD,
        ),
        functions=({"order": "after"},),
    ),
    Scheme(
        "torchvision, huyvnphan",
        "densenet",
        r"^features\.denseblock1\.",
        (
            (r"\.(norm|conv)\.(\d)\.", r".\1\2."),  # as torchvision called them before 2018
            _counted(r"^features\.denseblock(\d+)\.denselayer(\d+)\.", "dense{}.{}.", 0, -1),
            (r"^features\.transition(\d+)\.norm\.", r"trans\1.bn."),
            (r"^features\.transition(\d+)\.conv\.", r"trans\1.conv."),
            (r"^(dense\d+\.\d+)\.norm", r"\1.bn"),
            (r"^features\.conv0\.", "conv1."),
            (r"^features\.norm0\.", "norm0."),
            (r"^features\.norm\d+\.", "bn."),
            HEAD,
        ),
        functions=({"order": "after", "stem": "cifar"}, {"order": "after", "stem": "cifar-pool"}),
    ),
    Scheme(
        "pytorch-cifar100 (weiaicunzai)",
        "densenet",
        r"bottle_neck_layer_0\.bottle_neck\.",
        (
            _counted(
                r"^features\.dense_block(?:_layer_)?(\d+)\.bottle_neck_layer_(\d+)\.bottle_neck\.", "dense{}.{}.", 1, 0
            ),
            (r"^(dense\d+\.\d+)\.0\.", r"\1.bn1."),
            (r"^(dense\d+\.\d+)\.2\.", r"\1.conv1."),
            (r"^(dense\d+\.\d+)\.3\.", r"\1.bn2."),
            (r"^(dense\d+\.\d+)\.5\.", r"\1.conv2."),
            _counted(r"^features\.transition_layer_(\d+)\.down_sample\.", "trans{}.", 1),
            (r"^(trans\d+)\.0\.", r"\1.bn."),
            (r"^(trans\d+)\.1\.", r"\1.conv."),
            (r"^features\.bn\.", "bn."),
        ),
        functions=({"order": "after", "transition_relu": False},),
    ),
    Scheme(
        "torchvision, chenyaofo, huyvnphan",
        "mobilenet_v2",
        r"^features\.1\.conv\.0\.0\.",
        functions=({"strides": "cifar"}, {"strides": "imagenet"}),
    ),
)
"""Every naming scheme, in the order in which they are tried."""


def translate(scheme: Scheme, names: Iterable[str]) -> dict[str, str] | None:
    """Return thinice's name for each of a file's names; ``None`` where they are not those of the scheme.

    Examples
    --------
    >>> scheme = Scheme("an example", "resnet", r"^fc", ((r"^fc", "linear"),))
    >>> translate(scheme, ["fc.weight"]), translate(scheme, ["head.weight"])
    ({'fc.weight': 'linear.weight'}, None)
    """
    given = list(names)
    if not any(re.search(scheme.mark, name) for name in given):
        return None
    if scheme.without and any(re.search(scheme.without, name) for name in given):
        return None
    translated = {}
    for name in given:
        new = name
        for pattern, replacement in scheme.renames:
            new = re.sub(pattern, replacement, new)
        translated[name] = new
    return translated if len(set(translated.values())) == len(translated) else None
