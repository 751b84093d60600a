"""The versions of what we depend on: the lowest that are declared, the lock, and what pip installs today.

- ``versions.py lowest``: the lower bounds of pyproject.toml, as constraints for pip
- ``versions.py lock REPORT``: what pip would install (``pip install --dry-run --report``), as a lock
- ``versions.py changes REPORT``: how that differs from the lock, one line a package; nothing where it does not
- ``versions.py without NAME``: the lock without a package and those named alike, which may pin it (torch, torchvision)
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / ".ci" / "constraints.txt"
HEADER = "# The versions that the tests passed with last; `.ci/run lock` moves them, docs/dependencies.md says when."
NOT_OURS = re.compile(r"nvidia-.*|cuda-.*|triton|setuptools|thinice")
"""torch names these itself, exactly, and others for another platform or another build of it."""


def lowest() -> dict[str, str]:
    """Return the lowest declared version of each direct dependency, those of the extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = {}
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        for requirement in requirements:
            if requirement.startswith("thinice["):
                continue
            bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<[\w.]+)?", requirement)
            if bound is None:
                sys.exit(f"pyproject.toml: {requirement!r} must be name>=version, with the lowest that is tested")
            versions[bound[1]] = bound[2]
    return versions


def locked() -> dict[str, str]:
    """Return the versions of the lock."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def resolved(report: Path) -> dict[str, str]:
    """Return what pip would install: names in their normal form, versions without the build (+cpu, +cu130)."""
    told = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    versions = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"].partition("+")[0] for one in told}
    return {name: versions[name] for name in sorted(versions) if not NOT_OURS.fullmatch(name)}


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a line for each package of the second whose version is another one in the first."""
    return [f"{name}: {before.get(name, 'none')} -> {after[name]}" for name in after if before.get(name) != after[name]]


def constraints(versions: dict[str, str]) -> list[str]:
    """Return versions as pip reads them."""
    return [f"{name}=={versions[name]}" for name in sorted(versions)]


def main(command: str, argument: str = "") -> list[str]:
    """Return the lines that a command prints."""
    if command == "lowest":
        return constraints(lowest())
    if command == "lock":
        return [HEADER, *constraints(resolved(Path(argument)))]
    if command == "changes":
        return changes(locked(), resolved(Path(argument)))
    if command == "without":
        alike = (name for name in locked() if name.startswith(argument) or argument.startswith(name))
        return [HEADER, *constraints({name: locked()[name] for name in locked().keys() - set(alike)})]
    sys.exit(str(__doc__))


if __name__ == "__main__":
    for line in main(*sys.argv[1:] or ["help"]):
        print(line)
