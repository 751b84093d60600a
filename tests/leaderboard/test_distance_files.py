"""Distance files: those that torch and NumPy write are read, and nothing in a hostile one is carried out."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from thinice.errors import InputError
from thinice.leaderboard.distance_files import distance_bytes, parse_distances, read_distances

VALUES = np.array([0.0, 0.03125, 0.5, 0.0625], np.float32)


def as_the_public_benchmark_writes():
    """A list of tensors with one number each, all parts of one."""
    distances = []
    distances.extend(torch.from_numpy(VALUES.copy()))
    return distances


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "held",
    [
        as_the_public_benchmark_writes(),
        torch.from_numpy(VALUES.copy()),
        torch.from_numpy(VALUES.astype(np.float64)),
        [torch.tensor([value]) for value in VALUES],
        VALUES,
        VALUES.astype(np.float64),
        list(VALUES),
        VALUES.tolist(),
        tuple(VALUES.tolist()),
        [torch.from_numpy(np.repeat(VALUES, 3))[3 * k] for k in range(4)],
    ],
    ids=["tensors", "tensor", "double", "lists of one", "array", "array64", "scalars", "numbers", "tuple", "views"],
)
def test_what_torch_and_numpy_write_is_read(held, protocol):
    content = pickle.dumps(held, protocol=protocol)
    np.testing.assert_array_equal(parse_distances(content), VALUES)


def test_a_strided_tensor_is_read_as_it_is():
    held = torch.from_numpy(np.repeat(VALUES, 2))[::2]
    np.testing.assert_array_equal(parse_distances(pickle.dumps(held)), VALUES)


def test_what_is_written_is_a_list_of_numbers_that_calls_nothing(tmp_path):
    content = distance_bytes([0, 0.1, np.float32(0.25), np.inf])
    names = {operation.name for operation, _, _ in pickletools.genops(content)}
    assert not names & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "NEWOBJ", "INST", "OBJ"}
    assert pickle.loads(content) == [0.0, 0.1, 0.25, float("inf")]
    assert (torch.tensor(pickle.loads(content)) > 8 / 255).tolist() == [False, True, True, True]  # as their code reads
    (tmp_path / "d.pickle").write_bytes(content)
    assert read_distances(tmp_path / "d.pickle").tolist() == [0.0, 0.1, 0.25, float("inf")]


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(tmp_path):
    mark = str(tmp_path / "mark")
    storage = io.BytesIO()
    torch.save(Runs(os.mkdir, mark), storage, _use_new_zipfile_serialization=False)
    return {
        "a call": pickle.dumps(Runs(os.mkdir, mark)),
        "a call in a list": pickle.dumps([0.1, Runs(os.mkdir, mark)]),
        "protocol 0": pickle.dumps(Runs(os.mkdir, mark), protocol=0),
        "inside a tensor": pickle.dumps(Runs(torch.storage._load_from_bytes, storage.getvalue())),
        "evaluated": pickle.dumps(Runs(eval, f"__import__('os').mkdir({mark!r})")),
        "an object": pickle.dumps(ValueError("x")),
        "an instruction": b"(imkdir\nos\n.",
        "by a persistent id": b"\x80\x02(Ustorage\ncposix\nmkdir\nU\x01xU\x03cpuK\x01tQ.",
    }


@pytest.mark.parametrize("kind", list(hostile(__import__("pathlib").Path("/nowhere"))))
def test_nothing_in_a_file_is_carried_out(tmp_path, kind):
    with pytest.raises(InputError) as error:
        parse_distances(hostile(tmp_path)[kind], "`file` d.pickle")
    assert str(error.value).startswith("`file` d.pickle ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mark").exists()


def test_a_refused_call_is_named():
    with pytest.raises(InputError, match=r"wants to run (posix|nt)\.mkdir, which no list of distances needs"):
        parse_distances(pickle.dumps(Runs(os.mkdir, "x")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle of distances"),
        (b"not a pickle", "is no pickle of distances"),
        (pickle.dumps([]), "holds no distances"),
        (pickle.dumps([0.1, -0.1]), "holds -0.1, which is no distance"),
        (pickle.dumps([0.1, float("nan")]), "holds nan, which is no distance"),
        (pickle.dumps({"a": 0.1}), "uses SETITEM|holds dict"),
        (pickle.dumps([0.1, "x"]), "holds str among its distances"),
        (pickle.dumps([True]), "holds bool among"),
        (pickle.dumps(torch.zeros(2, 2)), "tensor with several axes"),
        (pickle.dumps(torch.zeros(2, dtype=torch.int64)), "numbers of torch.LongStorage"),
        (pickle.dumps(np.array(["a"])), "array of|no pickle"),
        (distance_bytes([0.5])[:-3], "damaged"),
        (b"\x80\x04" + b"]" * 60 + b".", "damaged"),
    ],
)
def test_what_is_no_list_of_distances_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        parse_distances(content)


def test_what_is_no_pickle_is_told_without_the_numbers_of_instructions():
    with pytest.raises(InputError, match=r"^`file` is no pickle of distances, or damaged$"):
        parse_distances(b"hello")


def test_a_tensor_cannot_claim_more_numbers_than_the_file_has():
    good = pickle.dumps(torch.tensor([0.5, 0.25]), protocol=2)
    shape = b"K\x02\x85"
    assert good.count(shape) == 1
    with pytest.raises(InputError, match="claims more numbers"):
        parse_distances(good.replace(shape, b"J\xff\xff\xff\x7f\x85"))


def test_a_file_that_claims_gigabytes_takes_none(tmp_path):
    """A memo of two thousand million entries, a text of eight gigabytes: in a process that may take one."""
    files = {"memo": b"\x80\x04]r\xff\xff\xff\x7f.", "text": b"\x80\x04\x8d" + (2**33).to_bytes(8, "little") + b"x."}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    script = (
        "import resource, sys\nfrom thinice.errors import InputError\n"
        "from thinice.leaderboard.distance_files import read_distances\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[1:]:\n    try:\n        read_distances(name)\n    except InputError:\n        pass\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 200_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def nested(levels):
    """A tuple of two tuples of two tuples …, each pair the same object: small, and endless as text."""
    return b"\x80\x04)" + b"".join(b"\x940h" + bytes([k]) + b"h" + bytes([k]) + b"\x86" for k in range(levels))


@pytest.mark.parametrize(
    "content",
    [
        nested(60) + b"X\x01\x00\x00\x00a\x93.",  # as the name of a module
        b"\x80\x04cnumpy\ndtype\n" + nested(60)[2:] + b"\x85R.",
        (
            b"\x80\x04cnumpy._core.numeric\n_frombuffer\n(J\xff\xff\xff\x7fcnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
            b"J\xff\xff\xff\x7f\x85X\x01\x00\x00\x00CtR."
        ),  # as many bytes as a number says
        b"\x80\x04" + b"]" * 200_000 + b"(t" * 200_000 + b".",
    ],
    ids=["a name", "a type", "bytes", "marks"],
)
@pytest.mark.slow
def test_a_small_file_takes_no_time(content):
    start = time.monotonic()
    with pytest.raises(InputError):
        parse_distances(content)
    assert time.monotonic() - start < 10


def test_pickles_inside_pickles_call_nothing_and_count_together(monkeypatch):
    """Bytes that load bytes that load bytes would take time that grows with a power of their depth."""
    inner = pickle.dumps(torch.tensor([0.5]), protocol=4)
    with pytest.raises(InputError, match=r"wants to run torch\.storage\._load_from_bytes"):
        parse_distances(pickle.dumps(Runs(torch.storage._load_from_bytes, inner * 5)))
    monkeypatch.setattr("thinice.leaderboard.distance_files.MOST_STEPS", 100)
    with pytest.raises(InputError, match="more than 100 instructions"):
        parse_distances(pickle.dumps(as_the_public_benchmark_writes()))


def test_pipes_folders_and_long_files_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "long").write_bytes(distance_bytes([0.1] * 50))
    monkeypatch.setattr("thinice.leaderboard.distance_files.LARGEST", 100)
    for name in ("fifo", "long", ".", "none"):
        with pytest.raises(InputError, match="cannot be read"):
            read_distances(tmp_path / name)
