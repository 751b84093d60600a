"""`thinice runs`: what a run was, and whether the same comes out of it again."""

from __future__ import annotations

import json
import shutil

import duckdb
import numpy as np
import pytest
import torch

import thinice
from thinice.models import load_classifier, save_classifier

MEASURE = ("--limit", "12", "--attack", "fmn", "--steps", "5", "--quiet")


@pytest.fixture
def measured_here(run, tmp_path):
    """A folder with a network, its samples and the store of ``thinice measure`` there."""
    shutil.copy(thinice.example_checkpoints()["dense"], tmp_path / "net.pt")
    code, _, err = run("measure", "net.pt", *MEASURE)
    assert code == 0, err
    return tmp_path


def recorded(folder):
    return thinice.open_store(folder / "thinice.duckdb").run_record(1)


def refused(run, *words):
    """Return the one line with which a command is refused."""
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("thinice: ")
    assert err.count("\n") == 1
    return err


def change(folder, statement, name="thinice.duckdb"):
    with duckdb.connect(folder / name) as connection:
        connection.execute(statement)


def test_a_run_says_all_that_is_needed_to_repeat_it(run, measured_here):
    code, out, err = run("runs", "show", "1", "--format", "json")
    assert (code, err) == (0, "")
    (record,) = json.loads(out)
    assert record["command"] == ["thinice", "measure", "net.pt", *MEASURE]
    assert record["folder"] == str(measured_here)
    dense = load_classifier(measured_here / "net.pt")
    (network,) = record["networks"]
    assert network == {
        "name": "net",
        "path": str(measured_here / "net.pt"),
        "fingerprint": dense.fingerprint,
        "architecture": dense.architecture,
        "sparsity": 0.0,
    }
    samples = thinice.load_samples("digits", limit=12)
    assert record["data"] == {"name": "digits", "split": "test", "samples": 12, "fingerprint": samples.fingerprint}
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["settings"]["steps"] == 5
    assert (record["device"], record["precision"], record["seed"]) == ("cpu", "float32", 0)
    assert (record["threads"], record["engine"], record["batch_size"]) == (torch.get_num_threads(), "local", 512)
    assert record["deterministic"] is False
    assert record["stored"] == [
        {"what": "epsilons", "network": "net", "attack": "fmn", "norm": "linf", "samples": 12},
    ]


@pytest.mark.usefixtures("measured_here")
def test_people_read_the_same(run):
    _, out, _ = run("runs", "show", "1")
    for word in ("thinice measure net.pt", "threads", "batch_size", "fingerprint", "epsilons", "steps 5"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 300
    _, table, _ = run("runs", "show", "1", "--format", "csv")
    assert table.startswith("what,run\nrun_id,1\n")
    _, listed, _ = run("runs", "list", "--format", "json")
    assert [row["run_id"] for row in json.loads(listed)] == [1]


@pytest.mark.usefixtures("measured_here")
def test_what_was_read_from_the_store_names_its_networks_too(run):
    run("measure", "net.pt", *MEASURE, "--deterministic", "--batch-size", "4", "--workers", "1")
    record = thinice.open_store().run_record(2)
    assert [network["name"] for network in record["networks"]] == ["net"]
    assert record["stored"] == []
    assert record["deterministic"] is True
    assert (record["engine"], record["workers"], record["batch_size"]) == ("processes", 1, 4)


def test_a_run_that_is_not_there(run, measured_here):
    assert "`run_id` 7 is no run of" in refused(run, "runs", "show", "7")
    assert "its runs are 1 to 1" in refused(run, "runs", "repeat", "7")
    assert recorded(measured_here)["outcome"] == "finished"


@pytest.mark.slow
def test_a_run_comes_out_the_same_again(run, measured_here):
    network = load_classifier(measured_here / "net.pt")
    (measured_here / "net.pt").unlink()
    save_classifier(network, measured_here / "net.pt")  # another file, the same network
    before = (measured_here / "thinice.duckdb").read_bytes()
    code, out, err = run("runs", "repeat", "1", "--format", "json")
    assert code == 0, err
    assert json.loads(out) == [
        {"run": 1, "compared": 12, "same": 12, "rounding": 0, "different": 0, "differences": []},
    ]
    assert (measured_here / "thinice.duckdb").read_bytes() == before
    assert sorted(entry.name for entry in measured_here.iterdir()) == ["net.pt", "thinice.duckdb"]


@pytest.mark.slow
def test_compare_and_evaluate_come_out_the_same_again(run):
    paths = thinice.example_checkpoints()
    run("compare", paths["dense"], paths["pruned-95"], *MEASURE, "--distances", "both", "--no-figures")
    evaluate = ("evaluate", paths["pruned-95"], "--budget", "0.1", "--limit", "12", "--attack", "pgd", "--no-checks")
    run(*evaluate, "--skip-known", "off", "--quiet")
    for run_id, compared in ((1, 4 * 12), (2, 12)):
        code, out, err = run("runs", "repeat", run_id, "--format", "json")
        assert code == 0, err
        (summary,) = json.loads(out)
        assert summary["same"] == summary["compared"] >= compared


def test_a_repetition_draws_no_figures(run, measured_here, monkeypatch):
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda words, **_: started.append(words) or pytest.skip("never run"))
    change(measured_here, "update runs set command = ['thinice', 'demo', '--figures', '/etc', '--store', '/etc/a']")
    with pytest.raises(pytest.skip.Exception):
        run("runs", "repeat", "1")
    (words,) = started
    assert words[1:9] == ["-P", "-m", "thinice", "demo", "--figures", "/etc", "--store", "/etc/a"]
    assert words[9:11] == ["--no-figures", "--store"]
    assert words[11].endswith("thinice.duckdb")
    assert words[11] != str(measured_here / "thinice.duckdb")


@pytest.mark.slow
def test_a_difference_is_told_sample_by_sample(run, measured_here):
    epsilons = thinice.open_store().sql("select sample_id, epsilon from epsilons where epsilon > 0 order by all")
    one, other, third = epsilons["sample_id"][:3]
    change(measured_here, f"update epsilons set epsilon = epsilon * 1.00001 where sample_id = {one}")
    change(measured_here, f"update epsilons set epsilon = epsilon * 1.01 where sample_id = {other}")
    change(measured_here, f"update epsilons set outcome = 'not_found', epsilon = null where sample_id = {third}")
    code, out, _ = run("runs", "repeat", "1", "--format", "json")
    assert code == 1
    (summary,) = json.loads(out)
    assert {name: summary[name] for name in ("compared", "same", "rounding", "different")} == {
        "compared": 12,
        "same": 9,
        "rounding": 1,
        "different": 2,
    }
    rows = {row["sample_id"]: row for row in summary["differences"]}
    assert rows.keys() == {other, third}
    assert (rows[third]["outcome"], rows[third]["outcome_again"]) == ("not_found", "found")
    assert rows[other]["epsilon"] == pytest.approx(1.01 * rows[other]["epsilon_again"], rel=1e-5)


def test_another_store_is_compared_where_the_command_was_repeated_by_hand(run, measured_here):
    shutil.copy(measured_here / "thinice.duckdb", measured_here / "again.duckdb")
    code, out, _ = run("runs", "repeat", "1", "--repeated", "again.duckdb", "--format", "json")
    assert (code, json.loads(out)[0]["same"]) == (0, 12)
    change(measured_here, "update epsilons set epsilon = epsilon * 1.002 where epsilon > 0", "again.duckdb")
    changed = len(thinice.open_store("again.duckdb").sql("from epsilons where epsilon > 0"))
    code, out, _ = run("runs", "repeat", "1", "--repeated", "again.duckdb", "--format", "json")
    (summary,) = json.loads(out)
    assert (code, summary["different"], len(summary["differences"])) == (1, changed, changed)
    assert run("runs", "repeat", "1", "--repeated", "again.duckdb", "--tolerance", "0.01", "--quiet")[0] == 0
    code, out, _ = run("runs", "repeat", "1", "--repeated", "again.duckdb")
    assert "outcome_again" in out


def test_a_checkpoint_that_is_gone(run, measured_here):
    fingerprint = recorded(measured_here)["networks"][0]["fingerprint"]
    (measured_here / "net.pt").unlink()
    line = refused(run, "runs", "repeat", "1")
    assert f"{measured_here / 'net.pt'}, of which it read net (fingerprint {fingerprint}), is gone" in line


@pytest.mark.slow
def test_a_checkpoint_that_is_another(run, measured_here):
    shutil.copy(thinice.example_checkpoints()["pruned-90"], measured_here / "net.pt")
    line = refused(run, "runs", "repeat", "1")
    assert f"has the fingerprint {load_classifier(measured_here / 'net.pt').fingerprint} now" in line
    assert f"had {recorded(measured_here)['networks'][0]['fingerprint']} then" in line


@pytest.mark.slow
def test_data_that_are_gone_or_others(run, tmp_path):
    shutil.copy(thinice.example_checkpoints()["dense"], tmp_path / "net.pt")
    samples = thinice.load_samples("digits", limit=12)
    images, labels = samples.inputs[:].numpy(), samples.labels.numpy()
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    code, _, err = run("measure", "net.pt", "--data", "npz:data.npz", *MEASURE)
    assert code == 0, err
    images[0, 0, 0, 0] = 1 - images[0, 0, 0, 0]
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    changed, line = thinice.load_samples(f"npz:{tmp_path / 'data.npz'}", limit=12), refused(run, "runs", "repeat", "1")
    assert f"have the fingerprint {changed.fingerprint} now" in line
    assert f"had {recorded(tmp_path)['data']['fingerprint']} then" in line
    (tmp_path / "data.npz").unlink()
    assert "its command ended with: " in (line := refused(run, "runs", "repeat", "1"))
    assert "data.npz" in line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["rm", "-rf", "folder"], "is of a program, rm, not of the thinice command"),
        (["/home/a/train.py", "compare"], "is of a program, /home/a/train.py"),
        (["thinice"], "is of thinice no command"),
        (["thinice", "train", "-o", "a.pt"], "is of thinice train, which writes more than a store"),
        (["/usr/bin/thinice", "measure", "net.pt", "--trust-pickle"], "says --trust-pickle, which may run code"),
        (["thinice", "measure", "net.pt", "--architecture", "my.py:Net"], "says --architecture=my.py:Net"),
        (["thinice", "measure", "net.pt", "--architecture=os:abort"], "says --architecture=os:abort"),
        (["thinice", "measure", "net.pt", "--engine", "ray", "--address", "10.0.0.1:6379"], "says --address"),
        (["thinice", "measure", "net.pt", "--engine=ray", "--address=10.0.0.1:6379"], "says --address"),
        (["thinice", "measure", "net.pt", "--engine", "slurm", "--workers", "9"], "says --engine=slurm"),
        (["thinice", "measure", "net.pt", "--slurm=account=yours", "--engine=slurm"], "says --slurm"),
        (["thinice", "measure", "net.pt", "--jobs", "/tmp/mine"], "says --jobs"),
        (["thinice", "measure", "net.pt", "--store", "mine.duckdb", "--"], "has -- in its command"),
    ],
)
def test_commands_of_strangers_are_not_run(run, measured_here, monkeypatch, command, said):
    monkeypatch.setattr("subprocess.Popen", None)  # nothing is started
    words = ", ".join(f"'{word}'" for word in command)
    change(measured_here, f"update runs set command = [{words}]")
    assert said in refused(run, "runs", "repeat", "1")


def test_a_run_that_was_not_recorded_so_closely(run, measured_here):
    change(measured_here, "update run_conditions set folder = '/nowhere/at/all'")
    assert "the folder /nowhere/at/all in which it was started is gone" in refused(run, "runs", "repeat", "1")
    change(measured_here, "delete from run_conditions; delete from run_networks")
    record = recorded(measured_here)
    assert (record["folder"], record["data"], record["threads"]) == (None, None, None)
    assert [network["name"] for network in record["networks"]] == ["net"]  # its rows say so
    assert "an earlier thinice recorded it" in refused(run, "runs", "repeat", "1")
