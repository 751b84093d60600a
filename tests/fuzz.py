"""Files that differ from good ones in a few places: each is read to finite numbers, or refused in one line.

``python -m tests.fuzz onnx --seconds 120`` works on one kind of file; what breaks the rule is left in the folder that
it names. A reader in C++ may crash, so every kind has a process of its own.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import random
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.store.conftest import Bench
from thinice import load_classifier, load_samples, open_store
from thinice.errors import ThinIceError
from thinice.models import build, save_classifier
from thinice.studies.reported import read_reported

SLOWEST = 10.0
"""Seconds that one file may take on a busy machine."""
INTERESTING = (*(bytes([byte]) for byte in b"\x00\xff\x7f\x80(R}.{["), b"\xff\xff\xff\xff", b"\x00\x00\x00\x80")


def torch_zip(path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": OrderedDict(build("digits_cnn").state_dict())}, path)


def torch_legacy(path: Path) -> None:
    weights = build("digits_cnn").state_dict()
    torch.save({"epoch": 3, "net": weights}, path, _use_new_zipfile_serialization=False)


def own(path: Path) -> None:
    save_classifier(build("digits_cnn"), path, recipe={"epochs": 3}, class_names="abcdefghij", normalization="mnist")


def onnx_program(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter
        torch.onnx.export(build("digits_cnn").eval(), (torch.zeros(1, 1, 8, 8),), path, dynamo=False, opset_version=20)


def archive_of_images(path: Path) -> None:
    np.savez(path, x=np.zeros((6, 8, 8), np.uint8), y=np.arange(6), classes=np.array(list("abcdef")))


def read_classifier(path: Path) -> None:
    classifier = load_classifier(path, **({} if path.suffix == ".onnx" else {"architecture": "digits_cnn"}))
    for name, value in classifier.module.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise AssertionError(f"{name} is not finite")


def read_samples(path: Path) -> None:
    samples = load_samples(f"npz:{path}")
    inputs = samples.inputs[torch.arange(len(samples.inputs))]
    if not bool(((inputs >= 0) & (inputs <= 1)).all()):
        raise AssertionError("pixels beyond [0, 1]")


def reported(path: Path) -> None:
    path.write_text("- checkpoint: dense.pt\n  reported: 54.3\n- {checkpoint: 'pruned.pt', reported: 51%}\n")


def store(path: Path) -> None:
    with open_store(path, new=True).run(["thinice", "compare"], device="cpu", seed=0) as run:
        bench = Bench(run)
        bench.shard(bench.measurement([1, 2, 3]), [1, 2, 3])


def read_store(path: Path) -> None:
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    read_tables(path)


def log(path: Path) -> None:
    """Write the log of a store whose writer died, and the store as it was then."""
    database = path.with_suffix("")
    with open_store(database, new=True).run(["thinice", "compare"], device="cpu", seed=0) as run:
        bench = Bench(run)
        measurement = bench.measurement(range(1, 31))
        for sample_id in range(1, 31):  # what has adversarials stays in the log until it is long
            bench.shard(measurement, [sample_id], adversarials={sample_id: np.full((1, 2, 2), 0.5)})
        contents = database.read_bytes(), path.read_bytes()
    for file, content in zip((database.with_suffix(".then"), path), contents, strict=True):
        file.write_bytes(content)


def read_log(path: Path) -> None:
    database = path.with_suffix("")
    shutil.copy(path.with_name("good.then"), database)
    read_tables(database)
    epsilon = open_store(database).sql("select epsilon from epsilons")["epsilon"]
    if len(epsilon) > 30 or not (epsilon == 0.25).all():
        raise AssertionError("epsilons that nobody measured")


def read_tables(path: Path) -> None:
    with open_store(path) as opened:
        for name in opened.tables()["name"]:
            opened.sql(f"from {name}")


KINDS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], object]]] = {
    "zip": (".pt", torch_zip, read_classifier),
    "legacy": (".pt", torch_legacy, read_classifier),
    "own": (".pt", own, read_classifier),
    "safetensors": (".safetensors", own, read_classifier),
    "onnx": (".onnx", onnx_program, read_classifier),
    "npz": (".npz", archive_of_images, read_samples),
    "yaml": (".yaml", reported, read_reported),
    "store": (".duckdb", store, read_store),
    "log": (".duckdb.wal", log, read_log),
}
"""The suffix of each kind of file, what writes a good one, and what reads it."""


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return bytes that differ in one to four places, mostly near the beginning or the end, where files have frames."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed))
        if chance.random() < 0.8:
            place = chance.randrange(min(len(changed), 4096))
            place = chance.choice([place, len(changed) - 1 - place])
        length = chance.choice([1, 1, 1, 2, 4, 8, 64])
        match chance.randrange(6):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place : place + length] = chance.randbytes(length)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length] * chance.choice([1, 2, 100])
            case 4:
                new = chance.choice(INTERESTING)
                changed[place : place + len(new)] = new
            case _:
                changed[place:place] = chance.choice(INTERESTING) * length
        if len(changed) < 2:
            return content[:2]
    return bytes(changed)


def mutated_inside(content: bytes, chance: random.Random) -> bytes:
    """Return an archive around changed entries, whose own frame is good."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    pickles = [name for name in entries if name.endswith(".pkl")]
    name = chance.choice(pickles if pickles and chance.random() < 0.8 else [name for name in entries if entries[name]])
    entries[name] = mutated(entries[name], chance)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for entry, data in entries.items():
            new.writestr(entry, data)
    return buffer.getvalue()


def fault(read: Callable[[Path], object], path: Path) -> str | None:
    """Return what is wrong with how a file is read; ``None`` where it is read, or refused in one line in time."""
    before = time.process_time()
    try:
        read(path)
    except ThinIceError as error:
        if "\n" in str(error):
            return f"a message of several lines: {str(error)!r}"
    except Exception as error:  # noqa: BLE001 - to find those is what this is for
        return f"{type(error).__name__}: {error}"
    seconds = time.process_time() - before
    return f"took {seconds:.0f} s" if seconds > SLOWEST else None


def fuzz(kind: str, seconds: float, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Return how many files were read, and what was wrong; the files that show it stay in the folder."""
    suffix, write, read = KINDS[kind]
    chance = random.Random(seed)
    good = folder / f"good{suffix}"
    write(good)
    read(good)
    content = good.read_bytes()
    current = folder / f"{kind}{suffix}"
    faults: list[str] = []
    count = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(faults) < 10:
        inside = content.startswith(b"PK") and chance.random() < 0.6
        current.write_bytes((mutated_inside if inside else mutated)(content, chance))
        faulthandler.dump_traceback_later(60, exit=True)  # a file without an end
        wrong = fault(read, current)
        faulthandler.cancel_dump_traceback_later()
        if wrong is not None:
            current.rename(folder / f"{kind}_{seed}_{count}{suffix}")
            faults.append(f"{kind}_{seed}_{count}{suffix}: {wrong}")
        count += 1
    return count, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    torch.manual_seed(0)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    count, faults = fuzz(options.kind, options.seconds, options.seed, folder)
    print(f"{options.kind}: {count} files, {len(faults)} faults; folder {folder}")  # noqa: T201 - a command
    print("\n".join(faults))  # noqa: T201 - a command
    sys.exit(1 if faults or not count else 0)


if __name__ == "__main__":
    main()
