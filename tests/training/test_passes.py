"""Layout, precision and folding change how a network is computed, not what; and the samples arrive as they are."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.training.small import blobs, network, weights
from thinice.data import as_samples
from thinice.data.samples import Pixels, build_samples
from thinice.errors import InputError
from thinice.models import build
from thinice.training import OBJECTIVES, Hook, Recipe, train
from thinice.training.crafting import Adversarial
from thinice.training.passes import Feed, Passes, evaluating, laid_out
from thinice.training.pgd_at import PGD

CPU = torch.device("cpu")
WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def trained(module, samples=None, **settings):
    train(module, blobs() if samples is None else samples, Recipe(epochs=2, batch_size=50, **settings))
    return module


def test_channels_last_changes_rounding_alone_and_is_gone_afterwards():
    plain, last = trained(network(), channels_last=False), trained(network(), channels_last=True)
    torch.testing.assert_close(weights(plain), weights(last), rtol=1e-4, atol=1e-5)
    assert all(value.is_contiguous() for value in last.state_dict().values())
    assert torch.equal(weights(last), weights(trained(network())))  # it pays where images are convolved


def test_images_lie_channels_last_where_they_are_convolved():
    seen = []

    class Look(Hook):
        def prepare(self, model):
            model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    samples = as_samples(torch.rand(30, 3, 8, 8), torch.arange(30) % 2)
    train(module, samples, Recipe(epochs=1, shift=1), objective=PGD(steps=2), hooks=[Look()])
    assert seen
    assert all(inputs.is_contiguous(memory_format=torch.channels_last) for inputs in seen)


def test_bf16_rounds_the_passes_and_not_the_weights():
    plain, low = trained(network()), trained(network(), precision="bf16")
    assert all(value.dtype == torch.float32 for value in low.parameters())
    assert not torch.equal(weights(plain), weights(low))
    torch.testing.assert_close(weights(plain), weights(low), rtol=0.1, atol=0.05)


def test_tf32_is_for_cuda():
    with pytest.raises(InputError, match="`precision` tf32 is arithmetic of CUDA devices, and this is cpu"):
        trained(network(), precision="tf32")


@pytest.mark.parametrize("name", ["preact_resnet8", "resnet20", "digits_cnn"])
def test_crafting_in_eval_mode_is_folded_and_finds_the_same(name):
    torch.manual_seed(0)
    module = build(name, 10)
    shape = (1, 8, 8) if name == "digits_cnn" else (3, 32, 32)
    inputs, labels = torch.rand(4, *shape), torch.arange(4)
    module.train()
    module(torch.rand(16, *shape))  # running statistics that are those of nothing in particular
    attack = PGD(steps=3)
    with laid_out(module, Recipe(epochs=1), CPU) as passes:
        for _ in range(2):
            folded = attack.craft(passes, inputs, labels, torch.Generator().manual_seed(0))
            assert passes.twin_is_right
            own = attack.craft(copy.deepcopy(module), inputs, labels, torch.Generator().manual_seed(0))
            assert ((folded - own).abs() > 1e-6).float().mean() < 0.02  # the sign of a gradient that is nearly 0
            with torch.no_grad():  # the twin follows the weights
                for parameter in module.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        assert passes.training


def test_what_cannot_be_folded_exactly_is_not():
    class Odd(nn.Module):
        """Computes something else where `torch.fx` looks on."""

        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))

        def forward(self, inputs):
            factor = 1.0 if isinstance(inputs, torch.Tensor) else 2.0
            return factor * self.layers(inputs)

    module = Odd().eval()
    with laid_out(module, Recipe(epochs=1), CPU) as passes, evaluating(passes):
        assert passes.in_eval(torch.rand(2, 1, 4, 4)) is passes
        assert passes.twin_is_right is False


def test_parametrised_layers_are_not_folded():
    module = network()
    nn.utils.parametrize.register_parametrization(module[0], "weight", nn.Identity())
    with laid_out(module, Recipe(epochs=1), CPU) as passes, evaluating(passes):
        assert passes.in_eval(torch.rand(2, 1, 4, 4)) is passes


class FromFiles:
    """Inputs that are read when they are asked for."""

    def __init__(self, inputs):
        self.inputs, self.reads = inputs, []

    @property
    def shape(self):
        return self.inputs.shape

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.inputs[index]

    def select(self, index):
        return FromFiles(self.inputs[index])


@pytest.mark.parametrize("kind", ["tensor", "pixels", "files", "files of more bits"])
def test_the_feed_hands_out_every_batch_in_order(kind):
    stored = torch.randint(256, (10, 1, 2, 2), dtype=torch.uint8)
    floats = torch.rand(10, 1, 2, 2) if kind == "files of more bits" else stored.float() / 255
    inputs = {"tensor": floats, "pixels": Pixels(stored)}.get(kind, FromFiles(floats))
    samples = build_samples(
        inputs, torch.arange(10) % 3, sample_ids=torch.arange(10), classes=("a", "b", "c"), name="x", split="all"
    )
    order = torch.randperm(10).split(3)
    for _ in range(2):
        batches = list(Feed(samples, CPU).batches(order))
        assert [index.tolist() for index, _, _ in batches] == [index.tolist() for index in order]
        for index, images, labels in batches:
            assert torch.equal(images, floats[index])
            assert torch.equal(labels, samples.labels[index])
    assert next(Feed(samples, CPU).batches(order))[1].shape == (3, 1, 2, 2)  # who stops early leaves nothing behind


def test_image_files_are_read_once_where_they_fit(monkeypatch):
    files = FromFiles(torch.randint(256, (10, 1, 2, 2)).float() / 255)
    samples = build_samples(
        files, torch.arange(10) % 2, sample_ids=torch.arange(10), classes=("a", "b"), name="x", split="all"
    )
    files.reads.clear()
    feed = Feed(samples, CPU)
    for _ in range(3):
        list(feed.batches(torch.arange(10).split(4)))
    assert sum(map(len, files.reads)) == 10
    monkeypatch.setattr("thinice.training.passes.IN_MEMORY", 39)
    files.reads.clear()
    large = Feed(samples, CPU)
    for _ in range(2):
        list(large.batches(torch.arange(10).split(4)))
    assert sum(map(len, files.reads)) == 20


def test_an_error_in_reading_arrives(monkeypatch):
    class Broken(FromFiles):
        def __getitem__(self, index):
            raise OSError("the third file is gone")

    samples = blobs(10)
    broken = build_samples(
        Broken(samples.inputs), samples.labels, sample_ids=samples.sample_ids, classes=("a", "b"), name="x",
        split="all", digests=samples.digests,
    )  # fmt: skip
    with pytest.raises(OSError, match="the third file is gone"):
        Feed(broken, CPU)
    monkeypatch.setattr("thinice.training.passes.IN_MEMORY", 1)
    with pytest.raises(OSError, match="the third file is gone"):
        list(Feed(broken, CPU).batches(torch.arange(10).split(3)))


def test_a_fused_step_is_torchs():
    """Adam and AdamW against torch's plain ones, over an epoch in the same order."""
    samples = blobs(40)
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        ours = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        theirs = copy.deepcopy(ours)
        train(
            ours,
            samples,
            Recipe(epochs=1, batch_size=10, optimizer=name, learning_rate=0.01, weight_decay=0.1, schedule="constant"),
        )
        optimizer = kind(theirs.parameters(), 0.01, weight_decay=0.1, fused=False, foreach=False)
        for index in torch.randperm(40, generator=torch.Generator().manual_seed(1)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(theirs(samples.inputs[index]), samples.labels[index]).backward()
            optimizer.step()
        torch.testing.assert_close(weights(ours), weights(theirs))


@pytest.mark.slow
def test_a_compiled_network_learns_the_same():
    plain, compiled = (
        nn.Sequential(*[layer for layer in network() if not isinstance(layer, nn.Dropout)]) for _ in "ab"
    )
    trained(plain)
    trained(compiled, compiled=True)  # which draws dropout from a stream of its own
    torch.testing.assert_close(weights(plain), weights(compiled), rtol=1e-3, atol=1e-4)


def test_a_compiler_that_fails_is_one_line(monkeypatch):
    def broken(_):
        def run(_):
            raise RuntimeError("no C++ compiler\nwas found")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        InputError, match=r"torch\.compile fails on this network: no C\+\+ compiler; leave it out"
    ) as error:
        trained(network(), compiled=True)
    assert "\n" not in str(error.value)


@pytest.mark.gpu
@WITH_CUDA
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["natural", "fast", "pgd", "trades", "mart"])
def test_a_gpu_learns_the_same(name, precision):
    samples = as_samples((blobs(400).inputs * 255).to(torch.uint8), blobs(400).labels)
    recipe = Recipe(epochs=3, shift=1, flip=False, precision=precision, held_out=0.2, average=0.5)
    objective = OBJECTIVES.make(name, **({} if name == "natural" else {"budget": 0.05}))
    here, there = network(), network().cuda()
    histories = [
        train(here, samples, replace(recipe, precision="float32"), objective=objective),
        train(there, samples, recipe, objective=objective),
    ]
    assert all(value.is_cuda for value in there.state_dict().values())
    assert histories[1][-1].loss < histories[1][0].loss
    assert histories[1][-1].validation_accuracy > 0.9
    assert histories[1][-1].validation_accuracy == pytest.approx(histories[0][-1].validation_accuracy, abs=0.1)


@pytest.mark.gpu
@WITH_CUDA
def test_a_gpu_goes_on_where_it_stopped(tmp_path):
    samples, recipe = blobs(), Recipe(epochs=4, precision="bf16", held_out=0.2, select="loss", average=0.5)

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            network().cuda(), samples, recipe, objective=PGD(budget=0.05), resume=tmp_path / "state.pt", progress=stop
        )
    resumed = network(4).cuda()
    history = train(resumed, samples, recipe, objective=PGD(budget=0.05), resume=tmp_path / "state.pt")
    assert len(history) == 4
    assert history[-1].validation_accuracy > 0.9


def test_adversarial_objectives_are_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Adversarial()
    assert isinstance(Passes(nn.Identity(), Recipe(epochs=1), CPU, channels_last=False), nn.Module)
