"""Fixtures for all tests: offline, on the CPU, seeded, and with reference data only where they are."""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks gain nothing from threads; workers run side by side

import pytest
import torch
from hypothesis import settings

from thinice.store import open_store
from thinice.store.schema import make

# the same cases on every machine, and half of hypothesis's hundred where a test does not say how many it needs
settings.register_profile("thinice", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("thinice")
gc.disable()  # until all tests are collected: none of what is imported is ever garbage

ROOT = Path(__file__).resolve().parent.parent
MEMORY, ROOM = Path("/dev/shm"), 8 << 30
"""Where files are written without waiting for a disk, and the bytes that have to be free there."""


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
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        # each commit to a store waits for the disk; what passes leaves nothing there (see pyproject.toml)
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A store without rows; copied, for making one takes ten times as long."""
    return open_store(tmp_path_factory.mktemp("store") / "empty.duckdb", new=True).path


@pytest.fixture(autouse=True)
def _stores_are_copies(request, monkeypatch, empty):
    """Let new stores be copies of an empty one, except where tests are about stores: most measure into a new one."""
    if (ROOT / "tests" / "store") in request.path.parents:
        return

    def copied(path, patience):
        if path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.exists():
            shutil.copyfile(empty, path)
        else:
            make(path, patience)

    monkeypatch.setattr("thinice.store.make", copied)


@pytest.fixture
def unadorned(monkeypatch):
    """Leave out the figures of a report, which take seconds, where a test is about something else."""
    monkeypatch.setattr("thinice.report.draw_figures", lambda *_: {})


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items):
    """Of a test that is marked as sampled and has many cases, one in five is not slow, the first and so on."""
    seen = Counter()
    for item in items:
        if item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if seen[test] % 5:
                item.add_marker("slow")
            seen[test] += 1


def pytest_collection_finish():
    """Leave modules and tests, a million objects, out of every later search for garbage."""
    gc.freeze()
    gc.enable()
