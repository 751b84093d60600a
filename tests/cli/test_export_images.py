"""`thinice export samples.parquet --what samples --images`."""

from __future__ import annotations

import pandas as pd
import pytest


@pytest.mark.usefixtures("measured")
def test_samples_go_out_with_their_pictures_or_as_the_table_they_are(run):
    code, out, err = run("export", "samples.parquet", "--what", "samples", "--images")
    assert (code, out.strip(), err) == (0, "samples.parquet", "")
    rows = pd.read_parquet("samples.parquet")
    assert len(rows) == 80
    assert rows["image"].notna().all()
    code, _, _ = run("export", "plain.parquet", "--what", "samples")
    assert code == 0
    assert "digest" in pd.read_parquet("plain.parquet").columns


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("samples.csv", "--what", "samples", "--images"), "`--images` is for samples in Parquet"),
        (("samples.parquet", "--images"), "`--images` is for samples in Parquet"),
        (("other.parquet", "--what", "transitions", "--images"), "`--images` is for samples in Parquet"),
        (("other.parquet", "--what", "samples", "--data", "digits"), "`--data` says where pictures are"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, words, message):
    code, out, err = run("export", *words)
    assert (code, out) == (1, "")
    assert message in err
