"""Sample by sample: which samples pruning loses, and how close to the decision boundary they lay.

The public names below are loaded when they are first used, so that ``import thinice`` and ``thinice --help`` stay
fast: torch is imported by what needs it. No module has the name of a public function: importing
`thinice.measurement` must not hide `thinice.measure`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinice.attacks import Attack as Attack
    from thinice.attacks import Nearest as Nearest
    from thinice.attacks import make_attack as make_attack
    from thinice.comparison import Comparison as Comparison
    from thinice.comparison import compare as compare
    from thinice.comparison import compare_all as compare_all
    from thinice.datasets import Samples as Samples
    from thinice.datasets import as_samples as as_samples
    from thinice.datasets import load_samples as load_samples
    from thinice.embedded import example_checkpoints as example_checkpoints
    from thinice.errors import ThinIceError as ThinIceError
    from thinice.evaluation import Robustness as Robustness
    from thinice.evaluation import evaluate as evaluate
    from thinice.figures import draw as draw
    from thinice.figures import save_figures as save_figures
    from thinice.measurement import measure as measure
    from thinice.models import Classifier as Classifier
    from thinice.models import as_classifier as as_classifier
    from thinice.models import load_classifier as load_classifier
    from thinice.models import save_classifier as save_classifier
    from thinice.pruning import prune as prune
    from thinice.report import save_report as save_report
    from thinice.slices import slice_boundary as slice_boundary
    from thinice.store import Store as Store
    from thinice.store import open_store as open_store
    from thinice.types import Interval as Interval
    from thinice.types import Outcome as Outcome
    from thinice.types import Transition as Transition

__version__ = version("thinice")

_HOMES = {
    "Attack": "attacks",
    "Classifier": "models",
    "Comparison": "comparison",
    "Interval": "types",
    "Nearest": "attacks",
    "Outcome": "types",
    "Robustness": "evaluation",
    "Samples": "datasets",
    "Store": "store",
    "ThinIceError": "errors",
    "Transition": "types",
    "as_classifier": "models",
    "as_samples": "datasets",
    "compare": "comparison",
    "compare_all": "comparison",
    "draw": "figures",
    "evaluate": "evaluation",
    "example_checkpoints": "embedded",
    "load_classifier": "models",
    "load_samples": "datasets",
    "make_attack": "attacks",
    "measure": "measurement",
    "open_store": "store",
    "prune": "pruning",
    "save_classifier": "models",
    "save_figures": "figures",
    "save_report": "report",
    "slice_boundary": "slices",
}
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 (the keys are strings)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'thinice' has no attribute {name!r}")
    found = getattr(import_module(f"thinice.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
