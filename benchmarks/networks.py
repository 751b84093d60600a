"""The networks of the engine's benchmark: verified ones, a real ResNet-20, and small ones trained on MNIST.

`load(NAME, REFERENCE, CACHE)` takes the reference data's folder (verified networks, MNIST, weights) and a folder
in which trained weights are kept; training takes seconds to two minutes a network.
"""

from __future__ import annotations

import gzip
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Model = Callable[[Tensor], Tensor]
VERIFIED = ("mnistfc_256x2", "oval_cifar_base_kw", "resnet_2b")


def cnn() -> nn.Module:
    body = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(32 * 49, 100), nn.ReLU(), nn.Linear(100, 10))


def dense(width: int, depth: int, activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    before = 784
    for _ in range(depth):
        linear = nn.Linear(before, width)
        if activation is nn.Sigmoid:  # else six of them do not learn
            nn.init.xavier_normal_(linear.weight, gain=4.0)
            nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


# name: architecture, epochs, loss ("ce": cross-entropy; "mse": on one-hot labels; "ibp": cross-entropy, half of it of
# the worst logits that intervals allow), radius of adversarial training or of the intervals, start
TRAINED: dict[str, tuple[Callable[[], nn.Module], int, str, float, str | None]] = {
    "mnist_cnn": (cnn, 2, "ce", 0.0, None),
    "pruned90": (cnn, 2, "ce", 0.0, "mnist_cnn"),
    "at_cnn": (cnn, 3, "ce", 0.2, None),
    "ibp_cnn": (cnn, 4, "ibp", 0.2, None),
    "fc256x4": (lambda: dense(256, 4, nn.ReLU), 2, "ce", 0.0, None),
    "mse256x4": (lambda: dense(256, 4, nn.ReLU), 12, "mse", 0.0, None),
    "mse256x6": (lambda: dense(256, 6, nn.ReLU), 12, "mse", 0.0, None),
    "sig6x200": (lambda: dense(200, 6, nn.Sigmoid), 8, "ce", 0.0, None),
    "msesig": (lambda: dense(200, 6, nn.Sigmoid), 15, "mse", 0.0, None),
}
NETWORKS = (*VERIFIED, "resnet20", *TRAINED)


def load(name: str, reference: Path, cache: Path) -> tuple[str, Model, Tensor, Tensor]:
    """Return a name that changes with trained weights, the model, and samples (of 400) that it classifies correctly."""
    identity = name
    if name in VERIFIED:
        model, inputs, labels = _verified(name, reference)
    elif name == "resnet20":
        model, inputs, labels = _resnet20(reference)
    else:
        model = trained(name, reference, cache)
        inputs, labels = mnist(reference, "t10k")
        weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
        identity = f"{name}-{hashlib.sha256(weights).hexdigest()[:8]}"
    inputs, labels = inputs[:400], labels[:400]
    with torch.no_grad():
        correct = model(inputs).argmax(1) == labels
    return identity, model, inputs[correct].contiguous(), labels[correct]


def proofs(name: str, reference: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the radii (N,) of a verified network's samples, and ``holds``, ``violated`` or ``unknown`` of each."""
    data = np.load(reference / "data" / "verified" / f"{name}.npz")
    return data["epsilon"], data["verdict"]


def mnist(reference: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return the images (N, 1, 28, 28) in [0, 1] and labels of ``train`` or ``t10k``."""
    folder = reference / "data" / "mnist"
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = torch.tensor(np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28)).float() / 255
    return pixels, torch.tensor(np.frombuffer(labels, np.uint8)).long()


def _verified(name: str, reference: Path) -> tuple[Model, Tensor, Tensor]:
    import onnx
    import onnx2torch

    data = np.load(reference / "data" / "verified" / f"{name}.npz")
    graph = onnx.load(reference / "data" / "verified" / f"{name}.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = onnx2torch.convert(onnx.version_converter.convert_version(graph, 17)).eval().requires_grad_(False)
    mean, std = (torch.tensor(np.asarray(data[key], np.float32)).view(1, -1, 1, 1) for key in ("mean", "std"))
    shape = tuple(int(size) for size in data["input_shape"])
    images = torch.tensor(data["images"]).float() / 255
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2) if images.shape[-1] == 3 else images
    return (lambda x: module(((x - mean) / std).reshape(-1, *shape))), images, torch.tensor(data["labels"]).long()


def _resnet20(reference: Path) -> tuple[Model, Tensor, Tensor]:
    import thinice

    data = np.load(reference / "data" / "cifar10-exact-100.npz")
    images = torch.tensor(data["images"]).float() / 255
    classifier = thinice.load_classifier(
        reference / "weights" / "cifar10-resnet20.th",
        architecture="resnet20",
        normalization=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
    return classifier, images, torch.tensor(data["labels"]).long()


def trained(name: str, reference: Path, cache: Path) -> nn.Module:
    """Return a network of `TRAINED`, trained now or read from the cache."""
    build, epochs, loss, radius, start = TRAINED[name]
    torch.manual_seed(0)
    network, path = build(), cache / f"{name}.pt"
    if not path.exists():
        if start is not None:
            network.load_state_dict(trained(start, reference, cache).state_dict())
        inputs, labels = mnist(reference, "train")
        share = 0.9 if start else 0.0
        _train(network, inputs, labels, epochs=epochs, loss=loss, radius=radius, sparsity=share)
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), path)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval().requires_grad_(False)


def _train(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, epochs: int, loss: str, radius: float, sparsity: float
) -> None:
    batch = 128
    masks = {}
    if sparsity:
        weights = {name: value for name, value in network.named_parameters() if value.ndim > 1}
        sizes = torch.cat([value.detach().abs().flatten() for value in weights.values()])
        threshold = sizes.kthvalue(int(sparsity * len(sizes))).values
        masks = {name: value.detach().abs() > threshold for name, value in weights.items()}
    total = epochs * (len(inputs) // batch)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total)
    order = torch.cat([torch.randperm(len(inputs))[: total // epochs * batch] for _ in range(epochs)]).view(-1, batch)
    for step, index in enumerate(order):
        x, y = inputs[index], labels[index]
        ramp = min(1.0, 2 * step / total)
        if radius and loss != "ibp":
            x = _attacked(network, x, y, radius * ramp)
        logits = network(x)
        if loss == "ibp":
            worst = worst_logits(network, x, y, radius * ramp)
            natural, certified = (functional.cross_entropy(values, y) for values in (logits, worst))
            cost = (1 - ramp / 2) * natural + ramp / 2 * certified
        elif loss == "mse":
            cost = (logits - functional.one_hot(y, 10)).square().sum(1).mean()
        else:
            cost = functional.cross_entropy(logits, y)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for name, value in network.named_parameters():
                if name in masks:
                    value.mul_(masks[name])


def worst_logits(network: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Return logits (N, K) that intervals enclose for all points within a linf radius: the label's least, others' most.

    S. Gowal et al., "On the effectiveness of interval bound propagation for training verifiably robust models",
    arXiv:1810.12715. For a sequence of linear layers, convolutions without groups, and ReLU.
    """
    lower, upper = (x - radius).clamp(min=0), (x + radius).clamp(max=1)
    for layer in network:  # type: ignore[attr-defined]  # a sequence
        if isinstance(layer, nn.Linear | nn.Conv2d):
            middle, spread = layer((lower + upper) / 2), (upper - lower) / 2
            if isinstance(layer, nn.Linear):
                spread = functional.linear(spread, layer.weight.abs())
            else:
                spread = functional.conv2d(spread, layer.weight.abs(), None, layer.stride, layer.padding)
            lower, upper = middle - spread, middle + spread
        else:
            lower, upper = layer(lower), layer(upper)
    return torch.where(functional.one_hot(y, upper.shape[1]).bool(), lower, upper)


def _attacked(network: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    delta = (2 * torch.rand_like(x) - 1) * radius
    for _ in range(5):
        point = (x + delta).clamp(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(point), y), point)
        delta = (delta + radius / 2.5 * gradient.sign()).clamp(-radius, radius)
    return (x + delta).clamp(0, 1)
