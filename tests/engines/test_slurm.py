"""An array of jobs, as the README has it, on a real Slurm of one node: its parts, merged, are the whole to the bit."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

import thinice
from tests.analysis.test_shards import ALL
from tests.engines.slurm import missing, one_node_slurm
from tests.test_readme import block

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "there is a Slurm"),
]
SEARCH = "--limit 20 --attack fmn --effort quick --batch-size 5"
HERE = {
    "--batch-size 32": SEARCH,
    "1-64 -c 4": "1-4 -c 1",
    "--workers 4 ": "",
    "/64": "/4",
    "sbatch ": "sbatch --wait ",
}
"""What is replaced in the README's commands, so that they take seconds."""


@pytest.fixture(scope="module")
def environment():
    with one_node_slurm() as slurm:
        yield slurm | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.fixture
def shell(environment, tmp_path):
    """Run lines of bash in a folder with two networks, and return what came of it."""
    for name, path in {"dense": "dense", "pruned": "pruned-95"}.items():
        (tmp_path / f"{name}.pt").symlink_to(thinice.example_checkpoints()[path])
    thinice_command = f'thinice() {{ {shlex.quote(sys.executable)} -m thinice "$@"; }}; export -f thinice\n'

    def run(script):
        return subprocess.run(
            ["bash", "-c", thinice_command + script],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
        )

    return run


def test_the_readmes_array_of_jobs_is_the_whole_to_the_bit(shell, tmp_path):
    script = block("slurm")
    for here, there in HERE.items():
        assert here in script
        script = script.replace(here, there)
    jobs, merge, compare, *rest = script.partition("thinice merge")[0], *script.splitlines()[-2:]
    assert not rest
    first = shell(jobs.replace("sbatch --wait", "sbatch --wait -a 1,2,4"))
    assert first.returncode == 0, first.stderr + "".join(log.read_text() for log in tmp_path.glob("slurm-*"))
    lacking = shell(merge)
    assert lacking.returncode == 1
    assert "15 of 20 samples; missing: shard 3/4" in lacking.stderr
    assert shell("sbatch --wait -a 3 job.sh").returncode == 0
    merged = shell(f"{merge}\n{compare} --format json --no-figures")
    assert merged.returncode == 0, merged.stderr
    whole = shell(f"thinice compare dense.pt pruned.pt {SEARCH} --format json --no-figures")
    assert json.loads(merged.stdout) == json.loads(whole.stdout)
    everything, alone = (thinice.open_store(tmp_path / f"{name}.duckdb") for name in ("all", "thinice"))
    assert everything.sql(ALL).equals(alone.sql(ALL))
    assert everything.runs()["samples"].tolist() == [5, 5, 5, 5, 0]  # nothing was measured again
