"""Fixtures for all tests: offline, on the CPU, seeded, and with reference data only where they are."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks gain nothing from threads; workers run side by side

import pytest
import torch
from hypothesis import settings

settings.register_profile("thinice", derandomize=True, deadline=None)  # the same cases on every machine
settings.load_profile("thinice")

ROOT = Path(__file__).resolve().parent.parent


def reference(path: str) -> Path:
    """A file of the reference data (verified networks, real images), or a skip that says what is missing."""
    base = Path(os.environ.get("THINICE_TEST_DATA", ROOT.parent / "shared"))
    found = base / path
    if not found.exists():
        pytest.skip(f"reference data not found: {path} (set THINICE_TEST_DATA to their folder)")
    return found


def pytest_configure(config):
    """Tests are of the CPU, where numbers repeat; those of a GPU run by themselves: ``pytest -m gpu``."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
