"""What reaches the terminal: nothing that steers it, no name that fills it, and no encoding that breaks it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from thinice.cli.options import Format
from thinice.cli.output import put, render
from thinice.engines import progress
from thinice.engines.progress import Progress
from thinice.errors import InputError, MissingExtraError, StoreError
from thinice.printable import escaped, shown
from thinice.store import open_store

EVIL = "a\x1b[31m\x07\x00\x9b\u202eb\u200bü"
"""ESC, BEL, NUL, C1, a turn of the direction of writing, an invisible letter; and one that is none of these."""
STEERING = set(EVIL) - set("a[31mbü")
LONG = "n" * 100_000
TERMINAL_FORMATS = ("table", "markdown")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store in which everything that a stranger can name is named by one."""
    place = tmp_path_factory.mktemp("hostile")
    store = open_store(place / "thinice.duckdb", new=True)
    with store.run(["thinice", EVIL, LONG], device=EVIL, seed=0) as run:
        for k, name in enumerate((EVIL, LONG)):
            run.checkpoint(fingerprint=str(k), name=name, architecture=name, classes=3, sparsity=0)
        run.dataset(
            fingerprint="data", name=EVIL, split=EVIL, shape=(1, 2, 2), classes=[EVIL], sample_ids=[1], labels=[0],
            digests=np.array([1], np.uint64), sources=[EVIL],
        )  # fmt: skip
    return place


def typed(folder, *words, encoding="utf-8"):
    """Run a command as a process; the encoding is that of its output, and what comes back is bytes."""
    script = f"import sys; sys.argv = ['thinice', *{words!r}]; from thinice.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=folder, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", TERMINAL_FORMATS)
@pytest.mark.parametrize("command", [["sql", "from checkpoints"], ["sql", "from samples"], ["runs"]], ids=" ".join)
def test_names_of_strangers_steer_no_terminal_and_fill_none(folder, command, how):
    done = typed(folder, *command, "--format", how)
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert not STEERING & set(text)
    assert "\\x1b[31m\\x07\\x00\\x9b\\u202eb" in text
    assert max(map(len, text.splitlines())) < 3000


def test_columns_are_names_too(folder):
    done = typed(folder, "sql", f'select 1 as "{EVIL.replace(chr(0), "")}"')
    assert done.returncode == 0, done.stderr
    assert not STEERING & set(done.stdout.decode())


def test_json_means_what_the_store_holds_and_steers_nothing(folder):
    text = typed(
        folder, "sql", "select name from checkpoints order by length(name)", "--format", "json"
    ).stdout.decode()
    assert not STEERING & set(text)
    assert [row["name"] for row in json.loads(text)] == [EVIL, LONG]


def test_csv_is_whole_for_programs_and_escaped_for_terminals(monkeypatch, capsys):
    text = render([{"name": EVIL}], Format.CSV)
    put(text, Format.CSV)
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["name"], [EVIL]]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    put(text, Format.CSV)
    assert capsys.readouterr().out == f"name\n{escaped(EVIL)}\n"


def test_errors_are_one_printable_line(folder):
    done = typed(folder, "sql", f'select "{LONG}\x1b[2J" from runs')
    line = done.stderr.decode()
    assert done.returncode == 1
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "there is no column" in line
    assert len(line) < 1100


@pytest.mark.parametrize("kind", [InputError, StoreError, lambda text: MissingExtraError(text, "x")])
def test_every_error_is_printable_from_its_birth(kind):
    text = str(kind(f"{EVIL}\n{LONG}"))
    assert text.isprintable()
    assert len(text) <= 1000


def test_the_progress_line_shows_a_name_without_obeying_it():
    stream = io.StringIO()
    progress._terminal(stream)(Progress(EVIL + LONG, 1, 2, 0, 1, 0, 0, 0.1, 1.0, "l2"))
    text = stream.getvalue().removeprefix("\r\x1b[2K")  # its own
    assert text.isprintable()
    assert "a\\x1b[31m" in text
    assert len(text) < 200
    log = io.StringIO()
    progress._log(log, every=0)(Progress(EVIL + LONG, 2, 2, 0, 1, 0, 0, 0.1, 1.0, "l2"))
    assert log.getvalue().rstrip("\n").isprintable()
    assert len(log.getvalue()) < 200


def test_shown_keeps_the_ends_of_a_name_and_its_bound():
    assert shown("dense.pt") == "dense.pt"
    assert shown("x" * 60) == "x" * 60
    assert shown("a" + "x" * 70 + ".pt") == "a" + "x" * 29 + "…" + "x" * 26 + ".pt"
    for text in (EVIL * 100, "\x1b" * 50, LONG, "\udcff" * 30):
        assert shown(text).isprintable()
        assert len(shown(text)) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_every_encoding_is_enough(folder, encoding):
    query = "select 'ü ─ … → 界' as text"
    done = typed(folder, "sql", query, encoding=encoding)
    assert done.returncode == 0, done.stderr
    umlaut = "\\xfc" if encoding == "ascii" else "ü"
    ellipsis = "…" if encoding == "cp1252" else "..."
    assert f"{umlaut} - {ellipsis} -> \\u754c" in done.stdout.decode(encoding)
    assert set(done.stdout.decode(encoding).splitlines()[1]) == {"-"}
    assert typed(folder, "runs", encoding=encoding).returncode == 0
    assert typed(folder, "compare", "--help", encoding=encoding).returncode == 0
    answer = typed(folder, "sql", query, "--format", "json", encoding=encoding)
    assert json.loads(answer.stdout.decode(encoding)) == [{"text": "ü ─ … → 界"}]
    wrong = typed(folder, "sql", "select '界' + epsilom from epsilons", encoding=encoding)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(b"thinice: ")


def test_text_that_a_spreadsheet_would_run_is_marked_in_csv_and_numbers_are_not():
    rows = [{"=name": text, "n": -1.5} for text in ("=1+1", "+1", "-1", "@a", "\ta", "a=1")]
    lines = list(csv.reader(io.StringIO(render(rows, Format.CSV))))
    assert lines[0] == ["'=name", "n"]
    assert [line[0] for line in lines[1:]] == ["'=1+1", "'+1", "'-1", "'@a", "'\ta", "a=1"]
    assert {line[1] for line in lines[1:]} == {"-1.5"}


def test_an_option_that_is_unknown_steers_no_terminal(run):
    code, _, err = run("measure", "--no\x1b[2J")
    assert code == 2
    assert "\x1b" not in err
    assert "--no" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there the reader's end is not told")
@pytest.mark.parametrize("query", ["select 1", "from range(200000)"])
def test_a_reader_that_leaves_ends_a_command_with_141_and_no_word(tmp_path, query):
    open_store(tmp_path / "thinice.duckdb", new=True)
    ears, mouth = os.pipe()
    os.close(ears)
    script = f"import sys; sys.argv = ['thinice', 'sql', {query!r}]; from thinice.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=mouth, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(mouth)
    assert (done.returncode, done.stderr) == (141, "")
