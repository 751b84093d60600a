"""Names: found, misspelt, paths; where data are kept; what is not imported."""

import subprocess
import sys

import numpy as np
import pytest

from thinice.data import DATASETS, data_folder, find_dataset, load_samples
from thinice.errors import DataError, InputError

NAMES = (
    *("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "imagenette", "imagenet"),
    *("folder:PATH", "npz:PATH"),
)


def test_every_name_is_registered_once():
    assert DATASETS.names() == NAMES
    assert all(summary and "\n" not in summary for summary in DATASETS.summaries().values())
    assert all(callable(DATASETS.get(name)) for name in NAMES)


@pytest.mark.parametrize("name", ["fashion-mnist", "Fashion_MNIST", "FASHION-MNIST"])
def test_case_and_underscores_do_not_matter(name):
    assert find_dataset(name)[0] == "fashion-mnist"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar", r"'cifar' \(did you mean cifar10 or cifar100\?\)"),
        ("mnst", r"did you mean mnist\?"),
        ("qqqq", r"called 'qqqq'; known: digits, mnist, fashion-mnist, .*, folder:PATH, npz:PATH$"),
        (
            "/no/such/place",
            "no data set and no folder or .npz file is called '/no/such/place'; known: digits",
        ),
        ("fodler:/tmp", r"did you mean folder\?"),
        ("folder", "data set 'folder': write folder:PATH"),
        ("npz:", "data set 'npz:': write npz:PATH"),
        ("digits:3", "data set 'digits:3': write digits"),
        ("__import__('os')", "no data set"),
        ("", "no data set"),
    ],
)
def test_unknown_names_are_refused_in_one_line(name, message):
    with pytest.raises(DataError, match=message) as refusal:
        load_samples(name)
    assert "\n" not in str(refusal.value)


def test_a_path_is_enough(tmp_path):
    archive = tmp_path / "set.npz"
    np.savez(archive, x=np.zeros((2, 1, 4, 4)), y=[0, 1])
    assert load_samples(archive).name == f"npz:{archive}"
    assert load_samples(str(archive)).fingerprint == load_samples(f"npz:{archive}").fingerprint
    assert find_dataset(str(tmp_path)) == ("folder:PATH", tmp_path)


def test_where_data_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("THINICE_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.delenv("THINICE_DATA")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for platform, place in (
        ("linux", ".local/share/thinice/data"),
        ("darwin", "Library/Application Support/thinice/data"),
        ("win32", "AppData/Local/thinice/data"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        for variable in ("XDG_DATA_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(variable, raising=False)
        assert data_folder() == tmp_path / place
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "thinice" / "data"


@pytest.mark.slow
def test_torchvision_is_imported_only_by_the_sets_that_need_it():
    code = "import sys, thinice.data; sys.exit('torchvision' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["x" * 5000, f"folder:{'x' * 5000}", f"npz:{'x' * 5000}.npz"])
def test_a_name_that_is_too_long_is_one_line(name):
    with pytest.raises(DataError, match=r"cannot be read: File name too long$"):
        load_samples(name)


@pytest.mark.parametrize("name", ["~nosuchuser", "folder:~nosuchuser/images", "npz:~nosuchuser/images.npz"])
def test_a_home_that_is_not_there_is_said(name):
    with pytest.raises(
        InputError, match=r"`data` ~nosuchuser.*: ~nosuchuser has no home folder: write the path in full"
    ):
        load_samples(name)
