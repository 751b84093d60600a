"""Ctrl-C ends every command at any moment: within a second, with one line and exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from tests.report.stores import write_store
from thinice import load_samples
from thinice.errors import InputError, StoreError
from thinice.store import open_store

pytestmark = pytest.mark.slow

ENDLESS = "select count(*) from range(1000000) a, range(1000000) b where hash(a.range, b.range) = 1"
SOON = 6.0
"""Seconds: a second, and what a busy machine adds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("stopped")
    write_store(place / "thinice.duckdb", load_samples("digits", limit=60))
    return place


@contextmanager
def started(folder, *words):
    """Run a command as the console script does; it says "begun" when Python has begun to run thinice."""
    script = (
        f"import sys; sys.argv = ['thinice', *{words!r}]; import thinice.cli as cli\n"
        "cli.watch_for_stop(); print('begun', flush=True); cli.console()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process):
    """Send Ctrl-C and return the seconds until the end, and what was said of it."""
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return time.monotonic() - before, err


def ending(process, err):
    return f"exit code {process.returncode}, said: {err}"


COMMANDS = {
    "sql": ("sql", ENDLESS),
    "export": ("export", "a.csv", "--what", ENDLESS),
    "report": ("report", "-o", "page.html"),
    "check": ("check",),
    "runs": ("runs",),
    "demo": ("demo", "--store", "new.duckdb", "--quiet"),
    "compare": ("compare", "nothing.pt", "nothing.pt"),
}


@pytest.mark.parametrize("delay", [0.0, 0.3])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_during_the_start(folder, command, delay):
    with started(folder, *COMMANDS[command]) as process:
        time.sleep(delay)
        seconds, err = stop(process)
        if process.returncode in (0, 1) and command not in ("sql", "export", "demo"):
            pytest.skip("it was faster")
        assert process.returncode == 130, ending(process, err)
        assert err.startswith("thinice: stopped."), err
        assert err.count("\n") == 1, err
        assert seconds < SOON


@pytest.mark.parametrize(("command", "delay"), [("sql", 5.0), ("export", 5.0), ("demo", 9.0)])
def test_ctrl_c_in_the_middle(folder, command, delay):
    with started(folder, *COMMANDS[command]) as process:
        time.sleep(delay)
        seconds, err = stop(process)
        if process.returncode == 0:
            pytest.skip("it was faster")
        assert process.returncode == 130, ending(process, err)
        assert err.startswith("thinice: stopped."), err
        assert err.count("\n") == 1, err
        assert seconds < SOON
    assert not (folder / "a.csv").exists()


def test_ctrl_c_twice_ends_at_once(folder):
    with started(folder, *COMMANDS["sql"]) as process:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        seconds, err = stop(process)
        assert (process.returncode, err) == (130, "thinice: stopped.\n")
        assert seconds < SOON


def test_code_that_swallows_ctrl_c_is_ended_all_the_same():
    script = (
        "import time, thinice.cli.stopping as stopping\nstopping.watch_for_stop()\n"
        "def stubborn():\n    while True:\n        try:\n            print('begun', flush=True)\n"
        "            time.sleep(60)\n        except KeyboardInterrupt:\n            pass\n"
        "stopping.stoppable(stubborn)()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "begun\n"
    seconds, err = stop(process)
    assert (process.returncode, err) == (130, "thinice: stopped.\n")
    assert seconds < SOON


def test_a_query_has_a_time_limit(folder, tmp_path):
    store = open_store(folder / "thinice.duckdb")
    before = time.monotonic()
    with pytest.raises(StoreError, match=r"given up after 0\.3 seconds"):
        store.sql(ENDLESS, timeout=0.3)
    with pytest.raises(StoreError, match=r"given up after 0\.3 seconds"):
        store.export(tmp_path / "a.parquet", what=ENDLESS, timeout=0.3)
    assert 0.6 <= time.monotonic() - before < 2 * SOON
    assert not list(tmp_path.iterdir())
    assert store.sql("select 1 as one", timeout=60)["one"].tolist() == [1]
    with pytest.raises(InputError, match="`timeout` must be above 0"):
        store.sql("select 1", timeout=0)


def test_the_command_has_the_time_limit_too(folder):
    with started(folder, "sql", ENDLESS, "--timeout", "0.5") as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert err == "thinice: the query was given up after 0.5 seconds, as `timeout` says\n"


@pytest.fixture
def python_hears_ctrl_c():
    """Give Ctrl-C Python's own meaning: a shell's background jobs ignore it, and the query would never end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_hears_ctrl_c")
def test_ctrl_c_in_python_raises_and_ends_the_query(folder):
    store = open_store(folder / "thinice.duckdb")
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.sql(ENDLESS)
    assert time.monotonic() - before < SOON
    assert store.sql("select 1 as one")["one"].tolist() == [1]
