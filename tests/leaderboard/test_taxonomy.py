"""Entries of the taxonomy and keys of networks: the published ones, and those that somebody writes by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.conftest import ROOT
from thinice.errors import InputError
from thinice.leaderboard import Category, ModelKey, published_accuracies, published_methods, read_entries
from thinice.leaderboard.published import PUBLISHED_SAMPLES
from thinice.leaderboard.taxonomy import find_methods, parse_entries

FILE = ROOT / "thinice" / "leaderboard" / "published_methods.json"
HYDRA = {
    "link_to_paper": "https://arxiv.org/pdf/2002.10509.pdf",
    "ap_key": "HYDRA_Sehwag2020Hydra",
    "Type of Pipeline:": "A-Methods Pruning After Training",
    "A: Pretraining ": "Adversarial Training (AT) TRADES",
    "A: Finetuning": "Adversarial Training (AT) TRADES",
    "A: OneShot (1S) vs Iterative (IT)": "1S",
    "Pruning structure": "Unstructured (US)",
    "Pruning locality": "Local Pruning (L)",
    "Pruning criterion": "Least Importance Score (LIS)",
}
"""As published, letter by letter."""


def test_the_published_entries_come_back_letter_by_letter():
    written = json.loads(FILE.read_text(encoding="utf-8"))
    assert [entry.to_dict() for entry in published_methods().values()] == written
    assert [list(entry.to_dict()) for entry in published_methods().values()] == [list(entry) for entry in written]
    assert published_methods()["HYDRA_Sehwag2020Hydra"].to_dict() == HYDRA


def test_the_published_entries_are_as_the_survey_counts_them():
    entries = published_methods().values()
    assert Counter(entry.pipeline.letter for entry in entries) == {"A": 15, "B": 6, "D": 5}
    of_a = [entry for entry in entries if entry.pipeline.letter == "A"]
    assert Counter(entry.steps["A: OneShot (1S) vs Iterative (IT)"] for entry in of_a) == {"1S": 13, "IT": 2}
    assert Counter(entry.specifics["Pruning structure"] for entry in entries) == {
        "Unstructured (US)": 13,
        "Unstructured (US), Structured (S) channels": 5,
        "Structured (S) filters": 4,
        "Unstructured (US), Structured (S) filters": 3,
        "Structured (S) Kernel": 1,
    }
    assert Counter(entry.specifics["Pruning criterion"].split()[0] for entry in entries) == {
        "Least": 12,
        "Lowest": 7,
        "Solver": 3,
        "Sparsity": 2,
        "Highest": 1,
        "Bayesian": 1,
    }


def test_an_entry_may_differ_in_case_spaces_and_abbreviations_and_is_written_back_exactly():
    (entry,) = parse_entries(
        json.dumps(
            {
                "link_to_paper": "https://arxiv.org/pdf/2002.10509.pdf",
                "AP_KEY ": "HYDRA_Sehwag2020Hydra",
                "type of pipeline": "a-methods pruning after training",
                "a: pretraining": " adversarial training (AT)  trades",
                "A: Finetuning:": "Adversarial Training (AT) TRADES",
                "a: oneshot (1s) vs iterative (it)": "1s",
                "pruning structure": "US",
                "Pruning Locality": "l",
                "PRUNING CRITERION": "lis",
            }
        )
    )
    assert entry.to_dict() == HYDRA
    assert entry.structures == {"US"}


def test_sparsity_based_has_two_names_and_steps_may_cite():
    text = json.dumps(
        HYDRA
        | {
            "Pruning criterion": "RELWM",
            "Pruning structure": "Structured (S) filters,Unstructured (US)",
            "A: Pretraining ": "https://arxiv.org/pdf/1905.02175.pdf",
            "A: Finetuning": "fgsm https://arxiv.org/pdf/1412.6572.pdf",
        }
    )
    (entry,) = parse_entries(text)
    assert entry.specifics["Pruning criterion"] == "Sparsity Based LWM (SPALWM)"
    assert entry.specifics["Pruning structure"] == "Structured (S) filters, Unstructured (US)"
    assert entry.structures == {"US", "S"}
    assert entry.steps["A: Finetuning"] == "FGSM https://arxiv.org/pdf/1412.6572.pdf"
    assert entry.when == "after training: as another paper, pruned one-shot, then FGSM"
    assert entry.how == "filters or single weights, local, sparsity-based weight magnitude"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Pruning criterion": "Least Importance Scores"}, r"did you mean Least Importance Score \(LIS\)\?"),
        ({"Pruning locality": "global"}, "`Pruning locality` 'global' is unknown"),
        ({"Pruning structure": "US, US"}, "names 'US, US' twice"),
        ({"A: Finetuning": None}, "'a: finetuning' must be a text, got None"),
        ({"A: Finetuning": "javascript:alert(1)"}, "'A: Finetuning'|`A: Finetuning`"),
        ({"link_to_paper": "javascript:alert(1)"}, "must be the address of the paper"),
        ({"link_to_paper": 'https://a.b/"onmouseover="x'}, "must be the address of the paper"),
        ({"ap_key": "mine"}, "not of the form Name_FirstauthorYearFirstword"),
        ({"ap_key": "../../x_Y2020Z"}, "not of the form"),
        ({"Type of Pipeline:": "C-Methods"}, "`Type of Pipeline` 'C-Methods' is unknown"),
        ({"D: Training step ": "None"}, "'d: training step' is no key of an entry with pipeline A"),
        ({"AP key": "x"}, "'ap key' is no key"),
    ],
)
def test_an_illegal_entry_is_one_line_that_names_file_entry_and_key(tmp_path, changes, message):
    file = tmp_path / "entry.json"
    file.write_text(json.dumps([HYDRA | {"ap_key": "Other_One2020Two"}, HYDRA | changes]), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        read_entries(file)
    assert str(error.value).startswith(f"`method_entry` {file}, entry 2: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(HYDRA))
def test_every_key_of_a_pipeline_is_needed(key):
    with pytest.raises(InputError, match="missing"):
        parse_entries(json.dumps({name: value for name, value in HYDRA.items() if name != key}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "nested too deeply|is no JSON"),
        ("[]", "must be an object, or a list of objects"),
        ("[1]", "must be an object"),
        ('{"ap_key": "A_B2020C", "AP_Key ": "D_E2020F"}', "more than once"),
        (json.dumps([HYDRA, HYDRA]), "more than one entry"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_entries(text)


def test_a_method_is_named_by_its_key_or_by_a_file(tmp_path):
    assert find_methods("HYDRA_Sehwag2020Hydra")[0].to_dict() == HYDRA
    (tmp_path / "entry.json").write_text(json.dumps(HYDRA), encoding="utf-8")
    assert find_methods(str(tmp_path / "entry.json")) == find_methods("HYDRA_Sehwag2020Hydra")
    with pytest.raises(InputError, match="did you mean HYDRA_Sehwag2020Hydra"):
        find_methods("HYDRA_Sehwag2020")
    with pytest.raises(InputError, match="cannot be read"):
        find_methods("nowhere.json")


def test_keys_of_networks_go_there_and_back():
    for row in published_accuracies():
        assert ModelKey.parse(str(row.key)) == row.key
    key = ModelKey.parse("BCSP_Özdenizc2021Training_V16_SVHN_S_50")
    assert key.category == Category("V16", "SVHN", "S", 50)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HYDRA", "not of the form METHOD_R18"),
        ("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_50", "must be 90, 95, 99, got 50"),
        ("HYDRA_Sehwag2020Hydra_R18_CIFAR10_S_99", "must be 50, 75, 90, got 99"),
        ("HYDRA_Sehwag2020Hydra_R50_CIFAR10_US_90", "R18 or V16, got 'R50'"),
        ("HYDRA_Sehwag2020Hydra_R18_IMAGENET_US_90", "CIFAR10 or SVHN"),
        ("HYDRA_Sehwag2020Hydra_R18_CIFAR10_weights_90", "US or S"),
        ("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_²", "not of the form"),
        ("../x_R18_CIFAR10_US_90", "not of the form"),
    ],
)
def test_a_key_that_the_benchmark_does_not_have_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        ModelKey.parse(text)


def test_published_accuracies_are_counts_of_ten_thousand_images_and_fit_the_taxonomy():
    rows = published_accuracies()
    assert len(rows) == len({row.key for row in rows}) == 154
    assert {row.method for row in rows} <= set(published_methods())
    for row in rows:
        assert row.category.structure in published_methods()[row.method].structures or row.method.startswith("PwoA")
        for share in (row.clean, row.robust):
            assert PUBLISHED_SAMPLES * share == pytest.approx(round(PUBLISHED_SAMPLES * share), abs=1e-6)
        assert row.robust < row.clean


def test_the_published_rows_say_what_the_survey_reads_in_them():
    """FlyingBird leads around 8/255, as the survey says of its curves; HARP keeps most clean accuracy at 99 %."""
    weights = [row for row in published_accuracies() if row.category[1:3] == ("CIFAR10", "US")]
    best = {
        c: max((r for r in weights if r.category == c), key=lambda row: row.robust)
        for c in {r.category for r in weights}
    }
    leaders = Counter(row.method.partition("_")[0] for row in best.values())
    assert leaders == {"FlyingBird": 4, "HARP": 2}
    cleanest = max((row for row in weights if row.category.sparsity == 99), key=lambda row: row.clean)
    assert (cleanest.method, cleanest.clean) == ("HARP_Zhao2023Holistic", 0.8311)
