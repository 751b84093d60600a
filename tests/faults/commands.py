"""Commands in processes of their own that die at a statement to the store, or find the disk full; and their stores."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pandas as pd

from thinice.store import open_store

PRELOADED = ["thinice", "torch", "duckdb", "thinice.cli.app", "thinice.analysis.comparison", "thinice.leaderboard"]


def forked():
    """Return what starts processes that have imported torch already, and no thread yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def carry_out(words, folder, statement=None, file_size=None, counted=None):
    """Run a command in a folder, until it sends a statement of this number to the store, or all of it.

    What it says goes to a file beside the folder; `counted` gets the number of statements.
    """
    import thinice  # noqa: PLC0415 - in the process of the command
    from tests.leaderboard.conftest import WEAK  # noqa: PLC0415
    from thinice.analysis import session  # noqa: PLC0415
    from thinice.leaderboard.protocol import benchmark  # noqa: PLC0415
    from thinice.store import connection  # noqa: PLC0415

    os.chdir(folder)
    session.SECONDS_A_SHARD = 0.0  # each batch is written, so that there is more to disturb
    thinice.benchmark = partial(benchmark, protocol=WEAK)
    plain, sent = connection.plain, 0

    def watched(value):
        nonlocal sent
        sent += 1
        if counted is not None:
            counted.value = sent
        if sent == statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(value)

    connection.plain = watched  # each statement's parameters go through it
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    output = os.open(_said(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["thinice", *words]
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    from thinice.cli import console  # noqa: PLC0415

    console()


@contextmanager
def started(words, folder, **options):
    """Yield the process of a command; it is gone at the end."""
    process = forked().Process(target=carry_out, args=([str(word) for word in words], str(folder)), kwargs=options)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def finished(words, folder, **options):
    """Return the exit code of a command, and what it said."""
    with started(words, folder, **options) as process:
        process.join()
        return process.exitcode, said(folder)


def said(folder):
    """Return what the last command in a folder said."""
    with suppress(FileNotFoundError):
        return _said(folder).read_text()
    return ""


def _said(folder):
    return Path(folder).with_name(f"{Path(folder).name}-said.txt")  # the folder may be a disk that is full


OF_RUNS = {"runs", "run_conditions", "run_networks", "thinice_schema"}
"""Tables that tell of runs, which are others after each kill."""
TIMES = ["run_id", "seconds", "path"]
"""Columns that are others each time, beside moments."""
KEYS = {
    "checkpoint_id": "select checkpoint_id as key, fingerprint as name from checkpoints",
    "dataset_id": "select dataset_id as key, fingerprint as name from datasets",
    "attack_id": "select attack_id as key, fingerprint as name from attacks",
    "measurement_id": """
        select measurement_id as key, c.fingerprint || ' ' || d.fingerprint || ' ' || a.fingerprint as name
        from measurements join checkpoints c using (checkpoint_id) join datasets d using (dataset_id)
        join attacks a using (attack_id)
    """,
    "comparison_id": """
        select comparison_id as key, concat_ws(' ', c.fingerprint, d.fingerprint, a.fingerprint, p.fingerprint, basis)
            as name
        from comparisons join measurements using (measurement_id) join checkpoints c using (checkpoint_id)
        join datasets d using (dataset_id) join attacks a using (attack_id)
        join checkpoints p on p.checkpoint_id = pruned_checkpoint_id
    """,
}
"""What the numbers of rows stand for: they are given in the order in which rows came."""
ALIASES = {
    "pruned_checkpoint_id": "checkpoint_id",
    "dense_verdicts": "measurement_id",
    "pruned_verdicts": "measurement_id",
    "autoattack_id": "measurement_id",
    "ho_fmn_id": "measurement_id",
}


def facts(path):
    """Return all rows of all tables of a store by table, without times and runs, keys replaced by what they mean."""
    store = open_store(path)
    names = {key: store.sql(query).set_index("key")["name"] for key, query in KEYS.items()}
    found = {}
    for table in store.tables().query("kind == 'table'")["name"]:
        if table in OF_RUNS:
            continue
        rows = store.sql(f"from {table}").select_dtypes(exclude="datetime").drop(columns=TIMES, errors="ignore")
        for column in rows.columns:
            meaning = ALIASES.get(column, column)
            if meaning in names:
                rows[column] = rows[column].map(lambda key, meaning=meaning: _meaning(names[meaning], key))
        texts = rows.astype(object).map(lambda value: value.hex() if isinstance(value, bytes) else repr(value))
        found[table] = sorted(texts.itertuples(index=False, name=None))
    return found


def _meaning(names, key):
    return None if pd.isna(key) else names[key]


def differences(path, other):
    """Return the tables in which two stores differ, each with the first rows that only one of them has."""
    ours, theirs = facts(path), facts(other)
    return {
        table: (sorted(set(ours[table]) ^ set(theirs[table]))[:4], len(ours[table]), len(theirs[table]))
        for table in ours
        if ours[table] != theirs[table]
    }
