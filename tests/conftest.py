"""Fixtures for all tests: offline, on the CPU, seeded, and with reference data only where they are.

What takes long to import is imported where it is used: with ``-n``, the process that deals out the tests runs none.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks gain nothing from threads; workers run side by side

import pytest

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """Prepare a process that runs tests: the same cases everywhere, and new stores that are copies.

    Copies are also those of fixtures of whole files, and of the examples in docstrings.
    """
    if session.config.pluginmanager.hasplugin("dsession"):  # this process only deals them out
        return
    from hypothesis import settings  # noqa: PLC0415 - see above

    # half of hypothesis's hundred cases where a test does not say how many it needs
    settings.register_profile("thinice", derandomize=True, deadline=None, max_examples=50)
    settings.load_profile("thinice")
    patch = pytest.MonkeyPatch()
    patch.setattr("thinice.store.make", _make_copy)
    session.config.add_cleanup(patch.undo)
    gc.disable()  # until all tests are collected: none of what is imported is ever garbage


@pytest.fixture(autouse=True)
def _seeded():
    import torch  # noqa: PLC0415 - see above

    with torch.random.fork_rng(devices=[]):
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            torch.default_generator.manual_seed(0)  # a thousandth of the time, which is half a millisecond a test
        else:
            torch.manual_seed(0)
        yield


@cache
def _empty_store() -> bytes:
    """A store without rows: making one takes a third of a second."""
    from thinice.store.schema import make  # noqa: PLC0415 - see above

    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.duckdb"
        make(path, patience=30)
        return path.read_bytes()


def _make_copy(path, patience):
    """Copy an empty store where `make` can make one: most tests and examples measure into a new one."""
    from thinice.store.schema import make  # noqa: PLC0415 - see above

    if path.parent.is_dir() and os.access(path.parent, os.W_OK) and not path.exists():
        path.write_bytes(_empty_store())
    else:
        make(path, patience)


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A store without rows."""
    path = tmp_path_factory.mktemp("store") / "empty.duckdb"
    path.write_bytes(_empty_store())
    return path


@pytest.fixture(scope="session")
def in_all_workers(tmp_path_factory):
    """A folder that all workers of xdist see; a file appears there whole, by renaming it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture
def stores_are_made(monkeypatch):
    """Let new stores be made as users make them, where tests are about that."""
    from thinice.store.schema import make  # noqa: PLC0415 - see above

    monkeypatch.setattr("thinice.store.make", make)


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


def pytest_collection_finish(session):
    """Leave modules and tests, a million objects, out of every later search for garbage."""
    gc.freeze()
    gc.enable()
    if not session.config.option.collectonly:
        _empty_store()  # before a test changes what making one needs
