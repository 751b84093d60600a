"""Labels decide between the members of a family that have the same parameters."""

import torch

from tests.models import foreign
from tests.models.test_families import settled
from tests.models.test_variants import answered, logits, spread_out
from thinice.models import load_classifier


def test_labels_decide_between_members_of_a_family(tmp_path):
    network = spread_out(settled(foreign.ResNet(around="downsample", head="fc", pool=True)), (3, 32, 32))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    samples = answered(network, (3, 32, 32))
    classifier = load_classifier(tmp_path / "net.pt", normalization="none", samples=samples)
    assert classifier.architecture == "resnet10(stem=cifar-pool)"
    torch.testing.assert_close(
        logits(classifier, samples.inputs), logits(network, samples.inputs), rtol=1e-4, atol=1e-3
    )
