"""Networks that the user's own code builds: ``path/to/models.py:ResNet18``, ``package.module:make``, or a callable."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from thinice.errors import InputError
from thinice.files import expanded
from thinice.models.architectures import ARCHITECTURES, TIMM, TORCHVISION
from thinice.models.architectures.identify import PROBE_CLASSES, Shapes, size_that_differs
from thinice.models.architectures.rebuild import load_exactly, refuse_misfit, signature
from thinice.models.architectures.variants import base_and_variant, variants_of
from thinice.models.classifier import own_copy
from thinice.models.fingerprints import structure_of
from thinice.models.pickles import plain

__all__ = ["ArchitectureLike", "UserCode", "user_code"]

ArchitectureLike: TypeAlias = "str | Callable[..., nn.Module] | nn.Module"
"""A name of `known_architectures`, own code as text, a callable that returns a module, or a module."""

CLASS_PARAMETERS = ("num_classes", "classes", "n_classes")
"""What own code calls the number of classes; the first that the callable has gets the number of the file."""
SHOWN_ARGUMENTS = 200
"""Letters of the arguments in the name of an architecture."""

_NEIGHBOURS: dict[Path, dict[str, ModuleType]] = {}


@dataclass(frozen=True, slots=True)
class UserCode:
    """A user's own architecture: what makes the network, with which arguments, and what tables call it.

    Attributes
    ----------
    name : str
        ``models.py:ResNet18``: the file without its folder.
    make : callable
        Returns an ``nn.Module`` with fresh weights.
    arguments : mapping
        Keywords of `make`.
    folder : Path, optional
        Of the file: its neighbours can be imported while `make` runs.
    built : bool
        The user gave a module: `make` copies it.
    """

    name: str
    make: Callable[..., object]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    built: bool = False

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({plain(given, SHOWN_ARGUMENTS)})" if given else self.name

    @property
    def class_parameter(self) -> str | None:
        """The parameter of `make` that takes the number of classes, unless the arguments give it."""
        try:
            parameters = inspect.signature(self.make).parameters
        except (TypeError, ValueError):  # of C code
            return None
        return next((name for name in CLASS_PARAMETERS if name in parameters and name not in self.arguments), None)

    def build(self, classes: int | None = None) -> nn.Module:
        """Return a network with fresh weights on the CPU; the random generator of torch stays as it was.

        Raises
        ------
        InputError
            The code raises, or returns something that is no module.
        """
        parameter = self.class_parameter
        given = dict(self.arguments)
        if classes is not None and parameter is not None:
            given[parameter] = classes
        with _running(self.name, self.folder, f"is called with {plain(str(given))}"):
            network = self.make(**given)
        if not isinstance(network, nn.Module):
            raise InputError(
                f"`architecture` {self.name} returned {type(network).__name__}, not a torch.nn.Module: name a class "
                "or a function that returns the network"
            )
        return network.cpu()

    def trial_shapes(self) -> tuple[Shapes, Shapes]:
        """Return the shapes of the parameters of two trial networks, which differ in the number of classes.

        The same twice where the code takes no number of classes, or not any number.
        """
        if self.class_parameter is not None:
            with suppress(InputError):  # what else is wrong shows below
                few, many = (signature(self.build(classes).state_dict()) for classes in PROBE_CLASSES)
                if few.keys() == many.keys():
                    return few, many
        usual = signature(self.build().state_dict())
        return usual, usual

    def identity(self, network: nn.Module) -> dict[str, Any]:
        """Return the ``arguments`` of a classifier of this network: class, structure, and the code's arguments."""
        return {
            "class": type(network).__qualname__,
            "structure": structure_of(network),
            "arguments": dict(self.arguments),
        }

    def load(
        self,
        weights: Mapping[str, Tensor],
        where: str,
        *,
        otherwise: int | None = None,
        trial: tuple[Shapes, Shapes] | None = None,
        versions: Mapping[str, Any] | None = None,
    ) -> tuple[nn.Module, int | None]:
        """Return the network with exactly these weights in it, and the number of classes that the weights tell.

        Parameters
        ----------
        weights : mapping of str to Tensor
            Plain weights, by the names of the network.
        where : str
            The file, for messages.
        otherwise : int, optional
            The number of classes to build with where the weights do not tell it.
        trial : pair of mappings, optional
            What `trial_shapes` returned before.
        versions : mapping, optional
            Of `load_exactly`.

        Raises
        ------
        InputError
            As of `build`.
        CheckpointError
            Parameters that do not fit, a few of each kind by name.
        """
        classes = size_that_differs(*(trial or self.trial_shapes()), signature(weights))
        network = self.build(classes or otherwise)
        refuse_misfit(network.state_dict(), weights, f"{where}: parameters do not fit {self}")
        load_exactly(network, weights, versions)
        return network, classes


def user_code(architecture: ArchitectureLike | None, arguments: Mapping[str, Any] | None = None) -> UserCode | None:
    """Return the user's own code that an architecture names; ``None`` for names of the registry and torchvision.

    The code of the file or module runs. While it does, the folder of the file (for a module, the working folder) comes
    first on ``sys.path``; ``from . import`` finds the file's neighbours too.

    Parameters
    ----------
    architecture : str, callable or nn.Module, optional
        ``path/to/models.py:ResNet18``, ``package.module:make``, or the class, function or module itself.
    arguments : mapping, optional
        Keywords of the callable.

    Raises
    ------
    InputError
        No such file or module, no such name in it (the nearest are named), or code that raises.

    Examples
    --------
    >>> code = user_code("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    >>> str(code), code.build()
    ('torch.nn:Linear(in_features=2, out_features=3)', Linear(in_features=2, out_features=3, bias=True))
    >>> user_code("resnet20") is None
    True
    """
    given = dict(arguments or {})
    if isinstance(architecture, nn.Module):
        if given:
            raise InputError("`architecture_args` are for code that builds a network: `architecture` is built already")
        return UserCode(_name_of(type(architecture)), lambda: own_copy(architecture), built=True)
    if architecture is None or (isinstance(architecture, str) and _is_registered(architecture)):
        return None
    if not isinstance(architecture, str):
        make: object = architecture
        if not callable(make):
            kind = type(make).__name__
            raise InputError(f"`architecture` must be a name, a callable or a torch.nn.Module, got {kind}")
        return UserCode(_name_of(make), make, given)
    source, separator, name = architecture.rpartition(":")
    if not separator:
        if architecture.endswith(".py"):
            raise InputError(f"`architecture` {architecture} names no class: write {architecture}:CLASS")
        return None
    path = expanded(source, "architecture")
    folder: Path | None = None
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"`architecture` {architecture}: there is no file {path}")
        folder, shown = path.resolve().parent, f"{path.name}:{name}"
        module = _module_of_file(path.resolve(), shown)
    else:
        shown = architecture
        with _running(shown, Path.cwd(), f"is imported from {source}", isolated=False):
            module = importlib.import_module(source)
    return UserCode(shown, _named(module, name, shown), given, folder)


def _is_registered(architecture: str) -> bool:
    """Return whether a name is one of torchvision's, or a variant of an architecture and no module of the user's."""
    base, variant = base_and_variant(architecture)
    if architecture.startswith((TORCHVISION, TIMM)):
        return True
    if not variant or base.partition("(")[0] not in ARCHITECTURES:
        return architecture in variants_of(base)
    return architecture in variants_of(base) or not (Path(f"{base}.py").is_file() or Path(base).is_dir())


def _name_of(code: object) -> str:
    kind = code if hasattr(code, "__qualname__") else type(code)
    return f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', '')}"


def _named(module: ModuleType, name: str, shown: str) -> Callable[..., object]:
    target: object = module
    for part in name.split("."):
        target = getattr(target, part, None)
    if callable(target):
        return target
    names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    own = [key for key in names if getattr(vars(module)[key], "__module__", "") == module.__name__] or names
    near = get_close_matches(name, own, n=3, cutoff=0.4) or own[:8]
    reason = "names no class" if not name else f"has no class or function {name}"
    raise InputError(f"`architecture` {shown} {reason}; nearest: {', '.join(near) or 'there is none'}")


def _module_of_file(path: Path, shown: str) -> ModuleType:
    """Return the module of a file, imported now or before: as a part of its package, under a name of its own."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root != root.parent:
        root, parts = root.parent, [root.name, *parts]
    digest = hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:12]
    package = ModuleType(f"thinice_user_code_{digest}")
    package.__path__ = [str(root)]
    package = sys.modules.setdefault(package.__name__, package)
    if parts[-1] == "__init__":
        parts.pop()
    with _running(shown, path.parent, f"is imported from {path}"):
        return importlib.import_module(".".join([package.__name__, *parts]))


@contextmanager
def _running(shown: str, folder: Path | None, what: str, *, isolated: bool = True) -> Iterator[None]:
    """Run the user's code with a folder first on ``sys.path``; what it raises becomes one line.

    Isolated, modules that it imports from the folder are taken out of ``sys.modules`` afterwards: another file's
    neighbours may have the same names.
    """
    neighbours = _NEIGHBOURS.get(folder, {}) if folder is not None and isolated else {}
    others = {name: sys.modules.pop(name) for name in neighbours if name in sys.modules}
    before = set(sys.modules)
    sys.modules.update(neighbours)
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except (Exception, SystemExit) as error:
        reason = plain(" ".join(str(error).split()) or "no message")
        raise InputError(f"`architecture` {shown} raises {type(error).__name__} when it {what}: {reason}") from error
    finally:
        if folder is not None:
            sys.path.remove(str(folder))
            if isolated:
                _NEIGHBOURS[folder] = _take_out(folder, before)
        sys.modules.update(others)


def _take_out(folder: Path, before: set[str]) -> dict[str, ModuleType]:
    """Remove from ``sys.modules`` what was imported from a folder since, and return it by name."""
    tops = {name.partition(".")[0] for name in before}
    taken: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top in tops or top.startswith("thinice_user_code_"):
            continue
        paths = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
        inside = {(folder / f"{top}.py").resolve(), (folder / top).resolve()}
        if any(path and inside & {Path(path).resolve(), *Path(path).resolve().parents} for path in paths):
            taken[name] = sys.modules.pop(name)
    return taken
