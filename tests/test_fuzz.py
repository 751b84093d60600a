"""Mutated files of every kind for a few seconds each; THINICE_FUZZ_SECONDS and THINICE_FUZZ_SEED say otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fuzz import KINDS

NEEDED = {"safetensors": "safetensors", "onnx": "onnx2torch", "yaml": "yaml"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused(kind, tmp_path):
    if kind in NEEDED:
        pytest.importorskip(NEEDED[kind])
    seconds, seed = os.environ.get("THINICE_FUZZ_SECONDS", "4"), os.environ.get("THINICE_FUZZ_SEED", "0")
    arguments = [kind, "--seconds", seconds, "--seed", seed, "--folder", str(tmp_path)]
    done = subprocess.run(  # a crash must not take the other tests with it
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
