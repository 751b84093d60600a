"""Results of ada-verona: read with care, stored as claims, shown beside what was found, and refuted by it."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch
from torch import nn

import thinice
from thinice.certification.ada_verona import read_results
from thinice.errors import DataError, InputError

HEAD = ",network,image_id,original_label,tmp_path,epsilon_value,smallest_sat_value,total_time,verifier\n"


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    return thinice.as_classifier(layers, name="net")


@pytest.fixture(scope="module")
def samples():
    torch.manual_seed(1)
    inputs = torch.rand(12, 1, 4, 4)
    with torch.no_grad():
        return thinice.as_samples(inputs, network()(inputs).argmax(1), classes=("a", "b", "c"))


@pytest.fixture
def results(tmp_path, samples):
    """Write a file of results; returns its path."""

    def written(*rows, head=HEAD):
        lines = [
            f"{k},{net},{i},{samples.labels[i] if label is None else label},/tmp/x,{low},{high},12.5,{verifier}"
            for k, (net, i, label, low, high, verifier) in enumerate(rows)
        ]
        path = tmp_path / "result_df.csv"
        path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return written


@pytest.mark.slow
def test_claims_stand_beside_what_was_found_and_are_refuted_by_it(results, samples, tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    options = {"certify": True, "effort": "quick", "store": store, "progress": False}
    (measured,) = thinice.measure_all([network()], samples, **options)
    epsilon, lower = measured.epsilon, measured.epsilon_lower
    path = results(
        ("net", 2, None, 0.9 * epsilon[2], 1.2 * epsilon[2], "abcrown"),
        ("net", 5, None, 1.1 * epsilon[5], 1.2 * epsilon[5], "abcrown"),
        ("net", 7, None, 0.0, 0.5 * lower[7], "abcrown"),
        ("net", 2, None, 0.0, "", "nnenum"),
    )
    table = thinice.import_claims(path, network(), samples, store=store)
    assert list(zip(table["sample_id"], table["verifier"], strict=True)) == [
        (2, "abcrown"), (2, "nnenum"), (5, "abcrown"), (7, "abcrown")
    ]  # fmt: skip
    assert table["lower_refuted"].tolist() == [False, False, True, False]
    assert table["upper_refuted"].astype(object).fillna("?").tolist() == [False, "?", False, True]
    nearest = np.fmin(epsilon, measured.second_epsilon)  # of both searches, where the first was doubted
    np.testing.assert_allclose(table["epsilon"], nearest[[2, 2, 5, 7]])
    np.testing.assert_allclose(table["epsilon_lower"], lower[[2, 2, 5, 7]])
    (finding,) = thinice.check(store).contradictions
    assert finding.subjects[0] == "claims of abcrown"
    assert finding.subjects[1].startswith("tmn, ")  # with its settings, for sample 7 was searched by others too
    assert finding.samples == (5,)
    assert store.runs()["outcome"].tolist() == ["finished", "finished"]
    (again,) = thinice.measure_all([network()], samples, **options)  # what is claimed changes nothing
    assert again.epsilon_lower.tolist() == lower.tolist()


@pytest.mark.slow
def test_intervals_are_written_as_ada_verona_writes_them(samples, tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    (measured,) = thinice.measure_all([network()], samples, certify=True, effort="quick", store=store, progress=False)
    thinice.measure_all([network()], samples, norm="l2", certify=True, effort="quick", store=store, progress=False)
    store.export(tmp_path / "result_df.csv", what="ada_verona")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "result_df.csv").read_text())))
    assert {*HEAD.strip().split(",")[1:]} - {*rows[0]} == {"tmp_path"}
    assert [float(row["epsilon_value"]) for row in rows] == pytest.approx(measured.epsilon_lower.tolist())
    (claim,) = read_results(tmp_path / "result_df.csv")
    assert (claim.network, claim.verifier) == ("net", "thinice")
    assert claim.sample_ids.tolist() == list(range(12))
    nearest = np.fmin(measured.epsilon, measured.second_epsilon)  # of both searches, where the first was doubted
    np.testing.assert_allclose(claim.upper, nearest, rtol=1e-6)
    assert np.isnan(claim.seconds).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("net", 99, 0, 0.1, 0.2, "v"), "`samples` has no sample 99, of which v claims something: take the data set"),
        (("net", 2, 7, 0.1, 0.2, "v"), r"`samples` gives sample 2 the label \d, the file 7: the data sets differ"),
        (("net", "mnist_2.pt", 0, 0.1, 0.2, "v"), "line 2: `image_id` must be a whole number, the index in the data"),
        (("net", 2, None, "nan", 0.2, "v"), "line 2: `epsilon_value` must be a number of at least 0, got 'nan'"),
        (("net", 2, None, -1, 0.2, "v"), "line 2: `epsilon_value` must be a number of at least 0, got '-1'"),
        (("net", 2, None, 0.1, "much", "v"), "line 2: `smallest_sat_value` must be a number of at least 0, got 'much'"),
        (("net", 10**30, 0, 0.1, 0.2, "v"), "line 2: `image_id` must be a whole number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_nothing_is_stored(results, samples, tmp_path, row, message):
    with pytest.raises((InputError, DataError), match=message):
        thinice.import_claims(results(row), network(), samples, store=tmp_path / "thinice.duckdb")
    if (tmp_path / "thinice.duckdb").exists():
        assert thinice.open_store(tmp_path / "thinice.duckdb").sql("from claims").empty


def test_one_network_of_several_is_chosen_by_its_name(results, samples, tmp_path):
    path = results(("one", 2, None, 0.1, 0.2, "v"), ("two", 3, None, 0.1, 0.2, "v"))
    with pytest.raises(InputError, match="`network` must be one of the file's networks, got None: one, two"):
        thinice.import_claims(path, network(), samples, store=tmp_path / "thinice.duckdb")
    table = thinice.import_claims(path, network(), samples, network="two", store=tmp_path / "thinice.duckdb")
    assert table["sample_id"].tolist() == [3]


def test_files_that_are_no_results_are_refused(results, tmp_path):
    other = tmp_path / "other.csv"
    for content, message in (
        (b"a,b\n1,2\n", "is no result of ada-verona: it has no column image_id"),
        (b"", "is no result of ada-verona"),
        (b"image_id,original_label,epsilon_value\n\xff\xfe,1,2\n", "is no CSV file"),
        (b'image_id,original_label,epsilon_value\n"' + b"x" * 200_000, "is no CSV file"),
        (b"image_id,original_label,epsilon_value\n1\n", "line 2: `original_label` must be a whole number"),
    ):
        other.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_results(other)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_results(tmp_path / "none.csv")
    with pytest.raises(DataError, match="has image 2 of net by v twice"):
        read_results(results(("net", 2, 0, 0.1, 0.2, "v"), ("net", 2, 0, 0.1, 0.2, "v")))
