"""The page in a headless Chromium: what one sees, points at, clicks, types and filters."""

from __future__ import annotations

import json

import numpy as np
import pytest

import thinice
from tests.report.stores import natural_images, write_store
from tests.report.test_page import HOSTILE, hostile_store
from thinice.report import pictures, save_report

pytestmark = pytest.mark.slow

PARTS = "[...document.querySelectorAll('[data-comparison]')].map(e => [e.dataset.comparison, e.checkVisibility()])"


@pytest.fixture
def page(browser, report):
    opened = browser.page(report)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rows(store):
    """The first comparison, in the order of the samples."""
    return store.sql("from transitions where comparison_id = 1 order by sample_id").reset_index(drop=True)


@pytest.fixture(scope="module")
def order(rows):
    """Rows as the keyboard walks them: by epsilon, then those not found, then those wrong from the start."""
    rank = rows["epsilon"].fillna(1e9).where(rows["outcome"] != "misclassified", 1e10)
    return rank.sort_values(kind="stable").index.tolist()


def card(page):
    facts = page.run("[...document.querySelectorAll('#card dt')].map(t => [t.textContent, t.nextSibling.textContent])")
    return page.text("#card h3"), dict(facts)


def shown_text(row, rows):
    sample = rows.loc[row]
    words = {"S1,1": "kept", "S1,0": "lost", "S0,1": "gained", "S0,0": "wrong"}
    return {
        "true class": sample["class_name"],
        "dense": str(sample["dense_prediction"]),
        "pruned-90": str(sample["pruned_prediction"]),
        "transition": f"{sample['transition']} {words[sample['transition']]}",
    }


def test_it_opens_silently_and_asks_for_nothing(page, report):
    assert page.complaints() == []
    assert page.requests() == [report.resolve().as_uri()]
    page.run("document.querySelectorAll('img[loading]').forEach(image => { image.loading = 'eager'; })")
    page.wait("[...document.querySelectorAll('img')].every(i => i.complete && i.naturalWidth > 0)")
    assert page.run("document.querySelectorAll('section:not([hidden]) figure img').length") >= 6


def test_hover_shows_the_picture_of_the_sample_under_the_pointer(page, digits, rows):
    isolated = [row for row in page.run("thinice.shown()") if alone(page, row)][:8]
    assert len(isolated) == 8
    for row in isolated:
        page.mouse("mouseMoved", *page.to_plot(row))
        width, height, values = page.pixels("#tip canvas")
        seen = np.array(values).reshape(height, width, 4)[:, :, 0]
        np.testing.assert_array_equal(seen, np.round(255 * digits.inputs[row, 0].numpy()))
        text = page.text("#tip span")
        assert text.startswith(f"sample {rows.loc[row, 'sample_id']}: {rows.loc[row, 'class_name']}")
        assert rows.loc[row, "transition"] in text
    page.mouse("mouseMoved", 2, 2)
    assert page.run("document.getElementById('tip').hidden")


def alone(page, row):
    return page.run(
        f"(() => {{ const [x, y] = thinice.place({row}); return thinice.shown().every(k => k === {row} || "
        "Math.hypot(thinice.place(k)[0] - x, thinice.place(k)[1] - y) > 3); })()"
    )


@pytest.mark.usefixtures("unadorned")
def test_lossy_pictures_are_those_of_their_samples(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SHEET_BYTES", 60_000)
    samples = thinice.as_samples(natural_images(150), np.arange(150) % 10)
    store = write_store(tmp_path / "thinice.duckdb", samples)
    opened = browser.page(save_report(store, tmp_path / "report.html", samples=samples))
    everything = samples.inputs[:].numpy()
    for row in [row for row in opened.run("thinice.shown()") if alone(opened, row)][::20]:
        opened.mouse("mouseMoved", *opened.to_plot(row))
        width, height, values = opened.pixels("#tip canvas")
        assert (width, height) == (32, 32)
        seen = np.array(values).reshape(height, width, 4)[:, :, :3].transpose(2, 0, 1) / 255
        away = np.abs(everything - seen).mean(axis=(1, 2, 3))
        assert away.argmin() == row
        assert 0 < away[row] < 0.1
    assert opened.complaints() == []
    opened.close()


def test_a_click_shows_the_card_of_the_sample(page, rows, digits, store):
    with_witness = set(store.sql("select sample_id from adversarials")["sample_id"])
    for row in [row for row in page.run("thinice.shown()") if alone(page, row)][:60:12]:
        page.click(*page.to_plot(row))
        title, facts = card(page)
        assert title == f"Sample {rows.loc[row, 'sample_id']}"
        assert shown_text(row, rows).items() <= facts.items()
        value = rows.loc[row, "epsilon"]
        if value > 0:
            shown, unit = facts["ε"].split("/")
            assert unit == "255"
            assert float(shown) == pytest.approx(255 * value, rel=6e-3)
        names = page.run("[...document.querySelectorAll('#card canvas')].map(c => c.getAttribute('aria-label'))")
        found = rows.loc[row, "sample_id"] in with_witness and value > 0
        assert [name.split()[0].strip(",") for name in names] == (
            ["clean", "change", "adversarial"] if found else ["clean"]
        )
        width, height, values = page.pixels("#card canvas")
        seen = np.array(values).reshape(height, width, 4)[:, :, 0]
        np.testing.assert_allclose(seen, 255 * digits.inputs[row, 0].numpy(), atol=1)


def test_the_keyboard_walks_by_epsilon(page, rows, order):
    page.run("document.getElementById('plot').focus()")
    for key, place in [
        ("ArrowRight", 0),
        ("ArrowRight", 1),
        ("ArrowDown", 2),
        ("ArrowLeft", 1),
        ("PageDown", 26),
        ("PageUp", 1),
        ("End", len(rows) - 1),
        ("ArrowRight", len(rows) - 1),
        ("Home", 0),
        ("ArrowUp", 0),
    ]:
        page.key(key)
        assert card(page)[0] == f"Sample {rows.loc[order[place], 'sample_id']}", (key, place)
    assert page.run("document.getElementById('card').getAttribute('aria-live')") == "polite"
    assert page.run("thinice.shown()") == order


def test_everything_can_be_reached_by_tab_and_has_a_name(page):
    """What a screen reader meets: names of controls, pictures and tables, from Chromium's own accessibility tree."""
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and "role" in node
    ]
    roles = {role for role, _ in named}
    assert {"application", "combobox", "checkbox", "button", "table", "heading", "complementary"} <= roles
    for role, name in named:
        if role in {"application", "combobox", "checkbox", "button", "image", "complementary", "table"}:
            assert name.strip(), role
    page.run("document.body.focus()")
    met = set()
    for _ in range(14):
        page.key("Tab")
        met.add(page.run("document.activeElement.id || document.activeElement.name"))
    assert {"theme", "comparison", "axis", "class", "logarithmic", "transition", "plot"} <= met


def test_filters_filter(page, rows):
    counts = rows["transition"].value_counts()

    def shown():
        return sorted(page.run("thinice.shown()"))

    assert [int(page.text(f"#count-{k}")) for k in range(4)] == [counts[n] for n in ("S1,1", "S1,0", "S0,1", "S0,0")]
    assert shown() == list(range(300))
    page.press("[name=transition][value='0']")
    assert shown() == rows.index[rows["transition"] != "S1,1"].tolist()
    assert page.text("#status").startswith(f"{300 - counts['S1,1']} of 300 samples shown")
    page.select("#class", 1 + 7)
    assert shown() == rows.index[(rows["transition"] != "S1,1") & (rows["label"] == 7)].tolist()
    page.press("[name=transition][value='0']")
    assert shown() == rows.index[rows["label"] == 7].tolist()
    assert int(page.text("#count-0")) == ((rows["label"] == 7) & (rows["transition"] == "S1,1")).sum()
    for k in range(4):
        page.press(f"[name=transition][value='{k}']")
    assert shown() == []
    page.run("document.getElementById('plot').focus()")
    page.key("ArrowRight")
    assert page.complaints() == []


def test_the_axes_put_samples_where_they_belong(page, rows, store):
    names = page.run("[...document.getElementById('axis').options].map(o => o.textContent)")
    assert names[:3] == ["true class", "sample", "evaluations"]
    assert names[-2:] == ["margin, pruned-90", "epsilon, pruned-90"]
    margins = store.sql(
        "select margin from predictions join comparisons on checkpoint_id = pruned_checkpoint_id "
        "where comparison_id = 1 order by sample_id"
    )["margin"]
    for place, values in [(1, rows["sample_id"]), (names.index("margin, pruned-90"), margins)]:
        page.select("#axis", place)
        across, up = np.array(page.run("thinice.shown().sort((a, b) => a - b).map(thinice.place)")).T
        assert np.corrcoef(across, values)[0, 1] > 0.99999
        found = (rows["epsilon"] > 0).to_numpy()
        assert np.corrcoef(up[found], rows["epsilon"][found])[0, 1] < -0.99999
    page.select("#axis", len(names) - 1)
    missing = int(rows["pruned_epsilon"].isna().sum())
    assert 0 < missing < 10
    assert page.text("#status") == f"{300 - missing} of 300 samples shown; {missing} have no epsilon, pruned-90."
    page.select("#axis", 1)
    page.press("#logarithmic")
    up = np.array(page.run("thinice.shown().sort((a, b) => a - b).map(thinice.place)"))[:, 1]
    assert np.corrcoef(up[found], np.log(rows["epsilon"][found]))[0, 1] < -0.99999
    assert (up[rows["outcome"] == "not_found"] < up[found].min()).all()
    assert (up[rows["outcome"] == "misclassified"] > up[found].max()).all()


def test_the_chooser_changes_everything(page, store):
    def shown_are_those_of(number):
        parts = page.run(PARTS)
        assert {comparisons for comparisons, _ in parts} == {"0", "1", "0 1"}
        return all(shown == (number in comparisons) for comparisons, shown in parts)

    assert shown_are_those_of("0")
    page.select("#comparison", 1)
    assert shown_are_those_of("1")
    counts = store.sql("select transition, count(*) as n from transitions where comparison_id = 2 group by all")
    wanted = dict(zip(counts["transition"], counts["n"], strict=True))
    assert [int(page.text(f"#count-{k}")) for k in range(4)] == [wanted[n] for n in ("S1,1", "S1,0", "S0,1", "S0,0")]
    assert "pruned-95" in page.text(".answer") or "pruned-95" in page.text("section:not([hidden]) .answer")
    page.press(".closest:not([hidden]) button")
    first = store.sql("select sample_id from thin_ice where comparison_id = 2 limit 1").iloc[0, 0]
    title, facts = card(page)
    assert title == f"Sample {first}"
    assert "pruned-95" in facts


def test_without_a_script_all_comparisons_are_there(browser, report):
    opened = browser.page(report, scripts=False)
    assert all(shown for _, shown in opened.run(PARTS))
    opened.close()


def test_the_table_of_the_thinnest_has_their_pictures(page, digits, store):
    wanted = store.sql("select sample_id, transition from thin_ice where comparison_id = 1 limit 25")
    ids = page.run("[...document.querySelectorAll('.closest:not([hidden]) button')].map(b => Number(b.textContent))")
    assert ids == wanted["sample_id"].tolist()
    place = digits.sample_ids.tolist().index(ids[0])
    width, height, values = page.pixels(".closest:not([hidden]) canvas")
    seen = np.array(values).reshape(height, width, 4)[:, :, 0]
    np.testing.assert_array_equal(seen, np.round(255 * digits.inputs[place, 0].numpy()))


@pytest.mark.parametrize("dark", [False, True])
def test_dark_and_light_follow_the_system_and_the_button(browser, report, dark):
    opened = browser.page(report, dark=dark)

    def brightness():
        color = opened.run("getComputedStyle(document.body).backgroundColor")
        ink = opened.run("getComputedStyle(document.body).color")
        return [np.mean(json.loads("[" + one[4:-1] + "]")) for one in (color, ink)]

    paper, ink = brightness()
    assert (paper < 60 and ink > 200) if dark else (paper > 240 and ink < 60)
    opened.press("#theme")
    paper, ink = brightness()
    assert (paper > 240 and ink < 60) if dark else (paper < 60 and ink > 200)
    assert opened.complaints() == []
    opened.close()


def test_a_phone_needs_no_scrolling_sideways(browser, report):
    opened = browser.page(report, width=360, height=740)
    assert opened.run("document.documentElement.scrollWidth") <= 360
    opened.close()


@pytest.mark.usefixtures("unadorned")
def test_the_card_shows_what_is_proved_of_a_sample(browser, tmp_path):
    samples = thinice.as_samples(natural_images(20), np.arange(20) % 10)
    store = write_store(tmp_path / "thinice.duckdb", samples)
    with store.run(["thinice"], device="cpu", seed=0) as run:
        keys = (int(key) for key in store.sql("select checkpoint_id, dataset_id from measurements").iloc[0])
        epsilon = store.sql("select epsilon from epsilons where measurement_id = 1 order by sample_id")["epsilon"]
        radii = np.where(epsilon.fillna(1) > 0, [0.0, 0.00012999] * 10, 0.0)
        run.add_lower_bounds(*keys, "linf", [*range(20)], epsilon_lower=radii)
    opened = browser.page(save_report(store, tmp_path / "report.html", samples=samples))
    found = set(store.sql("select sample_id from thin_ice")["sample_id"])
    rows = [row for row in opened.run("thinice.shown()") if row in found and alone(opened, row)][:6]
    assert {row % 2 for row in rows} == {0, 1}
    for row in rows:
        opened.click(*opened.to_plot(row))
        assert card(opened)[1]["ε"].partition("; proved: ")[2] == ("more than 0.0331/255" if row % 2 else "")
    opened.close()


@pytest.mark.usefixtures("unadorned")
def test_names_of_strangers_do_nothing_but_stand_there(browser, tmp_path):
    store, samples = hostile_store(tmp_path)
    opened = browser.page(save_report(store, tmp_path / "report.html", samples=samples))
    assert opened.run("window.hacked") is None
    options = opened.run("[...document.getElementById('class').options].map(o => o.textContent)")
    assert options == ["all", *HOSTILE]
    opened.run("document.getElementById('plot').focus()")
    for _ in range(12):
        opened.key("ArrowRight")
        title, facts = card(opened)
        row = samples.sample_ids.tolist().index(int(title.split()[1]))
        assert facts["true class"] == HOSTILE[samples.labels[row]]
        assert facts["file"] == samples.sources[row]
    opened.mouse("mouseMoved", *opened.to_plot(opened.run("thinice.shown()[3]")))
    opened.select("#comparison", 2)
    assert opened.run("document.documentElement.scrollWidth") <= 1280
    assert HOSTILE[2][:4] in opened.text("section:not([hidden]) .answer")
    assert opened.run("window.hacked") is None
    assert opened.complaints() == []
    assert len(opened.requests()) == 1
    opened.close()
