"""Networks as other programs have them: their names, their forward; narrow, so that they cost little."""

import torch
from torch import nn
from torch.nn import functional


def settled(network, seed=0):
    """The network in eval mode with weights and statistics that make every term count."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                values.uniform_(low, high, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            scale = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data.normal_(0, scale, generator=generator)
    return network.eval()


def conv(inputs, outputs, kernel=3, stride=1, *, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)


def pooled(maps):
    return maps.mean((2, 3))


class Block(nn.Module):
    """Basic block or bottleneck of kuangliu, torchvision, chenyaofo, huyvnphan, bearpaw, akamaster."""

    def __init__(self, inputs, width, stride, *, bottleneck, around, padded, inner=None):
        super().__init__()
        inner = inner or width
        outputs = 4 * width if bottleneck else width
        sizes = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)] if bottleneck else None
        sizes = sizes or [(inputs, inner, 3), (inner, outputs, 3)]
        for number, (fewer, more, kernel) in enumerate(sizes, start=1):
            strided = stride if number == len(sizes) - 1 else 1
            setattr(self, f"conv{number}", conv(fewer, more, kernel, strided))
            setattr(self, f"bn{number}", nn.BatchNorm2d(more))
        self.depth, self.padded, self.around, self.more = len(sizes), padded, around, outputs - inputs
        self.changed = stride != 1 or inputs != outputs
        if self.changed and not padded:
            projection = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            setattr(self, around, projection)

    def forward(self, x):
        out = x
        for number in range(1, self.depth + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            out = functional.relu(out) if number < self.depth else out
        if not self.changed:
            return functional.relu(out + x)
        if self.padded == "akamaster":
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        elif self.padded == "rethinking":
            x = torch.cat(
                [functional.avg_pool2d(x, 2), torch.zeros(len(x), self.more, *(s // 2 for s in x.shape[2:]))], 1
            )
        else:
            x = getattr(self, self.around)(x)
        return functional.relu(out + x)


class ResNet(nn.Module):
    def __init__(
        self,
        *,
        blocks=(1, 1, 1, 1),
        width=8,
        bottleneck=False,
        around="shortcut",
        head="linear",
        kernel=3,
        pool=False,
        channels=3,
        classes=10,
        padded="",
        inner=None,
        outputs=None,
    ):
        super().__init__()
        stem = width if outputs is None else outputs[0]
        self.conv1 = conv(channels, stem, kernel, 2 if kernel == 7 else 1)
        self.bn1 = nn.BatchNorm2d(stem)
        self.pool, self.head, inputs = pool, head, stem
        self.number = len(blocks)
        for stage, count in enumerate(blocks):
            layers = []
            maps = width * 2**stage if outputs is None else outputs[stage]
            for position in range(count):
                stride = 2 if stage and not position else 1
                few = None if inner is None else inner[stage]
                layers.append(
                    Block(inputs, maps, stride, bottleneck=bottleneck, around=around, padded=padded, inner=few)
                )
                inputs = 4 * maps if bottleneck else maps
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        setattr(self, head, nn.Linear(inputs, classes))

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1) if self.pool else x
        for stage in range(self.number):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.head)(pooled(x))


class AntiAliasedBlock(nn.Module):
    """timm's blocks with `aa_layer`: where there is a stride, a pool behind the ReLU, and the same names without it."""

    def __init__(self, inputs, width, stride, *, bottleneck, shrink):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)] if bottleneck else None
        for number, (fewer, more, kernel) in enumerate(sizes or [(inputs, width, 3), (width, outputs, 3)], start=1):
            setattr(self, f"conv{number}", conv(fewer, more, kernel))
            setattr(self, f"bn{number}", nn.BatchNorm2d(more))
        self.shrink = shrink if stride == 2 else None
        self.depth = 3 if bottleneck else 2
        if stride == 2 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = x
        for number in range(1, self.depth + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            out = functional.relu(out) if number < self.depth else out
            out = self.shrink(out) if self.shrink and number == self.depth - 1 else out
        return functional.relu(out + (self.downsample(x) if hasattr(self, "downsample") else x))


def blur(x):
    weights = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (weights[:, None] * weights).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


class AntiAliased(nn.Module):
    """timm's resnetaa (pools are means) and resnetblur."""

    def __init__(self, blocks, *, bottleneck, blurred, classes=10):
        super().__init__()
        self.conv1, self.bn1, self.blurred, inputs = conv(3, 64, 7, 2), nn.BatchNorm2d(64), blurred, 64
        for stage, count in enumerate(blocks):
            layers = []
            for position in range(count):
                shrink = blur if blurred else nn.AvgPool2d(2)
                stride, width = 2 if stage and not position else 1, 64 * 2**stage
                layers.append(AntiAliasedBlock(inputs, width, stride, bottleneck=bottleneck, shrink=shrink))
                inputs = 4 * width if bottleneck else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = blur(functional.max_pool2d(x, 3, 1, 1)) if self.blurred else functional.avg_pool2d(x, 2)
        return self.fc(pooled(self.layer4(self.layer3(self.layer2(self.layer1(x))))))


class Weiaicunzai(nn.Module):
    """pytorch-cifar100's ResNet: stages conv2_x …, blocks with residual_function and shortcut, head fc."""

    class Block(nn.Module):
        def __init__(self, inputs, width, stride, *, bottleneck):
            super().__init__()
            outputs = 4 * width if bottleneck else width
            if bottleneck:
                layers = [conv(inputs, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
                layers += [conv(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU()]
                layers += [conv(width, outputs, 1), nn.BatchNorm2d(outputs)]
            else:
                layers = [conv(inputs, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU()]
                layers += [conv(width, outputs, 3), nn.BatchNorm2d(outputs)]
            self.residual_function = nn.Sequential(*layers)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

        def forward(self, x):
            return functional.relu(self.residual_function(x) + self.shortcut(x))

    def __init__(self, *, blocks=(1, 1, 1, 1), width=8, bottleneck=False):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, width), nn.BatchNorm2d(width), nn.ReLU())
        inputs = width
        for stage, count in enumerate(blocks):
            layers = []
            for position in range(count):
                stride = 2 if stage and not position else 1
                layers.append(self.Block(inputs, width * 2**stage, stride, bottleneck=bottleneck))
                inputs = width * 2**stage * (4 if bottleneck else 1)
            setattr(self, f"conv{stage + 2}_x", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 100)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.conv2_x, self.conv3_x, self.conv4_x, self.conv5_x):
            x = stage(x)
        return self.fc(pooled(x))


class SoftFilterPruning(nn.Module):
    """The CIFAR ResNet of soft filter pruning and FPGM: conv_a and conv_b, shortcuts with zeros behind."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv_a, self.bn_a = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
            self.conv_b, self.bn_b = conv(outputs, outputs), nn.BatchNorm2d(outputs)
            self.halved = stride == 2

        def forward(self, x):
            out = self.bn_b(self.conv_b(functional.relu(self.bn_a(self.conv_a(x)))))
            if self.halved:
                x = functional.avg_pool2d(x, 1, 2)
                x = torch.cat([x, x * 0], 1)
            return functional.relu(x + out)

    def __init__(self, width=16, count=1):
        super().__init__()
        self.conv_1_3x3, self.bn_1 = conv(3, width), nn.BatchNorm2d(width)
        inputs = width
        for stage in (1, 2, 3):
            outputs = width * 2 ** (stage - 1)
            layers = [
                self.Block(inputs if position == 0 else outputs, outputs, 2 if stage > 1 and not position else 1)
                for position in range(count)
            ]
            setattr(self, f"stage_{stage}", nn.Sequential(*layers))
            inputs = outputs
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x):
        x = functional.relu(self.bn_1(self.conv_1_3x3(x)))
        return self.classifier(pooled(self.stage_3(self.stage_2(self.stage_1(x)))))


class PreActBlock(nn.Module):
    """Of kuangliu and RobustBench (the shortcut starts after or before the first ReLU), and of bearpaw."""

    def __init__(self, inputs, width, stride, *, bottleneck, around, activated):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        sizes = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)] if bottleneck else None
        sizes = sizes or [(inputs, width, 3), (width, width, 3)]
        for number, (fewer, more, kernel) in enumerate(sizes, start=1):
            setattr(self, f"bn{number}", nn.BatchNorm2d(fewer))
            setattr(self, f"conv{number}", conv(fewer, more, kernel, stride if number == len(sizes) - 1 else 1))
        self.depth, self.around, self.activated = len(sizes), around, activated
        if stride != 1 or inputs != outputs:
            setattr(self, around, nn.Sequential(conv(inputs, outputs, 1, stride)))

    def forward(self, x):
        out = first = functional.relu(self.bn1(x))
        for number in range(1, self.depth + 1):
            out = functional.relu(getattr(self, f"bn{number}")(out)) if number > 1 else out
            out = getattr(self, f"conv{number}")(out)
        if hasattr(self, self.around):
            x = getattr(self, self.around)(first if self.activated else x)
        return out + x


class PreActResNet(nn.Module):
    def __init__(
        self,
        *,
        blocks=(1, 1, 1, 1),
        width=8,
        bottleneck=False,
        around="shortcut",
        head="linear",
        activated=True,
        last=False,
    ):
        super().__init__()
        self.conv1 = conv(3, width)
        self.last, self.head, self.number, inputs = last, head, len(blocks), width
        for stage, count in enumerate(blocks):
            layers = []
            for position in range(count):
                stride = 2 if stage and not position else 1
                layers.append(
                    PreActBlock(
                        inputs, width * 2**stage, stride, bottleneck=bottleneck, around=around, activated=activated
                    )
                )
                inputs = width * 2**stage * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        if last:
            self.bn = nn.BatchNorm2d(inputs)
        setattr(self, head, nn.Linear(inputs, 10))

    def forward(self, x):
        x = self.conv1(x)
        for stage in range(self.number):
            x = getattr(self, f"layer{stage + 1}")(x)
        return getattr(self, self.head)(pooled(functional.relu(self.bn(x)) if self.last else x))


class WeiaicunzaiPreAct(nn.Module):
    """pytorch-cifar100's: convolutions with bias, batch norm after the stem, the stride in a bottleneck's first."""

    class Block(nn.Module):
        def __init__(self, inputs, width, stride, *, bottleneck):
            super().__init__()
            outputs = 4 * width if bottleneck else width
            sizes = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)] if bottleneck else None
            layers = []
            for number, (fewer, more, kernel) in enumerate(sizes or [(inputs, width, 3), (width, width, 3)]):
                layers += [
                    nn.BatchNorm2d(fewer),
                    nn.ReLU(),
                    conv(fewer, more, kernel, 1 if number else stride, bias=True),
                ]
            self.residual = nn.Sequential(*layers)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = conv(inputs, outputs, 1, stride, bias=True)

        def forward(self, x):
            return self.residual(x) + self.shortcut(x)

    def __init__(self, *, width=8, bottleneck=False):
        super().__init__()
        self.pre = nn.Sequential(conv(3, width, bias=True), nn.BatchNorm2d(width), nn.ReLU())
        inputs = width
        for stage in range(4):
            block = self.Block(inputs, width * 2**stage, 2 if stage else 1, bottleneck=bottleneck)
            setattr(self, f"stage{stage + 1}", nn.Sequential(block))
            inputs = width * 2**stage * (4 if bottleneck else 1)
        self.linear = nn.Linear(inputs, 100)

    def forward(self, x):
        return self.linear(pooled(self.stage4(self.stage3(self.stage2(self.stage1(self.pre(x)))))))


class WideBlock(nn.Module):
    """Of TRADES, HYDRA and bearpaw; of meliketoy; of pytorch-cifar100; of DeepMind."""

    def __init__(self, inputs, outputs, stride, program, activation):
        super().__init__()
        self.program, self.stride, self.act = program, stride, activation
        changed = inputs != outputs
        if program == "deepmind":
            self.batchnorm_0, self.batchnorm_1 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
            self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
            self.conv_1 = conv(outputs, outputs)
            self.shortcut = conv(inputs, outputs, 1, stride) if changed else None
        elif program == "weiaicunzai":
            layers = [nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, outputs, 3, stride, bias=True)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout(), conv(outputs, outputs, bias=True)]
            self.residual = nn.Sequential(*layers)
            self.shortcut = nn.Sequential(*[conv(inputs, outputs, 1, stride, bias=True)] * changed)
        else:
            bias = program == "meliketoy"
            self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
            self.conv1 = conv(inputs, outputs, 3, 1 if bias else stride, bias=bias)
            self.conv2 = conv(outputs, outputs, 3, stride if bias else 1, bias=bias)
            if bias:
                self.shortcut = nn.Sequential(*[conv(inputs, outputs, 1, stride, bias=True)] * changed)
            elif changed:
                self.convShortcut = conv(inputs, outputs, 1, stride)

    def forward(self, x):
        if self.program == "weiaicunzai":
            return self.residual(x) + self.shortcut(x)
        if self.program == "meliketoy":
            return self.conv2(functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x)))))) + self.shortcut(x)
        if self.program == "deepmind":
            first = self.act(self.batchnorm_0(x))
            out = self.conv_0(functional.pad(first, (1, 1, 1, 1) if self.stride == 1 else (0, 1, 0, 1)))
            out = self.conv_1(self.act(self.batchnorm_1(out)))
            return out + (x if self.shortcut is None else self.shortcut(first))
        first = self.act(self.bn1(x))
        out = self.conv2(self.act(self.bn2(self.conv1(first))))
        return out + (self.convShortcut(first) if hasattr(self, "convShortcut") else x)


class Part(nn.Module):
    """A module with one child of a given name."""

    def __init__(self, name, child):
        super().__init__()
        self.add_module(name, child)
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


WIDE_NAMES = {
    "trades": ("conv1", "block{}", "bn1", "fc"),
    "deepmind": ("init_conv", "", "batchnorm", "logits"),
    "weiaicunzai": ("init_conv", "conv{}", "bn", "linear"),
    "meliketoy": ("conv1", "layer{}", "bn1", "linear"),
}


class WideResNet(nn.Module):
    def __init__(self, program, *, factor=2, count=1, activation=functional.relu):
        super().__init__()
        self.stem, stage_name, self.norm, self.head = WIDE_NAMES[program]
        self.act = activation
        bias = program in {"weiaicunzai", "meliketoy"}
        self.add_module(self.stem, conv(3, 16, bias=bias))
        stages, inputs = [], 16
        for stage in range(3):
            outputs = 16 * factor * 2**stage
            layers = [
                WideBlock(inputs if not p else outputs, outputs, 2 if stage and not p else 1, program, activation)
                for p in range(count)
            ]
            stages.append(nn.Sequential(*layers))
            inputs = outputs
        self.stages = []
        if program == "deepmind":
            self.layer = nn.Sequential(*(Part("block", stage) for stage in stages))
            self.stages = ["layer"]
        else:
            for number, stage in enumerate(stages, start=2 if program == "weiaicunzai" else 1):
                self.stages.append(stage_name.format(number))
                self.add_module(self.stages[-1], Part("layer", stage) if program == "trades" else stage)
        self.add_module(self.norm, nn.BatchNorm2d(inputs))
        self.add_module(self.head, nn.Linear(inputs, 10))

    def forward(self, x):
        x = getattr(self, self.stem)(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return getattr(self, self.head)(pooled(self.act(getattr(self, self.norm)(x))))


class VGG(nn.Module):
    """Of kuangliu, chenyaofo, huyvnphan, pytorch-cifar100, bearpaw, HYDRA, network slimming."""

    def __init__(self, configuration, classifier, *, features="features", bias=True, norm=True, end=None, channels=3):
        super().__init__()
        layers = []
        for entry in configuration:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [conv(channels, entry, bias=bias), *([nn.BatchNorm2d(entry)] if norm else []), nn.ReLU()]
            channels = entry
        self.add_module(features, nn.Sequential(*layers))
        self.features_name, self.end = features, end or nn.Identity()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(self.end(getattr(self, self.features_name)(x)).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth, *, names, before, single=False):
        super().__init__()
        self.names, self.before = names, before
        sizes = [(inputs, growth, 3)] if single else [(inputs, 4 * growth, 1), (4 * growth, growth, 3)]
        self.number = len(sizes)
        for number, (fewer, more, kernel) in enumerate(sizes, start=1):
            self.add_module(f"{names}{number}", nn.BatchNorm2d(fewer))
            self.add_module(f"conv{number}", conv(fewer, more, kernel))

    def forward(self, x):
        out = x
        for number in range(1, self.number + 1):
            out = getattr(self, f"conv{number}")(functional.relu(getattr(self, f"{self.names}{number}")(out)))
        return torch.cat([out, x] if self.before else [x, out], 1)


class DenseNet(nn.Module):
    """Of kuangliu (new maps first) and bearpaw (new maps last)."""

    def __init__(self, *, program="kuangliu", blocks=(2, 1, 2), growth=4, single=False):
        super().__init__()
        kuangliu, maps = program == "kuangliu", 2 * growth
        self.conv1 = conv(3, maps)
        self.number, self.head = len(blocks), "linear" if kuangliu else "fc"
        self.inner = ("bn", "conv") if kuangliu else ("bn1", "conv1")
        for stage, count in enumerate(blocks, start=1):
            layers = []
            for _ in range(count):
                layers.append(DenseLayer(maps, growth, names="bn", before=kuangliu, single=single))
                maps += growth
            self.add_module(f"dense{stage}", nn.Sequential(*layers))
            if stage < self.number:
                transition = nn.Module()
                transition.add_module(self.inner[0], nn.BatchNorm2d(maps))
                transition.add_module(self.inner[1], conv(maps, maps // 2, 1))
                self.add_module(f"trans{stage}", transition)
                maps //= 2
        self.bn = nn.BatchNorm2d(maps)
        self.add_module(self.head, nn.Linear(maps, 10))

    def forward(self, x):
        x = self.conv1(x)
        for stage in range(1, self.number + 1):
            x = getattr(self, f"dense{stage}")(x)
            if stage < self.number:
                transition = getattr(self, f"trans{stage}")
                norm, convolution = (getattr(transition, name) for name in self.inner)
                x = functional.avg_pool2d(convolution(functional.relu(norm(x))), 2)
        return getattr(self, self.head)(pooled(functional.relu(self.bn(x))))


class WeiaicunzaiDenseNet(nn.Module):
    """pytorch-cifar100's: transitions without ReLU."""

    class Layer(nn.Module):
        def __init__(self, inputs, growth):
            super().__init__()
            layers = [nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, 4 * growth, 1)]
            layers += [nn.BatchNorm2d(4 * growth), nn.ReLU(), conv(4 * growth, growth)]
            self.bottle_neck = nn.Sequential(*layers)

        def forward(self, x):
            return torch.cat([x, self.bottle_neck(x)], 1)

    def __init__(self, blocks=(2, 1, 2), growth=4):
        super().__init__()
        maps = 2 * growth
        self.conv1 = conv(3, maps)
        self.features = nn.Sequential()
        for stage, count in enumerate(blocks):
            block = nn.Sequential()
            for number in range(count):
                block.add_module(f"bottle_neck_layer_{number}", self.Layer(maps, growth))
                maps += growth
            last = stage == len(blocks) - 1
            self.features.add_module(f"dense_block{stage}" if last else f"dense_block_layer_{stage}", block)
            if not last:
                down = nn.Sequential(nn.BatchNorm2d(maps), conv(maps, maps // 2, 1), nn.AvgPool2d(2))
                self.features.add_module(f"transition_layer_{stage}", Part("down_sample", down))
                maps //= 2
        self.features.add_module("bn", nn.BatchNorm2d(maps))
        self.features.add_module("relu", nn.ReLU())
        self.linear = nn.Linear(maps, 100)

    def forward(self, x):
        return self.linear(pooled(self.features(self.conv1(x))))


class KuangliuMobileNet(nn.Module):
    class Block(nn.Module):
        def __init__(self, inputs, outputs, expansion, stride):
            super().__init__()
            inner = expansion * inputs
            self.stride = stride
            self.conv1, self.bn1 = conv(inputs, inner, 1), nn.BatchNorm2d(inner)
            self.conv2, self.bn2 = (
                nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
                nn.BatchNorm2d(inner),
            )
            self.conv3, self.bn3 = conv(inner, outputs, 1), nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride == 1 and inputs != outputs:
                self.shortcut = nn.Sequential(conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))

        def forward(self, x):
            out = functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))
            out = self.bn3(self.conv3(out))
            return out + self.shortcut(x) if self.stride == 1 else out

    STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 32), nn.BatchNorm2d(32)
        layers, inputs = [], 32
        for expansion, outputs, count, stride in self.STAGES:
            for position in range(count):
                layers.append(self.Block(inputs, outputs, expansion, 1 if position else stride))
                inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.conv2, self.bn2 = conv(320, 1280, 1), nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, 10)

    def forward(self, x):
        x = self.layers(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(pooled(functional.relu(self.bn2(self.conv2(x)))))


class Selected(nn.Module):
    """Network slimming's layer behind a batch norm: a parameter of ones and zeros selects channels."""

    def __init__(self, count):
        super().__init__()
        self.indexes = nn.Parameter(torch.ones(count))

    def forward(self, x):
        return x[:, self.indexes != 0]


class SlimmedPreAct(nn.Module):
    """Network slimming's pre-activation bottlenecks, after pruning: ``kept`` of four channels everywhere."""

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            few = 3 * width // 4
            self.bn1, self.select = nn.BatchNorm2d(inputs), Selected(inputs)
            self.select.indexes.data[::4] = 0
            self.conv1 = conv(inputs - len(range(0, inputs, 4)), few, 1)
            self.bn2, self.conv2 = nn.BatchNorm2d(few), conv(few, few, 3, stride)
            self.bn3, self.conv3 = nn.BatchNorm2d(few), conv(few, 4 * width, 1)
            changed = stride != 1 or inputs != 4 * width
            self.downsample = nn.Sequential(conv(inputs, 4 * width, 1, stride)) if changed else None

        def forward(self, x):
            out = self.conv1(functional.relu(self.select(self.bn1(x))))
            out = self.conv2(functional.relu(self.bn2(out)))
            out = self.conv3(functional.relu(self.bn3(out)))
            return out + (x if self.downsample is None else self.downsample(x))

    def __init__(self):
        super().__init__()
        self.conv1 = conv(3, 16)
        self.layer1 = nn.Sequential(self.Block(16, 16, 1))
        self.layer2 = nn.Sequential(self.Block(64, 32, 2))
        self.layer3 = nn.Sequential(self.Block(128, 64, 2))
        self.bn, self.select = nn.BatchNorm2d(256), Selected(256)
        self.select.indexes.data[::4] = 0
        self.fc = nn.Linear(192, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(pooled(functional.relu(self.select(self.bn(x)))))


class SmallCNN(nn.Module):
    """TRADES' network for MNIST; with another activation than ReLU, somebody's own."""

    def __init__(self, act=None):
        super().__init__()
        act = act or nn.ReLU()
        self.feature_extractor = nn.Sequential()
        for number, (inputs, outputs) in enumerate(((1, 32), (32, 32), (32, 64), (64, 64)), start=1):
            self.feature_extractor.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3))
            self.feature_extractor.add_module(f"relu{number}", act)
            if number in {2, 4}:
                self.feature_extractor.add_module(f"maxpool{number // 2}", nn.MaxPool2d(2, 2))
        self.classifier = nn.Sequential()
        for name, layer in (
            ("fc1", nn.Linear(1024, 200)),
            ("relu1", act),
            ("drop", nn.Dropout(0.5)),
            ("fc2", nn.Linear(200, 200)),
            ("relu2", act),
            ("fc3", nn.Linear(200, 10)),
        ):
            self.classifier.add_module(name, layer)

    def forward(self, x):
        return self.classifier(self.feature_extractor(x).flatten(1))
