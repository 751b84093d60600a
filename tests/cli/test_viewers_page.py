"""The page about other programs: its commands and the Python that needs nothing else run."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "viewers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("measured")
def test_commands_and_python_run(run):
    names: dict[str, object] = {}
    ran = []
    for kind, text in BLOCKS:
        if kind == "bash":
            program, *words = shlex.split(text)
            assert program == "thinice"
            code, _, err = run(*words)
            assert code == 0, err
        if kind == "python":
            exec(compile(text, "docs/viewers.md", "exec"), names)
        ran.append(kind)
    assert {"bash", "python"} <= set(ran)
    assert names["picture"].size == (8, 8)
    columns = set(re.findall(r"row\[\"(\w+)\"\]", PAGE)) | set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE))
    assert columns <= set(names["rows"].columns)
    assert len(columns) > 8


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "text" and "import" in text])
def test_python_for_other_programs_is_python(text):
    compile(text, "docs/viewers.md", "exec")
