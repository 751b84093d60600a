"""Files whose names and shapes leave open what they compute, on the command line: labels decide, or the user does."""

import numpy as np
import pytest
import torch

import thinice
from tests.models.test_variants import DIGITS, LeNet, alive, answered, spread_out


def in_npz(samples, path):
    np.savez(path, images=samples.inputs.numpy(), labels=samples.labels.numpy())
    return f"npz:{path}"


@pytest.mark.slow
def test_on_the_command_line_labels_decide(run, tmp_path):
    network = spread_out(alive(LeNet(), DIGITS), DIGITS)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    data = in_npz(answered(network, DIGITS), tmp_path / "data.npz")
    options = ("--data", data, "--attack", "fmn", "--effort", "quick", "--normalization", "none", "--limit", "60")
    code, _, err = run("measure", tmp_path / "net.pth", *options)
    assert code == 0, err
    assert "net: architecture cnn5:tanh+average-pool chosen on 60 samples" in err
    code, _, err = run("measure", tmp_path / "net.pth", *options, "--architecture", "cnn5:sigmoid")
    assert code == 0, err
    assert "chosen on" not in err


def test_on_the_command_line_an_undecided_variant_is_asked_for(run, tmp_path):
    network = alive(LeNet(), DIGITS)
    network.fc3.bias.data[3] += 100
    torch.save(network.state_dict(), tmp_path / "net.pth")
    same = thinice.as_samples(torch.rand(20, *DIGITS), torch.full((20,), 3))
    data = in_npz(same, tmp_path / "data.npz")
    code, _, err = run("measure", tmp_path / "net.pth", "--data", data, "--normalization", "none")
    assert code != 0
    assert "`architecture` is missing for 'net': several networks have its parameter names and shapes" in err
    assert "(--architecture), one of cnn5, or cnn5:VARIANT with tanh (tanh for ReLU), " in err
