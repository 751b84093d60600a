"""Augmentation against the same thing written with loops."""

from functools import partial

import pytest
import torch

from thinice.training import random_flip, random_shift


def global_seed(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shift_moves_and_fills_with_zeros():
    inputs = torch.rand(200, 3, 5, 7) + 1
    moved = random_shift(inputs, 2, global_seed())
    seen = set()
    for image, result in zip(inputs, moved, strict=True):
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected = torch.zeros_like(image)
                for row in range(5):
                    for column in range(7):
                        if 0 <= row - down < 5 and 0 <= column - right < 7:
                            expected[:, row, column] = image[:, row - down, column - right]
                if torch.equal(expected, result):
                    seen.add((down, right))
                    break
            else:
                continue
            break
        else:
            pytest.fail("a result is no shift of its image")
    assert len(seen) == 25
    assert moved.is_contiguous()


def test_flip_mirrors_about_half():
    inputs = torch.rand(1000, 1, 2, 3)
    flipped = random_flip(inputs, global_seed())
    mirrored = (flipped == inputs.flip(-1)).flatten(1).all(1)
    same = (flipped == inputs).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 420 < int(mirrored.sum()) < 580


@pytest.mark.parametrize("augment", [partial(random_shift, pixels=1), random_flip])
def test_the_generator_is_the_only_chance(augment):
    inputs = torch.rand(50, 1, 4, 4)
    before = inputs.clone()
    first = augment(inputs, generator=global_seed())
    torch.rand(1)
    assert torch.equal(first, augment(inputs, generator=global_seed()))
    assert not torch.equal(first, augment(inputs, generator=global_seed(1)))
    assert torch.equal(inputs, before)


def test_no_shift_is_none():
    inputs = torch.rand(3, 1, 4, 4)
    assert torch.equal(random_shift(inputs, 0, global_seed()), inputs)
