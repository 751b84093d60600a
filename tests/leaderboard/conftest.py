"""One benchmark of the digits networks, by attacks that take seconds, for all tests of the room."""

from __future__ import annotations

import shutil

import pytest

import thinice
from tests.cli.conftest import run  # noqa: F401 - a fixture
from thinice.leaderboard import published_methods
from thinice.leaderboard.results import Protocol

QUICK = {"distance_attack": "fmn", "budget_attack": "pgd", "effort": "quick"}
WEAK = Protocol(budget=24 / 255, tune_trials=2, tune_steps=5, steps=20, **QUICK)
"""Seconds instead of minutes."""
OPTIONS = {"protocol": WEAK, "checks": False, "progress": False, "device": "cpu"}
HYDRA = published_methods()["HYDRA_Sehwag2020Hydra"]


@pytest.fixture(scope="session")
def networks():
    paths = thinice.example_checkpoints()
    return [thinice.load_classifier(paths[name]) for name in ("dense", "pruned-90", "pruned-95")]


@pytest.fixture(scope="session")
def samples():
    return thinice.load_samples("digits", limit=40)


@pytest.fixture(scope="session")
def benchmarked(networks, samples, tmp_path_factory, in_all_workers):
    """What the benchmark says, and the store; what another worker of xdist has measured is read from its store."""
    dense, *pruned = networks
    path, finished = tmp_path_factory.mktemp("benchmark") / "thinice.duckdb", in_all_workers / "benchmark.duckdb"
    if finished.exists():
        shutil.copy(finished, path)
    result = thinice.benchmark(pruned, dense, samples, methods=[HYDRA, None], store=path, **OPTIONS)
    if not finished.exists():
        shutil.copy(path, path.with_name("finished")).rename(finished)
    return result, path
