"""One word for one thing: the old names of the glossary's things stand nowhere in code, SQL, help texts and pages.

Which words are the right ones, and what they mean, is in docs/glossary.md. CHANGELOG.md and tests may name old words.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

INSTEAD = {
    r"races?": "tmn",
    r"witness(es)?": "adversarial(s)",
    r"fell[_ ]to": "broken_by, broken by",
    r"campaigns?": "session",
    r"scrutin\w+": "checks",
    r"rivals?|rival_\w+|RivalPredictors": "runner-up classes; predictors",
    r"thinnest": "closest",
    r"settle[sd]?": "prepare_classifier; converged",
    r"foretell\w*": "predict",
    r"stumbl\w+": "what happened",
    r"judge[sd]?": "verify",
    r"astray": "needs_other_search",
    r"soundings?": "probe, curvature_probe",
    r"unrest": "estimate_change",
    r"starved": "gradient_masked",
    r"broken_promises|_promises": "gradient_error, first_order_gain",
    r"draw_corners|corner_steps": "random_vertex_search",
    r"push_out|pull_in": "nudge_across, move_to_boundary",
    r"class Nearest": "MinNormResult",
    r"Tally": "ProgressCounter",
    r"sniff": "detect_format",
    r"another_way": "run_fmn",
    r"surprise[ds]?": "improvement_over_prediction, the loss",
    r"saved_masks": "mask_files",
    r"Unread": "IgnoredObject",
    r"fast_form": "inference_form",
    r"unborn": "temporary_path",
    r"nest(?=\()": "temporary_folder",
    r"_bury": "mark_dead_runs",
    r"ledger": "migrations_table",
    r"step_aside": "waiting for the process that holds the store",
    r"Pen\b": "Run",
    r"Speaker": "Messages",
    r"--kept|kept(?==0\.)": "--density, density=",
    r"--by\b": "--robust-by",
    r"--both-ways|both_ways|--shortcut": "--skip-known, known_broken",
    r"--tune-on": "--tune-split",
}
"""Old words as patterns of whole words, and what is said now."""

ALLOWED: dict[str, tuple[str, ...]] = {r"--kept|kept(?==0\.)": ("thinice/report/report.css",)}
"""Pattern to the beginnings of paths in which it may stand: a variable of CSS is no option."""

FOLDERS = ("thinice", "docs", "notebooks", "benchmarks", ".ci")
ENDINGS = {".py", ".sql", ".md", ".html", ".css", ".js", ".ipynb", ".toml"}
PAGES = sorted(
    [ROOT / "README.md", ROOT / "pyproject.toml"]
    + [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in ENDINGS]
)


def places(pattern: str, text: str) -> list[str]:
    """The lines with the pattern between other characters than letters: `_race` and `race_` count, `trace` does not."""
    whole = re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", 0 if re.search("[A-Z]", pattern) else re.IGNORECASE)
    if not whole.search(text):  # at once, for most pages have none
        return []
    return [line.strip()[:100] for line in text.splitlines() if whole.search(line)]


def test_a_word_is_found_wherever_it_stands():
    text = "the Races\nrace_steps = 3\na trace\nembrace\n'--attack race'"
    assert places("races?", text) == ["the Races", "race_steps = 3", "'--attack race'"]
    assert places("Pen\\b", "a pen\nPen\nPencil\nopen") == ["Pen"]


@cache
def pages() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}


@pytest.mark.parametrize("pattern", INSTEAD)
def test_an_old_word_stands_nowhere(pattern):
    left = {
        page: found
        for page, text in pages().items()
        if (found := places(pattern, text)) and not page.startswith(ALLOWED.get(pattern, ("\0",)))
    }
    assert not left, f"say {INSTEAD[pattern]}"


def test_the_pages_are_those_of_the_project():
    names = {str(path.relative_to(ROOT)) for path in PAGES}
    assert {"README.md", "docs/glossary.md", "docs/sql.md", "thinice/cli/app.py", "thinice/report/report.html"} <= names
    assert not any(Path(name).parts[0] == "tests" for name in names)
