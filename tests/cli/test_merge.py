"""`thinice compare --shard` and `thinice merge`: parts that become a comparison."""

from __future__ import annotations

import pytest

import thinice

OPTIONS = ("--limit", 20, "--attack", "fmn", "--effort", "quick", "--batch-size", 5)


@pytest.fixture
def networks():
    paths = thinice.example_checkpoints()
    return paths["dense"], paths["pruned-95"]


def test_shards_are_merged_and_then_compared(run, networks):
    for shard in ("1/2", "2/2"):
        code, out, err = run("compare", *networks, *OPTIONS, "--shard", shard, "--store", f"{shard[0]}.duckdb")
        assert code == 0, err
        assert "samples         10" in out
        assert f"shard {shard} is in {shard[0]}.duckdb" in err
    code, _, err = run("merge", "all.duckdb", "1.duckdb")
    assert code == 1
    assert "thinice: dense, linf, fmn: 10 of 20 samples; missing: shard 2/2\n" in err
    code, out, err = run("merge", "all.duckdb", "1.duckdb", "2.duckdb")
    assert (code, out) == (0, "")
    assert err.startswith("2 parts in all.duckdb; comparisons are made there: the compare command without --shard")
    code, out, _ = run("compare", *networks, *OPTIONS, "--store", "all.duckdb", "--no-figures", "--quiet")
    assert code == 0
    assert "20 samples of digits" in out
    assert thinice.open_store("all.duckdb").runs()["samples"].tolist() == [10, 10, 0]


def test_one_line_for_what_cannot_be(run, networks):
    code, _, err = run("compare", *networks, *OPTIONS, "--shard", "1/9")
    assert (code, err.count("\n")) == (1, 2)  # the first tells the selection
    assert "`shard` 1/9: 20 samples are 4 batches of 5" in err
    code, _, err = run(
        "compare", *networks, "--basis", "robust", "--budget", "8/255", "--robust-by", "pgd", "--shard", "1/2"
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "`--robust-by` is not measured in shards" in err
    assert "there is no store at" in run("merge", "all.duckdb", "none.duckdb")[2]


def test_for_a_part_that_is_not_there_no_store_is_made(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("merge", "all.duckdb", "nothing.duckdb")
    assert code == 1
    assert err.endswith("nothing.duckdb: `thinice measure … --shard I/N --store "
                        f"{tmp_path / 'nothing.duckdb'}` makes a part\n")  # fmt: skip
    assert not list(tmp_path.iterdir())
