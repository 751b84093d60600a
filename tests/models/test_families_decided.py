"""Labels decide between the members of a family that have the same parameters."""

import pytest
import torch

from tests.models import foreign
from tests.models.test_families import settled
from tests.models.test_variants import answered, logits, spread_out
from thinice.errors import InputError
from thinice.models import load_classifier
from thinice.printable import LONGEST_MESSAGE


def test_labels_decide_between_members_of_a_family(tmp_path):
    network = spread_out(settled(foreign.ResNet(around="downsample", head="fc", pool=True)), (3, 32, 32))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32))
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert classifier.architecture == "resnet10(stem=cifar-pool)"
    torch.testing.assert_close(
        logits(classifier, samples.inputs), logits(network, samples.inputs), rtol=1e-4, atol=1e-3
    )


def test_what_labels_leave_open_fits_into_a_message(tmp_path):
    """Of sixteen networks the most accurate are told, and each that is left can be given."""
    network = settled(foreign.ResNet(around="downsample", head="fc", kernel=7))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32), count=3)
    with pytest.raises(InputError, match=r"resnet10\(stem=imagenet-no-pool\).*10 others at most \d\.\d{3};") as caught:
        load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert len(str(caught.value)) < LONGEST_MESSAGE
    offered = str(caught.value).partition("one of ")[2]
    for stem in ("imagenet", "imagenet-no-pool", "imagenet-stride-1", "imagenet-stride-1-no-pool"):
        assert f"'resnet10(stem={stem})'" in offered
    for variant in ("silu", "gelu", "leaky-relu"):
        assert f"{variant} (" in offered.partition("NAME:VARIANT with ")[2]
