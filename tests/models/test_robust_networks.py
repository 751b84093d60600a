"""The robust networks beside the benchmarks are what their page says."""

import zipfile

import pytest
import torch

import thinice
from tests.conftest import ROOT, reference
from thinice.models import Masks

FOLDER = ROOT / "benchmarks" / "data" / "robust"


@pytest.mark.parametrize(("name", "kept"), [("", 268_336), ("-pruned-90", 26_834), ("-pruned-95", 13_417)])
def test_zeros_and_parent_are_those_of_the_page(name, kept):
    network = thinice.load_classifier(FOLDER / f"resnet20-seed-0{name}.pt")
    dense = thinice.load_classifier(FOLDER / "resnet20-seed-0.pt")
    assert (network.architecture, network.classes) == ("resnet20", 10)
    assert sum(layer.kept for layer in Masks.of(network.network).layers()) == kept
    assert network.parent == (dense.fingerprint if name else None)


@pytest.mark.data
@pytest.mark.slow
def test_they_read_images_that_they_were_not_trained_on(tmp_path):
    with zipfile.ZipFile(reference("data/cifar10-jpeg.zip")) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("test/")])
    samples = thinice.load_samples(f"folder:{tmp_path}", split="test", limit=500)
    for name in ("", "-pruned-90", "-pruned-95"):
        network = thinice.load_classifier(FOLDER / f"resnet20-seed-0{name}.pt")
        accuracy = (
            (network(samples.inputs[torch.arange(len(samples))]).argmax(1) == samples.labels).float().mean().item()
        )
        assert 0.5 < accuracy < 0.66
