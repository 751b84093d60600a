"""Options: declared once, they mean the same in every command; the names in help texts are those of the registries."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

import thinice
from thinice.analysis.options import (
    CompareOptions,
    EvaluateOptions,
    MeasureAllOptions,
    Option,
    chosen,
    declared,
    search_options,
)
from thinice.attacks import ATTACKS
from thinice.cli.app import COMMANDS
from thinice.cli.options import Format, OutputOptions, options
from thinice.data import DATASETS
from thinice.errors import InputError
from thinice.models.architectures import known_architectures
from thinice.models.normalization import NORMALIZATIONS
from thinice.registry import Registry

OWN = {
    "--attack": {"compare", "measure", "evaluate"},  # the first two minimise the norm, the third takes budgets too
    "--architecture": {"train"},  # of a new network
    "--architecture-args": {"train"},
    "--budget": {"compare", "evaluate"},  # in the second it is required, and may be a ladder
    "--data": {"report", "export", "prune", "train", "benchmark"},  # prune and train on it; of the dense network
    "--dense": {"populations"},  # several
    "--dry-run": {"study"},  # of cells and networks
    "--format": {"export"},
    "--compile": {"train"},  # the training, not the search
    "--normalization": {"train"},
    "--output": {"report", "prune", "train"},
    "--model-key": {"benchmark import"},  # of a file
    "--overwrite": {"report", "export", "prune", "train", "benchmark export"},
    "--seed": {"prune", "train"},  # of random masks; of the weights
    "--set": {"prune", "train"},  # of the method; of recipe and objective
    "--samples": {"check"},  # one line each
    "--split": {"prune", "train", "benchmark import"},  # "train" by default; of a key's data set
    "--tolerance": {"runs repeat"},  # for rounding alone
    "--tune-split": {"evaluate"},  # of one attack, or none
    "--steps": {"train"},  # that craft an input
}
"""Options that some commands declare for themselves."""


def typed_options(name):
    """The options of a command: what is typed, then default and declaration."""
    signature = inspect.signature(COMMANDS.get(name), eval_str=True)
    for parameter in signature.parameters.values():
        (info,) = getattr(parameter.annotation, "__metadata__", (None,))
        if isinstance(info, typer.models.OptionInfo):
            yield (info.default, *(info.param_decls or ()))[0], (parameter.default, info.help, info.metavar)


def test_an_option_means_the_same_in_every_command():
    shared = {}
    for name in COMMANDS.names():
        for option, meaning in typed_options(name):
            if name not in OWN.get(option, ()):
                assert shared.setdefault(option, meaning) == meaning, (name, option)
    assert len(shared) > 20


@pytest.mark.parametrize("name", COMMANDS.names())
def test_the_first_line_of_each_commands_help_is_that_of_the_registry(name, run):
    code, out, _ = run(name, "--help")
    assert code == 0
    summary = COMMANDS.summaries()[name]
    assert inspect.getdoc(COMMANDS.get(name)).splitlines()[0] == summary
    assert summary in " ".join(out.split())
    assert summary in " ".join(run("--help")[1].split())


@pytest.mark.parametrize("name", ["measure", "compare", "evaluate"])
def test_help_lists_what_the_registries_hold(name, run):
    out = re.sub(r"\s+", " ", run(name, "--help")[1])
    names = [*DATASETS.names(), *known_architectures(), *NORMALIZATIONS.names(), *ATTACKS.names("minimum norm")]
    names += ATTACKS.names("fixed budget") if name in ("compare", "evaluate") else ()
    missing = [each for each in names if not re.search(rf"[ :]{re.escape(each)}[,;. ]", out)]
    assert not missing


def test_a_new_command_is_one_file_and_one_line(run, monkeypatch):
    rows = {**COMMANDS.rows, "greet": ("tests.cli.greet:greet", "Say hello.")}
    monkeypatch.setattr("thinice.cli.app.COMMANDS", Registry("command", rows))
    assert run("greet", "you", "--format", "csv") == (0, "hello you csv\n", "")
    assert "Say hello." in run("--help")[1]
    code, _, err = run("greet", "nobody")
    assert (code, err) == (1, "thinice: nobody is there\n")


def test_groups_become_options_and_come_back_as_groups():
    told = []

    @options
    def command(name: str, *, extra: Annotated[int, typer.Option("--extra")] = 3, printing: OutputOptions) -> None:
        told.append((name, extra, printing))

    assert list(inspect.signature(command).parameters) == ["name", "extra", "format", "quiet"]
    command(name="a", format=Format.CSV)
    command(name="b", extra=4, quiet=True)
    assert told == [("a", 3, OutputOptions(Format.CSV)), ("b", 4, OutputOptions(Format.TABLE, quiet=True))]


def test_groups_of_the_api_become_options_and_come_back_as_its_keyword_arguments():
    told = []

    @options
    def command(*, evaluating: EvaluateOptions) -> None:
        told.append(evaluating)

    parameters = inspect.signature(command).parameters
    assert list(parameters) == list(declared(EvaluateOptions))
    assert not {"tune_on", "progress", "command"} & set(parameters)  # in Python alone
    assert (parameters["skip_known"].default, parameters["store"].default) == ("on", Path("thinice.duckdb"))
    command(skip_known="off", batch_size="16", norm="l2")
    (given,) = told
    assert (given["skip_known"], given["batch_size"], given["norm"]) == (False, 16, "l2")
    assert "steps" not in given
    command(steps=3, batch_size="auto")
    assert (told[1]["steps"], told[1]["batch_size"], told[1]["checks"]) == (3, "auto", True)
    with pytest.raises(InputError, match="`--batch-size` must be auto or a whole number of at least 1, got '-1'"):
        command(batch_size="-1")


@pytest.mark.parametrize(
    ("command", "group"),
    [("measure", MeasureAllOptions), ("compare", CompareOptions), ("evaluate", EvaluateOptions)],
)
def test_a_command_has_the_options_of_its_function_with_the_same_defaults(command, group):
    function = getattr(thinice, f"{command}_all")
    assert inspect.signature(function).parameters["options"].annotation == f"Unpack[{group.__name__}]"
    parameters = inspect.signature(COMMANDS.get(command)).parameters
    for name, (_, option) in declared(group).items():
        assert parameters[name].default == (option.default if option.typed is None else option.typed)


def test_a_new_option_is_one_line():
    class Louder(EvaluateOptions, total=False):
        volume: Annotated[int, Option(3, "How loud.", min=1)]

    told = []

    def command(*, group: Louder) -> None:
        told.append(group["volume"])

    command.__annotations__["group"] = Louder
    flat = options(command)
    flat()
    flat(volume=5)
    assert told == [3, 5]
    assert chosen(Louder, {})["volume"] == 3
    assert chosen(Louder, {"volume": 4, "restarts": 2})["volume"] == 4
    assert search_options({"volume": 4, "restarts": 2}, Louder) == {"restarts": 2}


def test_commands_that_measure_nothing_start_without_torch():
    for words in (["runs", "--help"], ["sql", "--help"], ["report", "--help"], ["check", "--help"]):
        script = (
            f"import sys; sys.argv = ['thinice', *{words!r}]; from thinice.cli import main\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
            "heavy = {'torch', 'duckdb', 'pandas', 'numpy'} & set(sys.modules)\nassert not heavy, heavy\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
