"""Sample by sample: which samples pruning loses, and how close to the decision boundary they lay.

The public names below are loaded when they are first used, so that ``import thinice`` and ``thinice --help`` stay
fast: torch is imported by what needs it. No module has the name of a public function: importing
`thinice.analysis.measurement` must not hide `thinice.measure`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinice.analysis.boundary_slice import boundary_slice as boundary_slice
    from thinice.analysis.boundary_slice import slice_networks as slice_networks
    from thinice.analysis.claims import import_claims as import_claims
    from thinice.analysis.comparison import compare as compare
    from thinice.analysis.comparison import compare_all as compare_all
    from thinice.analysis.evaluation import evaluate as evaluate
    from thinice.analysis.evaluation import evaluate_all as evaluate_all
    from thinice.analysis.measurement import Interrupted as Interrupted
    from thinice.analysis.measurement import measure as measure
    from thinice.analysis.populations import compare_populations as compare_populations
    from thinice.analysis.repetition import Repetition as Repetition
    from thinice.analysis.repetition import repeat_run as repeat_run
    from thinice.analysis.stored_measurement import measure_all as measure_all
    from thinice.analysis.tuning import samples_to_tune_on as samples_to_tune_on
    from thinice.attacks import Attack as Attack
    from thinice.attacks import MinNormResult as MinNormResult
    from thinice.attacks import make_attack as make_attack
    from thinice.certification import lower_bounds as lower_bounds
    from thinice.checks.stored import StoreCheck as StoreCheck
    from thinice.checks.stored import check as check
    from thinice.data import Samples as Samples
    from thinice.data import as_samples as as_samples
    from thinice.data import load_samples as load_samples
    from thinice.data.digits import example_checkpoints as example_checkpoints
    from thinice.errors import DoubtfulWarning as DoubtfulWarning
    from thinice.errors import ThinIceError as ThinIceError
    from thinice.leaderboard.protocol import benchmark as benchmark
    from thinice.models import Classifier as Classifier
    from thinice.models import Inspection as Inspection
    from thinice.models import Masks as Masks
    from thinice.models import as_classifier as as_classifier
    from thinice.models import inspect_checkpoint as inspect_checkpoint
    from thinice.models import load_classifier as load_classifier
    from thinice.models import load_masks as load_masks
    from thinice.models import save_classifier as save_classifier
    from thinice.models import save_masks as save_masks
    from thinice.plots.figure_set import draw as draw
    from thinice.plots.figure_set import save_figures as save_figures
    from thinice.pruning import prune as prune
    from thinice.pruning import prune_in_stages as prune_in_stages
    from thinice.pruning.classifiers import prune_classifier as prune_classifier
    from thinice.pruning.shrinking import shrink as shrink
    from thinice.report import save_report as save_report
    from thinice.results import Comparison as Comparison
    from thinice.results import Robustness as Robustness
    from thinice.store import Store as Store
    from thinice.store import open_store as open_store
    from thinice.training import Recipe as Recipe
    from thinice.training import preset as preset
    from thinice.training import train as train
    from thinice.training.classifiers import train_classifier as train_classifier
    from thinice.training.thin_ice import ThinIce as ThinIce
    from thinice.types import Interval as Interval
    from thinice.types import Outcome as Outcome
    from thinice.types import Transition as Transition

__version__ = version("thinice")

_HOMES = {
    "Attack": "attacks",
    "Classifier": "models",
    "Comparison": "results",
    "DoubtfulWarning": "errors",
    "Interrupted": "analysis.measurement",
    "Inspection": "models",
    "Interval": "types",
    "Masks": "models",
    "MinNormResult": "attacks",
    "Outcome": "types",
    "Recipe": "training",
    "Repetition": "analysis.repetition",
    "Robustness": "results",
    "Samples": "data",
    "Store": "store",
    "StoreCheck": "checks.stored",
    "ThinIce": "training.thin_ice",
    "ThinIceError": "errors",
    "Transition": "types",
    "as_classifier": "models",
    "as_samples": "data",
    "benchmark": "leaderboard.protocol",
    "boundary_slice": "analysis.boundary_slice",
    "check": "checks.stored",
    "compare": "analysis.comparison",
    "compare_all": "analysis.comparison",
    "compare_populations": "analysis.populations",
    "draw": "plots.figure_set",
    "evaluate": "analysis.evaluation",
    "evaluate_all": "analysis.evaluation",
    "example_checkpoints": "data.digits",
    "import_claims": "analysis.claims",
    "inspect_checkpoint": "models",
    "load_classifier": "models",
    "load_masks": "models",
    "load_samples": "data",
    "lower_bounds": "certification",
    "make_attack": "attacks",
    "measure": "analysis.measurement",
    "measure_all": "analysis.stored_measurement",
    "open_store": "store",
    "preset": "training",
    "prune": "pruning",
    "prune_classifier": "pruning.classifiers",
    "prune_in_stages": "pruning",
    "repeat_run": "analysis.repetition",
    "samples_to_tune_on": "analysis.tuning",
    "save_classifier": "models",
    "save_figures": "plots.figure_set",
    "save_masks": "models",
    "save_report": "report",
    "shrink": "pruning.shrinking",
    "slice_networks": "analysis.boundary_slice",
    "train": "training",
    "train_classifier": "training.classifiers",
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
