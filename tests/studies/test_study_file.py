"""What a study's file asks for, and what is told where it cannot be read."""

from __future__ import annotations

import re
import sys

import pytest

from tests.conftest import ROOT
from thinice.errors import InputError, MissingExtraError
from thinice.pruning import MERKLE_METHODS
from thinice.studies import parse_study, read_study
from thinice.studies.definition import MethodChoice
from thinice.studies.study_file import KEYS, PARTS

pytest.importorskip("yaml")

GOOD = """\
architecture: digits_cnn
data: digits
training: natural
methods: [magnitude-global-unstructured]
rates: [1, 2]
attacks:
  - {attack: pgd, norm: linf, budgets: [8/255]}
"""
METHOD = "magnitude-global-unstructured"


def test_the_complete_grid_has_the_papers_3024_cells():
    study = read_study(ROOT / "studies" / "pruning-in-the-face-of-adversaries.yaml")
    assert study.cells == 3024 == 4 * 9 * 7 * 12
    assert {method.name for method in study.methods} == set(MERKLE_METHODS)
    assert study.rates == (1, 2, 4, 8, 16, 32, 64)
    assert study.seeds == (0, 1, 2, 3, 4)
    assert study.networks == 4 * 5 * (1 + 9 * 6)
    assert [(setup.architecture, setup.data, setup.samples) for setup in study.setups] == [
        ("cnn5", "mnist", 1000),
        ("vgg11", "cifar10", 1000),
        ("preact_resnet8", "cifar10", 1000),
        ("preact_resnet18", "imagenette", 256),
    ]
    assert [len(setup.points) for setup in study.setups] == [12] * 4
    assert [setup.skip for setup in study.setups] == ["", "", "*shortcut*", "*shortcut*"]


def test_the_grid_says_what_the_paper_says():
    """Table 1 and Table 2 as printed; the linf rows also by the budgets that the paper's files have."""
    setup = read_study(ROOT / "studies" / "pruning-in-the-face-of-adversaries.yaml").setups[-1]

    def said(method, norm, budget, rate):
        return {
            published.source: published.accuracy[rate]
            for published in setup.published
            if (published.method, published.norm, published.budget) == (method, norm, budget)
            and rate in published.accuracy
        }

    assert said("random-local-kernel", None, None, 32) == {"": pytest.approx(0.3999)}
    assert said(METHOD, "l2", 25, 16) == {"paper": pytest.approx(0.0922)}
    assert said(METHOD, "linf", 1 / 255, 1) == {"paper": pytest.approx(0.3477), "files": pytest.approx(0.5523)}
    assert said(METHOD, "linf", 0.125 / 255, 64) == {"files": pytest.approx(0.7289)}


def test_the_smoke_twin_has_the_same_grid_in_small():
    full = read_study(ROOT / "studies" / "pruning-in-the-face-of-adversaries.yaml")
    smoke = read_study(ROOT / "studies" / "pruning-in-the-face-of-adversaries-smoke.yaml")
    assert (smoke.methods, smoke.rates) == (full.methods, full.rates)
    assert [setup.data for setup in smoke.setups] == ["digits"]
    assert {norm for choice in smoke.setups[0].attacks for norm in [choice.norm]} == {"l0", "l2", "linf"}
    assert smoke.cells == 756


def test_the_study_for_two_cores_is_part_of_the_grid():
    study = read_study(ROOT / "studies" / "cnn5-mnist.yaml")
    assert study.cells == 9 * 4 * 12
    assert study.networks == 2 * (1 + 9 * 3)
    assert len(study.setups[0].published) == 13


def test_lists_of_parts_are_multiplied():
    text = GOOD.replace("training: natural", "training: [natural, {recipe: pgd, budget: 0.3}]")
    text = (
        text.replace("architecture: digits_cnn", "architecture: [digits_cnn, cnn5]") + "seeds: [3, 5]\nstages: [1.5, 2]"
    )
    study = parse_study(text, "grid")
    assert [setup.name for setup in study.setups] == [
        "digits_cnn on digits, natural",
        "digits_cnn on digits, pgd, budget=0.3",
        "cnn5 on digits, natural",
        "cnn5 on digits, pgd, budget=0.3",
    ]
    assert study.setups[1].training.plan(5).objective.budget == 0.3
    assert study.setups[1].training.plan(5).recipe.seed == 5
    assert study.seeds == (3, 5)
    assert study.stages == (1.5, 2)
    assert study.networks == 4 * 2 * (1 + 2)
    assert study.cells == 4 * 2


def test_what_stands_beside_the_setups_is_shared_by_them():
    text = GOOD.replace(
        "architecture: digits_cnn\n",
        "samples: 7\nsetups: [{architecture: cnn5}, {architecture: digits_cnn, samples: 9}]\n",
    )
    study = parse_study(text, "shared")
    assert [(setup.architecture, setup.samples) for setup in study.setups] == [("cnn5", 7), ("digits_cnn", 9)]
    assert study.setups[0].retraining == study.setups[0].training


def test_the_page_shows_every_key_and_a_study_that_can_be_read():
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert parse_study(example, "page").cells == 3 * 4 * 4
    table = "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", table)) == {*KEYS, *PARTS}


def test_a_method_gets_the_seed_and_what_to_skip():
    own = MethodChoice("mine", "random", {"scope": "local", "skip": "fc.*"})
    made = own.made(4, seed=3, skip="conv1.*")
    assert (made.sparsity, made.scope, made.seed, made.skip) == (0.75, "local", 3, "fc.*,conv1.*")
    assert own.made(4, seed=3, skip="").skip == "fc.*"
    assert MethodChoice("other", "magnitude", {}).made(2, seed=3, skip="conv1.*").skip == "conv1.*"
    assert MethodChoice("fixed", "random", {"seed": 7}).made(2, seed=3, skip="").seed == 7


def test_budgets_are_numbers():
    text = GOOD.replace("[8/255]", "[8/255, 0.125/255, 0.25]")
    assert parse_study(text, "x").setups[0].attacks[0].budgets == (0.125 / 255, 8 / 255, 0.25)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("natural", "naturall", 3, "`recipe` 'naturall' is unknown: did you mean natural?"),
        ("natural", "{recipe: natural, epochs: ten}", 3, "`epochs` must be a whole number of at least 1, got 'ten'"),
        ("natural", "{recipe: natural, epohcs: 1}", 3, "`epohcs` is no setting of recipe 'natural'"),
        ("natural", "{recipe: natural, seed: 1}", 3, "`seed` of `training` is that of the study: give `seeds`"),
        ("natural", "{epochs: 1}", 3, "`recipe` is missing: its name, such as natural"),
        ("natural", "", 3, "`training` must be one value, got nothing"),
        ("natural", "!!python/object/apply:os.system [id]", 3, "tags such as .* are not read"),
        ("natural", "&a natural", 3, "anchors and aliases .* are not read"),
        ("natural", "natural\ntraining: pgd", 4, "training stands there more than once"),
        ("natural", "{a: [[[[[[[[[[[1]]]]]]]]]]]}", 3, "nested too deeply"),
        ("natural", "natural\n? [a]\n: 3", 4, "a key must be a word"),
        ("natural", "[natural, natural]", 1, "`setups` has 'digits_cnn on digits, natural' twice"),
        ("digits_cnn", "digitscnn", 1, "`architecture` 'digitscnn' is unknown: did you mean digits_cnn?"),
        ("digits_cnn", "models.py:Net", 1, "`architecture` models.py:Net is your own code, and a study file runs"),
        ("data: digits", "data: digitz", 2, r"called 'digitz' \(did you mean digits\?\)"),
        ("data: digits\n", "", 1, "`data` is missing: the name of a data set, such as mnist"),
        ("rates: [1, 2]", "rate: [1, 2]", 5, r"`rate` is no key here: did you mean rates\?"),
        ("rates: [1, 2]", "rates: 2", 5, "`rates` must be a list"),
        ("rates: [1, 2]", "rates: []", 5, "`rates` must be a list, .* got an empty one"),
        ("rates: [1, 2]", "rates: [1]", 5, "`rates` is the dense network alone: add"),
        ("rates: [1, 2]", "rates: [2, 4]", 5, "`rates` must begin with 1, the dense network"),
        ("rates: [1, 2]", "rates: [1, 4, 2]", 5, "`rates` must rise, got 1, 4, 2"),
        ("rates: [1, 2]", "rates: [1, x]", 5, "`rates` must be a number such as 2, 0.5 or 8/255, got 'x'"),
        ("rates: [1, 2]", "rates: [1, nan]", 5, "got 'nan'"),
        ("rates: [1, 2]", "rates: [1, 1e400]", 5, "got '1e400'"),
        ("rates: [1, 2]", "rates: [1, 2]\nstages: [3]", 6, "`stages` lacks 2, one of `rates`"),
        ("rates: [1, 2]", "rates: [1, 2]\nseeds: 0", 6, "`seeds` must be a whole number of at least 1, got '0'"),
        ("rates: [1, 2]", "rates: [1, 2]\nseeds: 999999999", 6, "`seeds` must be at most 1000"),
        ("rates: [1, 2]", "rates: [1, 2]\nseeds: [1, 1]", 6, "`seeds` must differ, got 1, 1"),
        ("rates: [1, 2]", "rates: [1, 2]\nsamples: -3", 6, "`samples` must be a whole number of at least 1, got '-3'"),
        (METHOD, "magnitude-global", 4, f"'magnitude-global' is unknown: choose from {METHOD}, "),
        (METHOD, "hydrra", 4, r"`methods` 'hydrra' is unknown: .* lwm, hydra, "),
        ("natural", "{recipe: natural, select: loss}", 3, "`select` 'loss' needs samples .*: give `held_out`"),
        (
            METHOD,
            "{name: a, method: hydra, search: {recipe: hydra-prune-short, objective: natural}}",
            4,
            "`select` 'robust' needs an objective that attacks",
        ),
        (METHOD, f"{METHOD}, {METHOD}", 4, "stands there twice: give each another `name`"),
        (METHOD, "{name: dense, method: magnitude}", 4, "'dense' is what the network before pruning is called"),
        (METHOD, "{name: a, method: magnitud}", 4, "`method` 'magnitud' is unknown: did you mean magnitude?"),
        (METHOD, "{name: a, methd: magnitude}", 4, r"`methd` is no key here: did you mean method\?"),
        (METHOD, "{name: a, scope: local}", 4, "`method` is missing: its name, such as magnitude"),
        ("natural", "{recpe: natural}", 3, r"`recpe` is no key here: did you mean recipe\?"),
        ("budgets", "budget", 7, r"`budget` is no key here: did you mean budgets\?"),
        (METHOD, "{name: a, method: magnitude, scop: local}", 4, "has no setting 'scop': it has scope"),
        (METHOD, "{name: a, method: magnitude, scope: loca}", 4, "`scope` must be one of global, local, got 'loca'"),
        (METHOD, "{name: a, method: magnitude, sparsity: 0.5}", 4, "`sparsity` of a method follows from `rates`"),
        ("pgd", "pdg", 7, "`attack` 'pdg' is unknown: did you mean pgd?"),
        ("linf", "lin", 7, "`norm` must be one of l0, l1, l2, linf, got 'lin'"),
        ("pgd, norm: linf", "pgd, norm: l0", 7, "`budget` of l0 is a number of entries, a whole one"),
        ("8/255", "8", 7, "did you mean 8/255?"),
        ("8/255", "x", 7, "`budget` must be a number such as 2, 0.5 or 8/255, got 'x'"),
        ("8/255", "0", 7, "`budget` must be above 0"),
        ("8/255", "8/255, 8/255", 7, "`budgets` must differ"),
        ("[8/255]}", "[8/255], stepz: 3}", 7, "attack 'pgd' has no setting 'stepz': it has .*steps"),
        ("[8/255]}", "[8/255], steps: many}", 7, "`steps` of pgd must be a number such as 40, got 'many'"),
        ("[8/255]}", "[8/255]}\n  - {attack: pgd, norm: linf, budgets: [8/255]}", 6, "has pgd linf 8/255 twice: leave"),
        ("natural", "natural\nsetups: [{dat: x}]", 4, r"`dat` is no key here: did you mean data\?"),
        ("natural", "natural\nsetups: [{x: x}]", 4, "`x` is no key here: choose from name, architecture"),
        ("natural", "natural\npublished: [{method: no, accuracy: {1: 5}}]", 4, "`method` 'no' is none of `methods`"),
        ("natural", f"natural\npublished: [{{method: {METHOD}, accuracy: {{1: 101}}}}]", 4, "from 0 to 100, got 101"),
        ("natural", f"natural\npublished: [{{method: {METHOD}, norm: l2, accuracy: {{1: 5}}}}]", 4, "go together"),
    ],
)  # fmt: skip
def test_an_error_names_line_key_value_and_what_could_stand_there(old, new, line, message):
    assert old in GOOD
    with pytest.raises(InputError, match=message) as caught:
        parse_study(GOOD.replace(old, new, 1), "x", "x.yaml")
    assert f"`study` x.yaml, line {line}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "3", "[1, 2]"])
def test_what_is_no_study_is_told(text):
    with pytest.raises(InputError, match="must be an object with `rates`, `methods` and `attacks`"):
        parse_study(text, "x")


def test_no_yaml_is_told_with_its_line():
    with pytest.raises(InputError, match=r"is no YAML: .*line 1"):
        parse_study("{a: [", "x")


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"`study` {tmp_path / 'no.yaml'} cannot be read: No such file")):
        read_study(tmp_path / "no.yaml")
    (tmp_path / "long.yaml").write_text("#" * 1_000_001)
    with pytest.raises(InputError, match="more than the 1,000,000 that are read"):
        read_study(tmp_path / "long.yaml")


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"thinice\[yaml\]"):
        parse_study(GOOD, "x")


def test_more_cells_than_anybody_can_run_are_refused():
    text = GOOD.replace("rates: [1, 2]", f"rates: [{', '.join(map(str, range(1, 1200)))}]\nseeds: 1000")
    with pytest.raises(InputError, match="cells are more than 1,000,000"):
        parse_study(text, "x")


def test_a_method_of_pruning_stands_for_itself():
    lines = {
        name: parse_study(GOOD.replace(METHOD, name), "s").methods
        for name in ("lwm", "{name: lwm, method: lwm}", "hydra", "{name: hydra, method: hydra}")
    }
    assert lines["lwm"] == lines["{name: lwm, method: lwm}"]
    assert lines["hydra"] == lines["{name: hydra, method: hydra}"]
