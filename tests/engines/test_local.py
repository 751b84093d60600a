"""How many samples this process computes at a time."""

from __future__ import annotations

import pytest
import torch

from thinice.engines.local import first_batch_size
from thinice.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_small_samples_go_into_larger_batches():
    assert [first_batch_size("auto", values, CPU) for values in (3 * 32 * 32, 28 * 28, 8 * 8)] == [128, 501, 512]
    assert first_batch_size("auto", 3 * 224 * 224, CPU) == 10
    assert [first_batch_size("auto", values, CUDA) for values in (3 * 32 * 32, 8 * 8)] == [1024, 8192]


@pytest.mark.parametrize("size", [0, -3, "many", 2.5])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match="`batch_size` must be"):
        first_batch_size(size, 64, CPU)
