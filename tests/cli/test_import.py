"""`thinice import` and the export that it reads: claims beside what was found, one line for what cannot be read."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

import thinice
from thinice.certification import ada_verona

HEAD = "network,image_id,original_label,epsilon_value,smallest_sat_value,total_time,verifier\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A linear network for the digits, and a store with its intervals on 12 of them."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    samples = thinice.load_samples("digits", split="train")
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(samples.inputs[:]), samples.labels).backward()
        optimizer.step()
    (folder / "net.py").write_text(
        "from torch import nn\n\ndef Linear():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    torch.save(module.state_dict(), folder / "linear.pt")
    classifier = thinice.load_classifier(
        folder / "linear.pt", architecture=f"{folder / 'net.py'}:Linear", normalization="none"
    )
    some = thinice.load_samples("digits", limit=12)
    options = {"certify": True, "effort": "quick", "progress": False, "store": folder / "thinice.duckdb"}
    thinice.measure_all([classifier], some, **options)
    return folder


@pytest.fixture
def words(checkpoint, tmp_path):
    """A copy of the store where the command looks for it; the words behind the file's name."""
    shutil.copy(checkpoint / "thinice.duckdb", tmp_path)
    options = ["--architecture", f"{checkpoint / 'net.py'}:Linear", "--normalization", "none", "--data", "digits"]
    return checkpoint / "linear.pt", *options


def test_claims_are_held_against_what_was_measured_on_fewer_samples(run, words, tmp_path):
    found = thinice.open_store(tmp_path / "thinice.duckdb").sql("from intervals where epsilon > 0 order by sample_id")
    (first, second, *_), (label, other, *_) = found["sample_id"].tolist(), found["label"].tolist()
    epsilon, lower = found["epsilon"][0], found["epsilon_lower"][1]
    samples = thinice.load_samples("digits")
    far, far_id = samples.labels[200].item(), samples.sample_ids[200].item()  # was not measured
    (tmp_path / "result_df.csv").write_text(
        HEAD + f"net,{first},{label},{1.5 * epsilon},{2 * epsilon},3,abcrown\n"
        f"net,{second},{other},0,{0.5 * lower},3,abcrown\nnet,{far_id},{far},0.01,,,nnenum\n"
    )
    code, out, err = run("import", "result_df.csv", *words, "--format", "json")
    assert code == 0, err
    assert json.loads(out) == [
        {"network": "linear", "verifier": "abcrown", "claims": 2, "radius_above_0": 1, "held_against_epsilon": 2,
         "lower_refuted": 1, "held_against_proof": 2, "upper_refuted": 1},
        {"network": "linear", "verifier": "nnenum", "claims": 1, "radius_above_0": 1, "held_against_epsilon": 0,
         "lower_refuted": 0, "held_against_proof": 0, "upper_refuted": 0},
    ]  # fmt: skip
    assert f"warning: abcrown: an adversarial lies within the claimed radius of sample {first}\n" in err
    assert "thinice sql 'from claims'" in err
    assert "Traceback" not in err


def test_what_is_exported_can_be_read_again_and_refutes_nothing(run, words, tmp_path):
    code, _, err = run("export", "result_df.csv", "--what", "ada_verona")
    assert code == 0, err
    (tmp_path / "thinice.duckdb").unlink()
    code, out, err = run("import", "result_df.csv", *words, "--limit", "12", "--format", "json", "--network", "linear")
    assert code == 0, err
    assert "has no adversarial of these samples yet" in err
    (row,) = json.loads(out)
    assert (row["verifier"], row["claims"], row["lower_refuted"]) == ("thinice", 12, 0)


def test_a_second_attack_and_selection_make_no_second_row_of_a_sample(run, words, tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb")
    classifier = thinice.load_classifier(words[0], architecture=words[2], normalization="none")
    options = {"certify": True, "attack": "fmn", "steps": 10, "progress": False, "store": store}
    thinice.measure_all([classifier], thinice.load_samples("digits", limit=14), **options)
    assert len(store.sql("from intervals")) == 12 + 14
    code, _, err = run("export", "result_df.csv", "--what", "ada_verona")
    assert code == 0, err
    (claim,) = ada_verona.read_results(tmp_path / "result_df.csv")
    assert len(claim.sample_ids) == 14
    nearest = store.sql("select min(epsilon) as epsilon from intervals group by sample_id order by sample_id")
    assert claim.upper.tolist() == pytest.approx(nearest["epsilon"].tolist())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "is no result of ada-verona: it has no column image_id"),
        ("image_id,image_id,original_label,epsilon_value\n1,2,3,4\n", "it has 2 columns image_id"),
        (HEAD, "holds no result: there is no row below its first line"),
        (HEAD + "n,1,2,nan,,,v\n", "line 2: `epsilon_value` must be a number of at least 0, got 'nan'"),
        (HEAD + "n,1,2,1e999,,,v\n", "line 2: `epsilon_value` must be a number of at least 0, got '1e999'"),
        (HEAD + "n,1,2,0,,,v\nn,1,2,0,,,v\n", "has image 1 of n by v twice"),
        (HEAD + "n,99999,2,0,,,\x1b[2Jv\n", r"`samples` has no sample 99999, of which \x1b[2Jv claims something"),
        (HEAD + "".join(f"n{k},1,2,0,,,v\n" for k in range(900)), "must be one of the file's networks, got None: n0, "),
        (HEAD + "".join(f"n,1,2,0,,,v{k}\n" for k in range(1001)), "`network` and `verifier` have more than 1000"),
        (HEAD + "n,1", "line 2: `original_label` must be a whole number"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told_in_one_line(run, words, tmp_path, content, message):
    (tmp_path / "result_df.csv").write_text(content)
    code, out, err = run("import", "result_df.csv", *words)
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("thinice: ")]
    assert message in line
    assert len(line) < 1100
    assert "Traceback" not in err


def test_what_is_no_file_or_a_huge_one_is_not_read(run, words, tmp_path, monkeypatch):
    code, _, err = run("import", "/dev/zero", *words)
    assert (code, "/dev/zero is no file: give the CSV file of results" in err) == (1, True)
    monkeypatch.setattr(ada_verona, "LARGEST", 2**20)
    (tmp_path / "result_df.csv").write_bytes(b"x" * (2**20 + 1))
    code, _, err = run("import", "result_df.csv", *words)
    assert (code, "result_df.csv has 1 MiB: results of up to 1 MiB are read" in err) == (1, True)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "result_df.csv"
    path.write_text("image_id,original_label,epsilon_value\n3,1,0.5\n", encoding="utf-8-sig")
    (claim,) = ada_verona.read_results(path)
    assert claim.sample_ids.tolist() == [3]
