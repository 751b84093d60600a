"""The page as text: what it says, what it asks for, what strangers' names can do to it, and what it weighs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import duckdb
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import thinice
from tests.report.stores import natural_images, write_store
from tests.store.conftest import COLUMNS, NO_STATISTICS, SIX, Bench
from thinice.cli import main
from thinice.errors import InputError, StoreError
from thinice.report import figures, pictures, save_report
from thinice.report.facts import read_facts
from thinice.report.sections import comparison_row
from thinice.results.comparison_text import answer
from thinice.stats import compare_predictors

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src="https://example.org/x" onerror="window.hacked = 1">',
    "line\u2028separator\u2029here",
    "\" onmouseover='window.hacked = 1'",
    "<!--<script>",
    "$style ${script} &lt;b&gt; %s",
    "]]>\\u003c/script>",
    "قط 猫 🐈",
)


MARGINS = """
select margin from predictions join comparisons on checkpoint_id = pruned_checkpoint_id
where comparison_id = $k order by sample_id
"""
KIND = {"http-equiv": "Content-Security-Policy"}


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.found, self.raw = [("", {})], [""]
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.raw.append("")

    def handle_endtag(self, tag):
        self.found.append((f"/{tag}", {}))
        self.raw.append("")

    def handle_data(self, data):
        self.raw[-1] += data

    def of(self, tag):
        return [
            (attributes, text) for (name, attributes), text in zip(self.found, self.raw, strict=True) if name == tag
        ]


def payload(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module")
def counted(tmp_path_factory, empty):
    """A store with the six samples of the store's own tests, whose answers are counted by hand."""
    column = dict(zip(COLUMNS, map(np.array, zip(*SIX, strict=True)), strict=True))
    store = thinice.open_store(shutil.copy(empty, tmp_path_factory.mktemp("counted") / "six.duckdb"))
    with store.run(["thinice", "compare"], device="cpu", seed=0) as run:
        bench = Bench(run)
        ids, data = column["sample_id"], bench.dataset(column["sample_id"], column["label"])
        measurement = run.measurement(bench.checkpoint("dense"), data, bench.attack(steps=100))
        run.add_epsilons(
            measurement,
            ids,
            epsilon=column["epsilon"],
            outcomes=column["outcome"],
            predictions=column["far"],
            clean_predictions=column["dense"],
            evaluations=np.full(6, 100.0),
            adversarials={12: np.linspace(0, 1, 4).reshape(1, 2, 2)},
        )
        pruned = bench.checkpoint("pruned", sparsity=0.9)
        run.add_predictions(pruned, data, ids, predictions=column["pruned"])
        comparison = run.comparison(measurement, pruned)
        run.add_statistics(comparison, **NO_STATISTICS | {"auc": 0.75, "log10_p": -400.5, "notes": ("why",)})
    return store


@pytest.fixture
def six(tmp_path, counted):
    return thinice.open_store(shutil.copy(counted.path, tmp_path / "six.duckdb"))


def hostile_store(folder):
    n = 64
    rng = np.random.default_rng(0)
    samples = thinice.as_samples(
        torch.tensor(rng.random((n, 1, 4, 4)), dtype=torch.float32), np.arange(n) % len(HOSTILE), classes=HOSTILE
    )
    samples = dataclasses.replace(
        samples, sources=tuple(f"{HOSTILE[k % 7]}/{k}.png" for k in range(n)), name=HOSTILE[1]
    )
    return write_store(folder / "hostile.duckdb", samples, pruned=HOSTILE[:3], names=(HOSTILE[0], HOSTILE[3])), samples


def test_the_page_asks_no_one_for_anything(report):
    elements = Elements(report.read_text(encoding="utf-8"))
    assert len(elements.of("img")) > 10
    for _, attributes in elements.found:
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            assert name != "style"
            if name in ("src", "srcset", "data", "action", "poster"):
                assert value.startswith("data:"), value[:80]
            if name == "href":
                assert value.startswith("#"), value[:80]
    assert {tag for tag, _ in elements.found}.isdisjoint(
        {"link", "iframe", "object", "embed", "base", "audio", "video"}
    )
    for _, text in elements.of("style"):
        assert "url(" not in text
        assert "@import" not in text


def test_the_policy_lets_this_page_run_and_nothing_else(report):
    elements = Elements(report.read_text(encoding="utf-8"))
    (policy,) = (one["content"] for one, _ in elements.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"

    def hashed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    ((_, style),) = elements.of("style")
    (script,) = (text for attributes, text in elements.of("script") if "type" not in attributes)
    assert rules["style-src"] == hashed(style)
    assert rules["script-src"] == hashed(script)
    first = [tag for tag, _ in elements.found[: elements.found.index(("meta", {"content": policy, **KIND}))]]
    assert set(first) <= {"", "html", "head", "meta"}


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_names_of_strangers_are_text(tmp_path):
    store, samples = hostile_store(tmp_path)
    page = save_report(store, tmp_path / "report.html", samples=samples).read_text(encoding="utf-8")
    for name in HOSTILE[:2]:
        assert name not in page
    elements = Elements(page)
    assert len(elements.of("script")) == 2
    assert all(attributes["src"].startswith("data:") for attributes, _ in elements.of("img"))
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    data = payload(page)
    assert tuple(data["data"][0]["classes"]) == HOSTILE
    assert data["data"][0]["sources"][1] == samples.sources[1]
    assert [one["pruned"] for one in data["comparisons"]] == list(HOSTILE[:3])
    raw = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert raw.isascii()
    assert not set("<>&") & set(raw)


def test_the_columns_are_those_of_the_store(store, report):
    data = payload(report.read_text(encoding="utf-8"))
    for number, one in enumerate(data["comparisons"], start=1):
        rows = store.sql("from transitions where comparison_id = $k order by sample_id", {"k": number})
        measured = data["measured"][one["measured"]]
        samples = data["data"][measured["data"]]
        assert samples["ids"] == rows["sample_id"].tolist()
        assert samples["labels"] == rows["label"].tolist()
        assert (
            "".join(str(["S1,1", "S1,0", "S0,1", "S0,0"].index(name)) for name in rows["transition"])
            == one["transitions"]
        )
        assert measured["predictions"] == rows["dense_prediction"].tolist()
        assert one["predictions"] == rows["pruned_prediction"].tolist()
        shown = np.array([np.nan if value is None else value for value in measured["epsilon"]])
        np.testing.assert_allclose(shown, 255 * rows["epsilon"].to_numpy(), rtol=6e-6)
        axes = {axis["name"]: axis["values"] for axis in measured["axes"] + one["axes"]}
        pruned = f"margin, {one['pruned']}"
        own = [f"epsilon, {one['pruned']}"] if number == 1 else []
        assert list(axes) == ["evaluations", "margin, dense", "confidence, dense", "loss, dense", pruned, *own]
        margins = store.sql(MARGINS, {"k": number})["margin"]
        np.testing.assert_allclose(np.array(axes[pruned]), margins, rtol=6e-4)
        for name in own:
            shown = np.array([np.nan if value is None else value for value in axes[name]])
            np.testing.assert_allclose(shown, 255 * rows["pruned_epsilon"].to_numpy(), rtol=6e-4)


def test_everything_that_repeats_it_is_there(store, report):
    elements = Elements(report.read_text(encoding="utf-8"))
    cells = {text for tag in ("td", "th") for _, text in elements.of(tag)}
    for query in (
        "select fingerprint from checkpoints",
        "select fingerprint from datasets",
        "select fingerprint from attacks",
        "select name from checkpoints",
        "select device from runs",
        "select seed::text from runs",
    ):
        assert set(store.sql(query).iloc[:, 0]) <= cells, query
    versions, settings = (
        json.loads(store.sql(f"select {name} from runs").iloc[0, 0]) for name in ("versions", "settings")
    )
    assert "torch" in versions
    for value in (*versions.values(), *settings.values()):
        assert str(value) in cells
    assert "thinice compare dense.pt pruned-90 pruned-95" in cells


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_the_answer_counts_the_six_samples(six, tmp_path):
    (one,) = read_facts(six).comparisons
    assert answer(comparison_row(one)) == (
        "pruned: AUC 0.750. It loses 2 of the 4 samples that dense has right; for a lost sample a nearer adversarial "
        "was found than for a kept one with that probability (log10 p = -400.5 by Mann-Whitney, approximate)."
    )
    page = save_report(six, tmp_path / "six.html").read_text(encoding="utf-8")
    assert payload(page)["comparisons"][0]["transitions"] == "001123"
    assert payload(page)["measured"][0]["epsilon"] == [76.5, 25.5, 12.75, None, 0, None]


@pytest.mark.slow
def test_proved_radii_stand_beside_epsilon_and_in_a_figure(six, tmp_path):
    before = save_report(six, tmp_path / "six.html").read_text(encoding="utf-8")
    assert payload(before)["measured"][0]["lower"] is None
    assert "proved, and that is found" not in before
    with six.run(["thinice"], device="cpu", seed=0) as run:
        network, data = (int(key) for key in six.sql("select checkpoint_id, dataset_id from measurements").iloc[0])
        run.add_lower_bounds(network, data, "linf", [10, 12, 14], epsilon_lower=[0.2, 0.01, 0.0])
    page = save_report(six, tmp_path / "six.html").read_text(encoding="utf-8")
    assert payload(page)["measured"][0]["lower"] == [51, None, 2.55, None, 0, None]
    assert "proved, and that is found" in page
    assert not [axis for axis in payload(page)["comparisons"][0]["axes"] if axis["name"].startswith("proved")]
    with six.run(["thinice"], device="cpu", seed=0) as run:
        pruned = int(six.sql("select pruned_checkpoint_id from comparisons").iloc[0, 0])
        run.add_lower_bounds(pruned, data, "linf", [10, 13], epsilon_lower=[0.1999999, 0.0])
    both = save_report(six, tmp_path / "six.html").read_text(encoding="utf-8")
    (proved,) = [axis for axis in payload(both)["comparisons"][0]["axes"] if axis["name"] == "proved, pruned"]
    assert proved["values"] == [50.99, None, None, 0, None, None]  # rounded down
    assert len(Elements(page).of("figure")) == len(Elements(before).of("figure")) + 1


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_a_robust_basis_is_said_and_means_robust(six, tmp_path):
    """At 0.2 two of the dense network's six samples stand, 10 and 13; the pruned one has no epsilon below it."""
    with six.run(["thinice"], device="cpu", seed=0) as run:
        bench = Bench(run)
        data = six.sql("select dataset_id from datasets").iloc[0, 0]
        dense, pruned = bench.checkpoint("dense"), bench.checkpoint("pruned")
        before = run.measurement(dense, int(data), bench.attack(steps=100))
        after = run.measurement(pruned, int(data), bench.attack(steps=100))
        column = dict(zip(COLUMNS, map(np.array, zip(*SIX, strict=True)), strict=True))
        right = column["pruned"] == column["label"]
        run.add_epsilons(
            after,
            column["sample_id"],
            epsilon=np.where(right, 0.5, 0),
            outcomes=right.astype(int),
            predictions=column["far"] * 0,
            clean_predictions=column["pruned"],
            evaluations=np.full(6, 1.0),
        )
        verdicts = {"dense_verdicts": before, "pruned_verdicts": after}
        run.comparison(before, pruned, basis="robust at 51/255, by fmn", budget=0.2, **verdicts)
    robust = read_facts(six).comparisons[1]
    assert answer(comparison_row(robust)) == (
        "pruned loses 1 of the 2 samples that dense holds at linf 51/255. The run ended before its statistics."
    )
    page = save_report(six, tmp_path / "robust.html").read_text(encoding="utf-8")
    assert "correct means robust at 51/255, by fmn" in page
    assert "All comparisons in this store" in page


@pytest.mark.usefixtures("unadorned")
@pytest.mark.slow
def test_what_speaks_against_the_numbers_is_said(six, tmp_path):
    assert 'class="warnings"' not in save_report(six, tmp_path / "calm.html").read_text(encoding="utf-8")
    seen = {"raised": True, "sample_ids": [11, 12], "of": 4, "value": None, "seen": "it <was> there", "advice": "look"}
    calm = {**seen, "raised": False, "sample_ids": [], "seen": "it was not there"}
    with six.run(["thinice", "evaluate"], device="cpu", seed=0) as run:
        run.add_findings(1, [{"check": "silent_success", **seen}, {"check": "unstable_predictions", **calm}])
        # an interval of the AUC that reaches 1/2 is a failure signature
        run.add_statistics(1, **NO_STATISTICS | {"auc": 0.55, "auc_low": 0.25, "auc_high": 0.75, "notes": ()})
    elements = Elements(save_report(six, tmp_path / "report.html").read_text(encoding="utf-8"))
    lines = [text for _, text in elements.of("li")]
    assert lines[0] == "dense, fmn in linf: silent_success, 2 of 4 samples: it <was> there; look."
    assert lines[1].startswith("no_separation, pruned: AUC 0.550 against dense on ")
    assert len(lines) == 2  # what was not raised is no warning, but it is in the table of checks
    cells = [text for tag in ("td", "th") for _, text in elements.of(tag)]
    assert {"raised", "not raised", "2 of 4", "0 of 4", "unstable_predictions"} <= set(cells)


@pytest.mark.slow
def test_whether_p_values_are_exact_is_said(six, tmp_path):
    for exact, said in ((True, "yes"), (False, "no"), (None, "—")):
        with six.run(["thinice", "compare"], device="cpu", seed=0) as run:
            run.add_statistics(1, **NO_STATISTICS, exact=exact)
        elements = Elements(save_report(six, tmp_path / "report.html").read_text(encoding="utf-8"))
        texts = [text for (tag, _), text in zip(elements.found, elements.raw, strict=True) if tag in {"th", "td"}]
        assert texts[texts.index("exact") + 1] == said


def test_the_table_of_predictors_is_that_of_the_statistics(store, report):
    frame = store.sql("from predictors where comparison_id = 1")
    wanted = compare_predictors(
        frame["lost"], {name: frame[name] for name in ("epsilon", "margin", "confidence", "loss")}
    )
    elements = Elements(report.read_text(encoding="utf-8"))
    cells = [text for _, text in elements.of("td")]
    for auc, low, high in zip(wanted.auc, wanted.low, wanted.high, strict=True):
        place = cells.index(f"{low:.3f} to {high:.3f}")
        assert cells[place - 1] == f"{auc:.3f}"


@pytest.mark.usefixtures("unadorned")
def test_others_pictures_are_never_shown(six, tmp_path):
    """The six samples say that they are digits, but the digits have no such samples in their test part."""
    page = save_report(six, tmp_path / "six.html").read_text(encoding="utf-8")
    assert "No pictures: `sample_ids` must lie in split" in page
    data = payload(page)
    assert data["data"][0]["sheet"] is None
    assert data["measured"][0]["close"]["parts"] == ["adversarial"]  # the store's own: they are what they say


@pytest.mark.usefixtures("unadorned")
def test_one_changed_pixel_is_another_sample(store, digits, tmp_path):
    inputs = digits.inputs.clone()
    inputs[7, 0, 3, 3] = 0.99
    other = thinice.as_samples(inputs, digits.labels, sample_ids=digits.sample_ids, name="digits")
    page = save_report(store, tmp_path / "report.html", samples=other).read_text(encoding="utf-8")
    assert "1 of 300 samples differ" in page
    assert payload(page)["data"][0]["sheet"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_data_that_are_gone_are_said_to_be(digits, tmp_path):
    samples = dataclasses.replace(digits, name=f"npz:{tmp_path / 'gone.npz'}")
    store = write_store(tmp_path / "thinice.duckdb", samples)
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"No pictures: .*gone\.npz", page)
    found = save_report(store, tmp_path / "report.html", samples="digits").read_text(encoding="utf-8")
    assert "No pictures" not in found
    assert payload(found)["data"][0]["sheet"]["width"] == 8
    fewer = save_report(store, tmp_path / "report.html", samples=digits[:299]).read_text(encoding="utf-8")
    assert "the samples given lack 1 of those measured" in fewer


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_photographs_are_found_in_the_size_they_were_measured_in(tmp_path):
    for k, image in enumerate(natural_images(12, 80).transpose(0, 2, 3, 1)):
        place = tmp_path / "photos" / ("cat" if k < 6 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, : 60 + k]).save(place / f"{k}.png")
    samples = thinice.load_samples(f"folder:{tmp_path / 'photos'}", image_size=48)
    store = write_store(tmp_path / "thinice.duckdb", samples, adversarials=4, norm="l2")
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No pictures" not in page
    data = payload(page)
    sheet = data["data"][0]["sheet"]
    assert (sheet["width"], sheet["height"]) == (32, 32)
    assert data["measured"][0]["close"]["width"] == 48
    assert data["measured"][0]["suffix"] == ""
    assert data["data"][0]["sources"][0] == "cat/0.png"
    Image.fromarray(natural_images(1, 80, seed=1)[0].transpose(1, 2, 0)).save(tmp_path / "photos" / "cat" / "0.png")
    again = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 12 samples differ" in again


@pytest.mark.usefixtures("unadorned")
def test_of_very_many_the_nearest_have_pictures(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST", 20)
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Only the 20 samples nearest to the boundary have a picture." in page
    data = payload(page)
    cells, epsilon = np.array(data["data"][0]["cells"]), data["measured"][0]["epsilon"]
    distances = np.array([value or np.inf for value in epsilon])  # those wrong from the start are on no ice
    lost = [np.array([code == "1" for code in one["transitions"]]) for one in data["comparisons"]]
    assert sorted(cells[cells >= 0]) == list(range(20))
    for group in (np.isfinite(distances), *lost):  # the nearest, and the nearest lost of each comparison, in turn
        nearest = np.flatnonzero(group)[np.argsort(distances[group])]
        assert (cells[nearest[:7]] >= 0).all()
        assert (cells[nearest[20:]] < 0).sum() >= len(nearest) - 40


def without_data(page):
    return re.sub(r'id="data">.*?</script>|<img id="sheet.*?>|data-row="\d+"', "", page, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_of_very_many_the_nearest_stand_there_one_by_one_and_all_are_counted(
    store, report, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr("thinice.report.SHOWN", 60)
    page = save_report(store, tmp_path / "few.html").read_text(encoding="utf-8")
    few, every = payload(page), payload(report.read_text(encoding="utf-8"))
    note = f"Of 300 samples the {len(few['data'][0]['ids'])} nearest to the boundary stand here one by one"
    assert note in page
    assert "Samples near the boundary</h2>" in page
    assert "Every sample</h2>" in report.read_text(encoding="utf-8")
    assert few["data"][0]["n"] == every["data"][0]["n"] == 300
    place = {sample_id: row for row, sample_id in enumerate(every["data"][0]["ids"])}
    rows = [place[sample_id] for sample_id in few["data"][0]["ids"]]
    assert 60 <= len(rows) < 300
    assert few["data"][0]["labels"] == [every["data"][0]["labels"][row] for row in rows]
    assert few["data"][0]["cells"] is None
    assert_pictures(page, digits, rows)
    for mine, theirs in zip(few["measured"], every["measured"], strict=True):
        for name in ("epsilon", "outcomes", "far", "predictions"):
            assert mine[name] == [theirs[name][row] for row in rows]
        for axis, other in zip(mine["axes"], theirs["axes"], strict=True):
            assert axis["values"] == [other["values"][row] for row in rows]
        assert [rows[row] for row in mine["closeRows"]] == theirs["closeRows"]
    for mine, theirs in zip(few["comparisons"], every["comparisons"], strict=True):
        assert mine["transitions"] == "".join(theirs["transitions"][row] for row in rows)
    buttons = re.findall(r'<button type="button" data-row="(\d+)">(\d+)</button>', page)
    assert len(buttons) == 50
    assert all(few["data"][0]["ids"][int(row)] == int(sample_id) for row, sample_id in buttons)
    # tables and statistics are those of the page that shows all
    again = save_report(store, tmp_path / "again.html")
    monkeypatch.undo()
    monkeypatch.setattr("thinice.report.draw_figures", lambda *_: {})
    full = save_report(store, tmp_path / "full.html").read_text(encoding="utf-8")
    said = without_data(again.read_text(encoding="utf-8"))
    said = said.replace("Samples near the boundary</h2>", "Every sample</h2>")
    assert re.sub(r"<p>Of 300 samples.*?</p>", "", said) == without_data(full)


@pytest.mark.slow
def test_of_very_many_comparisons_the_first_have_figures(tmp_path, monkeypatch):
    samples = thinice.as_samples(torch.rand(30, 1, 4, 4), torch.arange(30) % 3, classes=("a", "b", "c"))
    store, drawn = write_store(tmp_path / "three.duckdb", samples, pruned=("one", "two", "three")), []
    monkeypatch.setattr("thinice.report.DRAWN", 2)
    monkeypatch.setattr("thinice.report.draw_figures", lambda compared, _: drawn.append(compared.pruned["name"]) or {})
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert drawn == ["one", "two"]
    assert page.count("The first 2 comparisons have their figures here") == 1
    assert "draws those of dense and three" in page
    assert len(payload(page)["comparisons"]) == 3


def many(path, n, letters=1):
    """Return a store of n samples, made inside the database, with names of so many letters."""
    store = thinice.open_store(path, new=True)
    one = np.array([0])
    with store.run(["thinice"], device="cpu", seed=0) as run:
        data = run.dataset(
            fingerprint="data",
            name="nowhere" * letters,
            split="test",
            shape=(1, 8, 8),
            classes=[f"{k}{'class' * letters}{k}" for k in range(10)],
            sample_ids=one,
            labels=one,
            digests=one.astype(np.uint64),
        )
        dense, pruned = (
            run.checkpoint(fingerprint=name, name=name * letters, architecture="cnn", classes=10, sparsity=0.0)
            for name in ("dense", "pruned")
        )
        run.comparison(run.measurement(dense, data, run.attack(name="fmn", norm="linf", settings={"steps": 1})), pruned)
    with duckdb.connect(path) as connection:
        ids = f"from generate_series(0, {n - 1}) as made(i)"
        connection.execute("update datasets set n = ?", [n])
        connection.execute(f"insert or ignore into samples select 1, i, i % 10, i, null {ids}")
        connection.execute(
            f"""insert into epsilons by name select 1 as measurement_id, i as sample_id, 'found' as outcome,
            0.001 + (i * 7919) % 10007 / 1e5 as epsilon, (i + 1) % 10 as prediction, i % 10 as clean_prediction,
            9 as evaluations, true as converged, false as adopted, 1 as run_id {ids}"""
        )
        connection.execute(
            f"""insert into predictions by name select 2 as checkpoint_id, 1 as dataset_id, i as sample_id,
            (i + (i % 13 = 0)::int) % 10 as prediction, 1 as run_id {ids}"""
        )
    return store


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_a_page_grows_with_what_is_shown_and_not_with_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("thinice.report.SHOWN", 1000)
    pages = [save_report(many(tmp_path / f"{n}.duckdb", n), tmp_path / f"{n}.html") for n in (2000, 20_000)]
    small, large = (page.read_text(encoding="utf-8") for page in pages)
    assert len(payload(small)["data"][0]["ids"]) == len(payload(large)["data"][0]["ids"]) == 1000
    assert 0.95 < len(large) / len(small) < 1.05
    lost = sum(k % 13 == 0 for k in range(20_000))
    assert f"pruned loses {lost} of the 20000 samples" in large


@pytest.mark.slow
@pytest.mark.usefixtures("unadorned")
def test_names_of_many_letters_are_shortened(tmp_path):
    plain = save_report(many(tmp_path / "plain.duckdb", 50), tmp_path / "plain.html").read_text(encoding="utf-8")
    long = save_report(many(tmp_path / "long.duckdb", 50, 2000), tmp_path / "long.html").read_text(encoding="utf-8")
    assert 0 < len(long) - len(plain) < 20_000
    assert "class" * 20 not in long
    assert payload(long)["data"][0]["classes"][3].startswith("3class")
    assert payload(long)["data"][0]["classes"][3].endswith("class3")
    assert {len(name) for name in payload(long)["data"][0]["classes"]} == {100}


@pytest.mark.usefixtures("unadorned")
@pytest.mark.slow
def test_an_unfinished_comparison_says_so(tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    with store.run(["thinice"], device="cpu", seed=0) as run:
        bench = Bench(run)
        data, ids = bench.dataset([1, 2, 3, 4]), [1, 2]
        measurement = run.measurement(bench.checkpoint("dense"), data, bench.attack())
        bench.shard(measurement, ids)
        pruned = bench.checkpoint("pruned")
        run.add_predictions(pruned, data, ids, predictions=[1, 0])
        run.comparison(measurement, pruned)
    (one,) = read_facts(store).comparisons
    assert answer(comparison_row(one)) == (
        "pruned loses 1 of the 2 samples that dense has right, of 2 of 4 samples that were measured so far. "
        "The run ended before its statistics."
    )
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert payload(page)["comparisons"][0]["transitions"] == "01--"


@pytest.mark.parametrize(("budget", "least"), [(60_000, 20_000), (25_000, 8_000)])
def test_a_sheet_weighs_what_it_may_and_not_much_less(budget, least):
    images = natural_images(200).transpose(0, 2, 3, 1)

    def cells(places, scale):
        return pictures._shrunk(images[places], 32 * scale)

    sheet = pictures.pack(cells, len(images), parts=("clean",), budget=budget)
    assert least < sheet.size <= budget
    assert len(base64.b64decode(sheet.uri.split(",", 1)[1])) == sheet.size
    assert not sheet.exact


def assert_pictures(page, digits, rows):
    """Assert that a sheet has the pictures of these rows of the data, in their order, and no others."""
    sheet = payload(page)["data"][0]["sheet"]
    uri = re.search(rf'id="{sheet["image"]}" src="data:image/webp;base64,([^"]*)"', page)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    assert pixels.shape[:2] == (8 * -(-len(rows) // sheet["columns"]), 8 * sheet["columns"])
    for place, row in enumerate(rows):
        y, x = divmod(place, sheet["columns"])
        cell = pixels[8 * y : 8 * y + 8, 8 * x : 8 * x + 8, 0]
        np.testing.assert_array_equal(cell, np.round(255 * digits.inputs[row, 0].numpy()))


def test_small_pictures_stay_exact(digits, report):
    assert_pictures(report.read_text(encoding="utf-8"), digits, range(300))


def test_one_comparison_is_laid_out_and_what_several_share_is_there_once(report):
    page = report.read_text(encoding="utf-8")
    parts = re.findall(r'data-comparison="([\d ]+)"( hidden)?', page)
    assert {(numbers, bool(hidden)) for numbers, hidden in parts} == {("0", False), ("1", True), ("0 1", False)}
    once = ("Data", "Attack, with all settings that change its result", "Run 1")
    assert [page.count(f"<caption>{caption}</caption>") for caption in once] == [1, 1, 1]
    assert page.count("<caption>Networks: dense, pruned</caption>") == 2
    order = [page.index(f"<caption>{caption}</caption>") for caption in ("Networks: dense, pruned", *once)]
    assert order == sorted(order)


@pytest.mark.slow
def test_a_page_of_two_thousand_colour_pictures_is_light(tmp_path):
    rng = np.random.default_rng(0)
    samples = thinice.as_samples(natural_images(2000), rng.integers(0, 10, 2000))
    store = write_store(tmp_path / "thinice.duckdb", samples)
    size = save_report(store, tmp_path / "report.html", samples=samples).stat().st_size
    assert 500_000 < size < 4_000_000


def test_nothing_to_report_is_said_in_one_line(tmp_path):
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    with pytest.raises(InputError, match="holds no comparison yet: thinice compare"):
        save_report(store, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(StoreError, match=r"nothing\.duckdb"):
        save_report(tmp_path / "nothing.duckdb", tmp_path / "report.html")


def test_a_page_that_cannot_be_written_leaves_nothing(store, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save_report(store, tmp_path / "absent" / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_the_same_page_to_the_byte(store, report, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["thinice", "report", "--store", str(store.path), "-o", str(tmp_path / "page.html")]
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "page.html")
    assert "MB" in err
    assert (tmp_path / "page.html").read_bytes() == report.read_bytes()


def test_coordinates_are_cut_but_scales_images_and_texts_are_whole():
    tag = '<path d="M 123.456789   0.123456" transform="translate(10.05 7) scale(0.015625)">'
    assert figures._shortened(tag) == '<path d="M 123.4 0.12" transform="translate(10.0 7) scale(0.015625)">'
    file = io.BytesIO()
    dots = np.zeros((30, 20, 3), np.uint8)
    dots[3, 4] = 7, 8, 9
    Image.fromarray(dots).save(file, "PNG")
    start, end = '<image xlink:href="', '" x="1.23456">'
    short = figures._shortened(f"{start}data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}{end}")
    assert short.startswith(start)
    assert short.endswith(end)
    kept = Image.open(io.BytesIO(base64.b64decode(short[: -len(end)].split(",")[1])))
    np.testing.assert_array_equal(np.asarray(kept.convert("RGB")), dots)
    drawn = Figure()
    drawn.text(0.5, 0.5, "AUC 0.96421 of 123.456789, 1 < 2 > 0.98765")
    uri = figures.as_svg(drawn).uri
    assert "AUC 0.96421 of 123.456789, 1 &lt; 2 &gt; 0.98765" in unquote(uri)
    assert '"' not in uri


def test_figures_say_the_numbers_of_the_store(store, report):
    (one, _) = (row for row in store.sql("from separation order by comparison_id").itertuples())
    uri = re.search(r'<figure class="roc"><img src="([^"]*)"', report.read_text(encoding="utf-8"))[1]
    assert f"AUC {one.auc:.3f} (95%: {one.auc_low:.3f} to {one.auc_high:.3f})" in unquote(html.unescape(uri))


@pytest.mark.slow
def test_the_page_shows_the_learning_curves_that_the_store_has(six, tmp_path):
    """Those of the latest training of each network: here of the dense one alone, which kept its second epoch."""
    with six.run(["thinice", "train"], device="cpu", seed=0) as run:
        for accuracy in (0.1, 0.75):
            facts = {"name": "dense", "architecture": "cnn", "objective": "natural", "recipe": {}, "parent": None}
            training = run.training(fingerprint=f"of {accuracy}", dataset_id=1, **facts)
            columns = {"learning_rate": 0.1, "loss": 1.0, "seconds": 1.0, "validation_loss": 1.0}
            columns |= {"accuracy": accuracy, "validation_accuracy": 0.5, "robust_accuracy": None}
            run.add_epochs(training, [{"epoch": number, **columns} for number in (1, 2, 3)])
            run.end_training(training, checkpoint_id=1, chosen_epoch=2, notes=())
    shown = read_facts(six).comparisons[0]
    assert [(epoch.number, epoch.accuracy, epoch.robust_accuracy) for epoch in shown.measured.training] == [
        (number, 0.75, None) for number in (1, 2, 3)
    ]
    assert shown.measured.training.chosen == 2
    assert not shown.training
    page = save_report(six, tmp_path / "report.html").read_text(encoding="utf-8")
    figures = dict(re.findall(r'<figure class="([a-z-]*)"><img src="([^"]*)"', page))
    assert [name for name in figures if name.startswith("training")] == ["training-dense"]
    drawn = unquote(html.unescape(figures["training-dense"]))
    assert all(text in drawn for text in ("Training of dense", "held out", "kept: epoch 2"))
    assert "robust" not in drawn
    assert "What the training of the dense network reached, epoch by epoch." in page


@pytest.mark.usefixtures("unadorned")
def test_a_long_path_is_shortened_on_the_page_and_found_on_the_disk(tmp_path):
    folder = tmp_path / ("d" * 150)
    for k, image in enumerate(natural_images(12, 8)):
        (folder / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "ab"[k % 2] / f"{k:02}.png")
    store = write_store(tmp_path / "thinice.duckdb", thinice.load_samples(folder), adversarials=4)
    page = save_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No pictures" not in page
    assert payload(page)["data"][0]["sheet"] is not None
    assert str(folder) not in page
