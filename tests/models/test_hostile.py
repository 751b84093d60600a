"""Small files that claim to be large, or have no end: refused in one line before memory is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import thinice
from thinice import measurement
from thinice.errors import CheckpointError, ThinIceError
from thinice.measurement import settle_all
from thinice.models import as_classifier, build, save_classifier


def endless():
    nest: dict[str, object] = {}
    nest["state_dict"] = nest
    return nest


@pytest.mark.filterwarnings("ignore")  # torch's own, about sparse tensors
@pytest.mark.parametrize(
    ("held", "part"),
    [
        ({"state_dict": {"conv1.weight": torch.zeros(1).expand(10**12)}}, "more numbers than the file holds"),
        ({"a.weight_orig": torch.zeros(1, 1).expand(10**6, 10**6), "a.weight_mask": torch.ones(1)}, "a.weight_orig"),
        ({"state_dict": {"conv1.weight": torch.eye(3).to_sparse()}}, "no ordinary dense tensor"),
        ({"state_dict": {"conv1.weight": torch.empty(3, device="meta")}}, "no ordinary dense tensor"),
        (endless(), "contains itself"),
    ],
)
def test_is_refused(tmp_path, held, part):
    path = tmp_path / "hostile.pt"
    torch.save(held, path)
    with pytest.raises(CheckpointError, match=part) as caught:
        thinice.load_classifier(path)
    assert "\n" not in str(caught.value)
    assert "hostile.pt" in str(caught.value)


@pytest.mark.parametrize("change", [{"classes": 10**12}, {"arguments": {"channels": 10**9}}])
def test_a_header_that_claims_a_giant_is_refused_by_shapes(tmp_path, change):
    path = tmp_path / "giant.pt"
    save_classifier(as_classifier(build("digits_cnn"), name="small"), path)
    header = torch.load(path, weights_only=True)
    torch.save({**header, **change}, path)
    with pytest.raises(ThinIceError, match=r"giant\.pt") as caught:
        thinice.load_classifier(path)
    assert "alloc" not in str(caught.value)


def test_normalisations_that_labels_decide_differently_are_refused(monkeypatch):
    one, other = (as_classifier(build("digits_cnn"), name=name) for name in ("dense", "pruned"))
    undecided = [replace(network, normalization_known=False) for network in (one, other)]
    chosen = iter([None, ((0.5,), (0.5,))])
    monkeypatch.setattr(
        measurement,
        "decide_normalization",
        lambda classifier, *_: replace(classifier, normalization=next(chosen), normalization_known=True),
    )
    with pytest.raises(ThinIceError, match="--normalization"):
        settle_all(undecided, thinice.load_samples("digits", limit=4))
