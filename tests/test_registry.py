"""The registry: nothing is imported before it is asked for, and every refusal is one line that names a way out."""

import pkgutil
import subprocess
import sys
from contextlib import suppress
from importlib import import_module

import pytest

import thinice
from thinice.errors import CheckpointError, DataError, InputError, MissingExtraError, ThinIceError
from thinice.registry import Registry


def square(side=1.0, *, scale=1.0):
    return (side * scale) ** 2


def shapes(**keywords):
    rows = {
        "square": (square, "four corners"),
        "circle": ("math:tau", "all round"),
        "Ring": ("math:pi", ""),
    }
    return Registry("shape", rows, **keywords)


def test_names_come_in_order_and_say_what_they_are():
    assert shapes().names() == ("square", "circle", "Ring")
    assert shapes().summaries() == {"square": "four corners", "circle": "all round", "Ring": ""}
    assert "circle" in shapes()
    assert "triangle" not in shapes()
    assert [] not in shapes()


def test_objects_and_texts_are_found():
    assert shapes().get("square") is square
    assert shapes().get("circle") == pytest.approx(6.283185307179586)


def test_nothing_is_imported_before_it_is_asked_for():
    script = (
        "import sys\n"
        "from thinice.registry import Registry\n"
        "table = Registry('number', {'exact': ('fractions:Fraction', 'a quotient')})\n"
        "assert table.names() == ('exact',) and table.summaries() and 'exact' in table and repr(table)\n"
        "assert not {'fractions', 'torch', 'numpy'} & set(sys.modules)\n"
        "assert table.get('exact').__name__ == 'Fraction'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqare", "`shape` 'sqare' is unknown: did you mean square?"),
        ("CIRCLE", "`shape` 'CIRCLE' is unknown: did you mean circle?"),
        ("ring", "`shape` 'ring' is unknown: did you mean Ring?"),
        ("zzz", "`shape` 'zzz' is unknown: choose from square, circle, Ring"),
        ("", "`shape` '' is unknown: choose from square, circle, Ring"),
        (7, "`shape` 7 is unknown: choose from square, circle, Ring"),
        (None, "`shape` None is unknown: choose from square, circle, Ring"),
        ([], "`shape` [] is unknown: choose from square, circle, Ring"),
    ],
)
def test_an_unknown_name_is_one_line(name, message):
    with pytest.raises(InputError) as error:
        shapes().get(name)
    assert str(error.value) == message


def test_where_something_lists_many_names_an_unknown_one_is_told_the_nearest_and_what_lists_all():
    many = Registry("recipe", {f"{name}-{epochs}": (1, "") for name in ("natural", "pgd") for epochs in range(9)})
    many.listed = "thinice train --help"
    with pytest.raises(
        InputError, match=r"'zzz' is unknown: the nearest of 18 are (\S+, ){2}\S+; thinice train --help"
    ):
        many.get("zzz")
    with pytest.raises(InputError, match=r"did you mean pgd-3 or pgd-8 or pgd-7\?$"):
        many.get("pgd3")


def test_the_error_is_the_rooms_own():
    with pytest.raises(DataError, match="`shape` 'cirle' is unknown: did you mean circle"):
        shapes(error=DataError).get("cirle")


@pytest.mark.parametrize("target", ["thinice.no_such_module:thing", "math:no_such_thing"])
def test_what_cannot_be_loaded_names_its_place(target):
    table = Registry("shape", {"broken": (target, "")}, error=CheckpointError)
    with pytest.raises(CheckpointError, match=f"`shape` 'broken' cannot be loaded from {target}: ") as error:
        table.get("broken")
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is not None


def test_a_missing_extra_passes_through(tmp_path, monkeypatch):
    (tmp_path / "needs_an_extra.py").write_text(
        "from thinice.errors import MissingExtraError\nraise MissingExtraError('drawing', 'notebook')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"thinice\[notebook\]"):
        Registry("shape", {"rare": ("needs_an_extra:thing", "")}).get("rare")


def test_a_name_is_added_once():
    table = shapes()
    table.add("triangle", lambda: 3, "three corners")
    assert table.names()[-1] == "triangle"
    assert table.get("triangle")() == 3
    with pytest.raises(InputError, match="`shape` 'square' is taken: choose another name"):
        table.add("square", square)
    assert "triangle" not in shapes()  # each registry has its own table


@pytest.mark.parametrize("target", ["math", "math:", ":tau", ""])
def test_a_text_must_name_module_and_object(target):
    with pytest.raises(InputError, match=r"must be 'package\.module:object', got"):
        shapes().add("odd", target)


def test_settings_are_passed_or_refused():
    assert shapes().make("square", side=3.0, scale=2.0) == 36.0
    with pytest.raises(InputError) as error:
        shapes().make("square", sides=3.0)
    assert str(error.value) == "`shape` 'square' has no setting 'sides': it has scale, side"
    with pytest.raises(ThinIceError, match="did you mean square"):
        shapes().make("squares")
    assert Registry("bag", {"any": (lambda **settings: settings, "")}).make("any", a=1) == {"a": 1}


# -- all registries ----------------------------------------------------------------------------------------------------


def registries():
    """Return every registry of the package by the argument that its names are values of."""
    names = [found.name for found in pkgutil.walk_packages(thinice.__path__, "thinice.")]
    values = [value for name in names if "__main__" not in name for value in vars(import_module(name)).values()]
    return {table.argument: table for table in values if isinstance(table, Registry)}


def test_every_room_with_names_has_a_registry():
    assert set(registries()) >= {
        *("attack", "architecture", "data", "objective", "schedule", "method", "command"),
    }


def test_every_name_stands_for_something_and_says_in_one_line_what():
    for argument, table in registries().items():
        assert table.names(), argument
        for name, summary in table.summaries().items():
            place = f"{argument} {name}"
            assert summary.strip() == summary, place
            assert summary, place
            assert summary.isprintable(), place
            with suppress(MissingExtraError):  # whose words have tests of their own
                assert table.get(name) is not None or (argument, name) == ("normalization", "none"), place


def test_every_registry_names_the_nearest_for_a_slip_of_the_pen():
    for argument, table in registries().items():
        name = max(table.names(), key=len)
        with pytest.raises(ThinIceError, match=f"`{argument}` '{name}x' is unknown: did you mean ") as error:
            table.get(f"{name}x")
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match="is taken: choose another name"):
            table.add(name, object(), "again")
