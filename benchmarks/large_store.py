"""How a large store behaves: insert, cached lookup, comparison and report, and every recipe of the documentation.

One comparison of two small networks is measured; the rows of all other networks are copies of its rows with other
numbers, written by SQL. Then each step says how long it took, how much processor time of it, and what memory it needed
at most beside what was there before.

    python benchmarks/large_store.py FOLDER --samples 50000 --networks 200
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import torch
from torch import nn

import thinice
from thinice.errors import StoreError

CLASSES, SIDE = 10, 2
MEMORY = Path("/proc/self/status")
COPIES = """
insert into checkpoints by name
select c.* exclude (checkpoint_id) replace ('copy-' || k as fingerprint, 'copy-' || k as name, null as path)
from checkpoints c, range(1, $copies + 1) r(k) where checkpoint_id = $pruned;

insert into measurements by name
select c.checkpoint_id, m.dataset_id, m.attack_id, m.run_id, m.created
from checkpoints c, measurements m where fingerprint like 'copy-%' and measurement_id = $measurement;

insert into predictions by name
select p.* replace (
    c.checkpoint_id as checkpoint_id,
    if(hash(sample_id, c.checkpoint_id) % 9 = 0, (prediction + 1) % $classes, prediction)::integer as prediction
)
from predictions p, checkpoints c
where p.checkpoint_id = $pruned and fingerprint like 'copy-%';

insert into epsilons by name
select e.* replace (
    m.measurement_id as measurement_id,
    (epsilon * (0.9 + (hash(sample_id, m.measurement_id) % 1000) / 5000))::real as epsilon
)
from epsilons e, measurements m join checkpoints using (checkpoint_id)
where e.measurement_id = $measurement and fingerprint like 'copy-%';

insert into comparisons by name
select $measurement as measurement_id, checkpoint_id as pruned_checkpoint_id, 'clean' as basis, 1 as run_id,
    current_localtimestamp() as created
from checkpoints where fingerprint like 'copy-%';

insert into statistics by name
select s.* replace (c.comparison_id as comparison_id)
from comparisons c, statistics s where s.comparison_id = $comparison and c.comparison_id <> $comparison;
"""


def network(seed: int) -> nn.Module:
    """Return a network that takes little time."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def selection(count: int) -> thinice.Samples:
    """Return samples with the labels that the first network gives most of them."""
    inputs = torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = network(0)(inputs).argmax(1)
    labels[::20] = (labels[::20] + 1) % CLASSES
    return thinice.as_samples(inputs, labels, classes=tuple(f"class {k}" for k in range(CLASSES)))


class Steps:
    """The steps with their seconds and megabytes, printed as they end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    @contextmanager
    def step(self, name: str):  # noqa: ANN201
        """Time what is done inside, and note the processor's time and the peak of memory."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun, worked, failed = self._memory("VmRSS"), time.perf_counter(), time.process_time(), ""
        try:
            yield
        except StoreError as error:
            failed = str(error)
        row = {
            "step": name,
            "seconds": round(time.perf_counter() - begun, 2),
            "processor": round(time.process_time() - worked, 2),
            "megabytes": round(self._memory("VmHWM") - before),
            "failed": failed,
        }
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def ask(self, path: Path, timeout: float) -> None:
        """Ask a store every recipe."""
        store = thinice.open_store(path)
        for name, query in recipes().items():
            with self.step(f"recipe: {name}"):
                store.sql(query, timeout=timeout)

    @staticmethod
    def _memory(name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", MEMORY.read_text())
        return int(found[1]) / 1e3 if found else float("nan")


def fill(path: Path, copies: int) -> None:
    """Write the rows of so many further networks into a store."""
    with duckdb.connect(path) as connection:
        ((comparison, measurement, pruned),) = connection.execute(
            "select comparison_id, measurement_id, pruned_checkpoint_id from comparisons"
        ).fetchall()
        keys = {"comparison": comparison, "measurement": measurement, "pruned": pruned}
        for statement in COPIES.split(";\n"):
            if statement.strip():
                wanted = set(re.findall(r"\$(\w+)", statement))
                known = {**keys, "copies": copies, "classes": CLASSES}
                connection.execute(statement, {name: known[name] for name in wanted})


def insert(steps: Steps, path: Path, ids: np.ndarray) -> None:
    """Write the epsilons of one network more, and ask whether any are missing."""
    far = np.zeros(len(ids), np.int64)
    with thinice.open_store(path).run(["x"], device="cpu", seed=0) as run:
        with steps.step("insert the epsilons of one network more"):
            checkpoint = run.checkpoint(fingerprint="new", name="new", architecture="x", classes=CLASSES, sparsity=0.5)
            measurement = run.measurement(checkpoint, 1, run.attack(name="fmn", norm="linf", settings={"steps": 3}))
            run.unmeasured(measurement, ids)
            run.add_epsilons(
                measurement,
                ids,
                epsilon=np.full(len(ids), 0.1),
                outcomes=np.ones(len(ids), np.int8),
                predictions=far,
                clean_predictions=far,
                evaluations=far.astype(np.float32),
            )
        with steps.step("look up what is missing"):
            run.unmeasured(measurement, ids)


def recipes() -> dict[str, str]:
    """Return the queries of the documentation by page and heading."""
    found: dict[str, str] = {}
    for page in ("sql", "measures"):
        text = (Path(__file__).parents[1] / "docs" / f"{page}.md").read_text(encoding="utf-8")
        heading = ""
        for title, query in re.findall(r"^##+ ([^\n]+)$|^```sql\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            heading = title or heading
            if query:
                found[f"{page}.md: {heading}"] = query
    return found


def main() -> None:
    """Measure, and write the table beside the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds that a recipe may take")
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--reuse", action="store_true", help="ask the store that an earlier run left in the folder")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    needed = arguments.samples * arguments.networks * 150
    if shutil.disk_usage(arguments.folder).free < 2 * needed:
        parser.error(f"{arguments.folder} has no room for {needed / 1e9:.1f} GB and as much again")
    path, steps, samples = arguments.folder / "thinice.duckdb", Steps(), selection(arguments.samples)

    def compare() -> thinice.Comparison:
        options = {"attack": "fmn", "steps": 2, "batch_size": 8192, "progress": False}
        return thinice.compare(network(0), network(1), samples, store=path, **options)

    if not arguments.reuse:
        path.unlink(missing_ok=True)
        with steps.step("measure and compare two networks"):
            compare()
        with steps.step(f"rows of {arguments.networks - 1} further networks"):
            fill(path, arguments.networks - 1)
        insert(steps, path, samples.sample_ids.numpy())
    with steps.step("open the store"):
        store = thinice.open_store(path)
    with steps.step("compare, all in the store"):
        compare()
    for name, what in {"runs": store.runs, "tables": store.tables, "run 1": lambda: store.run_record(1)}.items():
        with steps.step(name):
            what()
    with steps.step("check"):
        thinice.check(store)
    steps.ask(path, arguments.timeout)
    if not arguments.no_report:
        with steps.step("report"):
            page = thinice.save_report(store, arguments.folder / "report.html", overwrite=True)
            print(f"{page.stat().st_size / 1e6:.1f} MB")
    (arguments.folder / "steps.json").write_text(json.dumps(steps.rows, indent=1))
    print(f"{path.stat().st_size / 1e9:.2f} GB in the store")


if __name__ == "__main__":
    main()
