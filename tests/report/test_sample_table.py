"""The samples with their pictures in one Parquet file: what it holds is what was measured, to the pixel."""

from __future__ import annotations

import hashlib
import io

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import thinice
from tests.truth import Threshold, grey
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.report.sample_table import export_samples
from thinice.store import open_store

OPTIONS = {"attack": "fmn", "steps": 4, "progress": False}


@pytest.fixture(scope="module")
def samples():
    return thinice.load_samples("digits", limit=100)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, samples):
    """Two prunings of one measurement, and the store that holds them."""
    paths, store = thinice.example_checkpoints(), tmp_path_factory.mktemp("samples") / "thinice.duckdb"
    pruned = [paths["pruned-90"], paths["pruned-95"]]
    return thinice.compare_all(paths["dense"], pruned, samples, store=store, **OPTIONS), store


@pytest.fixture(scope="module")
def table(compared, tmp_path_factory):
    file, notes = export_samples(compared[1], tmp_path_factory.mktemp("file") / "samples.parquet")
    assert notes == ()
    return pd.read_parquet(file)


def picture(cell):
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


@pytest.mark.slow
def test_rows_are_those_of_the_comparisons(compared, table):
    comparisons, _ = compared
    assert len(table) == 200
    for comparison in comparisons:
        mine = table[table["pruned"] == comparison.pruned].reset_index(drop=True)
        frame = comparison.frame().sort_values("sample_id").reset_index(drop=True)
        for name in ("sample_id", "label", "dense_prediction", "pruned_prediction", "transition", "outcome"):
            assert mine[name].tolist() == frame[name].tolist(), name
        np.testing.assert_array_equal(mine["epsilon"].to_numpy(), frame["epsilon"].to_numpy())
        order = np.argsort(comparison.sample_ids)
        for name, column in (("margin", "margins"), ("confidence", "confidences"), ("loss", "losses")):
            np.testing.assert_allclose(mine[name], getattr(comparison, column)[order])
        np.testing.assert_array_equal(mine[["x", "y"]], mine[["epsilon", "margin"]])


def test_pictures_are_the_samples_to_the_pixel(table, samples):
    positions = {number: place for place, number in enumerate(samples.sample_ids.tolist())}
    for row in table.iloc[::17].itertuples():
        inputs = samples.inputs[[positions[row.sample_id]]][0].numpy()
        np.testing.assert_array_equal(picture(row.image), np.round(inputs[0] * 255))
        assert row.image["path"] == f"digits-test-{row.sample_id}.png"
        assert row.sha512 == hashlib.sha512(inputs.astype("<f4").tobytes()).hexdigest()


def test_adversarials_are_those_of_the_store(compared, table):
    _, store = compared
    kept = open_store(store).adversarials(1, table["sample_id"])
    found = table.drop_duplicates("sample_id").set_index("sample_id")["adversarial"]
    assert set(found.dropna().index) == set(kept) != set()
    for number, adversarial in list(kept.items())[::9]:
        np.testing.assert_array_equal(picture(found[number]), np.round(adversarial[0] * 255))


def test_it_is_laid_out_as_viewers_want_it(compared, tmp_path):
    """A struct of bytes and path, which Hugging Face's data sets read as an image."""
    file, _ = export_samples(compared[1], tmp_path / "samples.parquet")
    kinds = dict(duckdb.sql(f"select column_name, column_type from (describe from '{file}')").fetchall())
    assert (
        kinds["image"].replace('"', "") == kinds["adversarial"].replace('"', "") == "STRUCT(bytes BLOB, path VARCHAR)"
    )
    assert kinds["sample_id"] == "BIGINT"


@pytest.mark.slow
def test_where_the_data_are_gone_rows_stay_and_a_note_says_why(tmp_path):
    networks = [as_classifier(Threshold(threshold), name=f"../{threshold}") for threshold in (0.5, 0.6)]
    thinice.compare(*networks, grey(), store=tmp_path / "thinice.duckdb", **OPTIONS)
    file, (note,) = export_samples(tmp_path / "thinice.duckdb", tmp_path / "samples.parquet")
    rows = pd.read_parquet(file)
    assert note.startswith("No pictures: ")
    assert len(rows) == 8
    assert rows["image"].isna().all()
    assert rows["sha512"].isna().all()
    assert rows["adversarial"].notna().sum() == 7
    names = [cell["path"] for cell in rows["adversarial"].dropna()]
    assert len(set(names)) == 7
    assert not [name for name in names if "/" in name or name.startswith(".")]
    given, notes = export_samples(tmp_path / "thinice.duckdb", tmp_path / "given.parquet", samples=grey())
    assert notes == ()
    assert pd.read_parquet(given)["image"].notna().all()


@pytest.mark.slow
def test_files_are_not_replaced_unasked_nor_empty_stores_exported(compared, tmp_path):
    (tmp_path / "samples.parquet").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_samples(compared[1], tmp_path / "samples.parquet")
    export_samples(compared[1], tmp_path / "samples.parquet", overwrite=True)
    assert len(pd.read_parquet(tmp_path / "samples.parquet")) == 200
    open_store(tmp_path / "empty.duckdb", new=True)
    with pytest.raises(InputError, match="no comparison"):
        export_samples(tmp_path / "empty.duckdb", tmp_path / "none.parquet")
