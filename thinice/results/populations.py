"""What pruning did to a population of networks: the result of `thinice.compare_populations`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.attacks import Attack
from thinice.printable import LONGEST_MESSAGE, records, shown
from thinice.results.comparison_text import distance_text
from thinice.stats import ClassTests, Exemplars
from thinice.types import Norm

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Populations", "populations_answer", "populations_table"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Populations:
    """The samples on which most pruned networks say otherwise than most dense ones; columns are in the data's order.

    Attributes
    ----------
    dense, pruned : tuple of str
        Names of the networks.
    data, split : str
        Where the samples came from; `classes` names their labels.
    attack : Attack
        What measured the dense networks' epsilons.
    sample_ids, labels : ndarray
        (N,) index in the untouched data set, and true class.
    exemplars : Exemplars
        Which samples they are, accuracies on them and without them, and their distances against those of the rest.
    class_tests : ClassTests
        What pruning costs each class beyond what it costs all.

    """

    dense: tuple[str, ...]
    pruned: tuple[str, ...]
    data: str
    split: str
    classes: tuple[str, ...]
    attack: Attack
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    exemplars: Exemplars
    class_tests: ClassTests

    def __repr__(self) -> str:
        return shown(f"<Populations on {len(self.labels)} samples of {self.data}: {self.answer}>", LONGEST_MESSAGE)

    @property
    def norm(self) -> Norm:
        """The norm that epsilon is measured in."""
        return self.attack.norm

    @property
    def answer(self) -> str:
        """What the populations differ by, in a sentence."""
        return populations_answer(self.exemplars, len(self.dense), len(self.pruned))

    def table(self) -> list[tuple[str, str]]:
        """Return what people read, line by line: a name and a value with its unit."""
        return populations_table(self.exemplars, len(self.dense), len(self.pruned), self.norm)

    def frame(self) -> pd.DataFrame:
        """Return one row a sample: id, label, both majorities, whether it is an exemplar, median epsilon."""
        import pandas as pd  # noqa: PLC0415 (a second of import that not every caller needs)

        result = self.exemplars
        return pd.DataFrame(
            {
                "sample_id": self.sample_ids,
                "label": [self.classes[label] for label in self.labels],
                "dense_modal": [self._class(number) for number in result.dense_modal.tolist()],
                "pruned_modal": [self._class(number) for number in result.pruned_modal.tolist()],
                "is_exemplar": result.is_exemplar,
                "epsilon": np.where(np.isinf(result.epsilon), np.nan, result.epsilon),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result in one row of plain numbers, text and, of the classes, a list of rows."""
        result = self.exemplars
        columns = {"dense_modal", "pruned_modal", "is_exemplar", "epsilon", "distances"}
        distances = self.exemplars.distances.to_dict()
        renamed = {
            "auc": "auc",
            "auc_low": "auc_low",
            "auc_high": "auc_high",
            "confidence": "confidence",
            "n_kept": "right_rest",
            "n_lost": "right_exemplars",
            "median_kept": "median_rest",
            "median_lost": "median_exemplars",
            "log10_p": "log10_p",
        }
        return {
            "dense": list(self.dense),
            "pruned": list(self.pruned),
            "data": self.data,
            "split": self.split,
            "norm": self.norm,
            "attack": self.attack.name,
            **{name: getattr(result, name) for name in result.__slots__ if name not in columns},
            **{new: distances[name] for name, new in renamed.items()},
            "classes": records(self.class_tests.frame()),
        }

    def _class(self, prediction: int) -> str | None:
        """Return the name of a predicted class; a network may know more classes than the data name."""
        if prediction < 0:
            return None
        return self.classes[prediction] if prediction < len(self.classes) else str(prediction)

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 (for notebooks alone)

        lines = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self.table()
        )
        return f"<p>{html.escape(self.answer)}</p><table>{lines}</table>"


def populations_answer(result: Exemplars, dense: int, pruned: int) -> str:
    """Return what so many dense and pruned networks differ by, in a sentence."""
    distances = result.distances
    sentence = (
        f"On {result.n_exemplars} of {result.n} samples most of the {pruned} pruned networks say otherwise than most "
        f"of the {dense} dense ones (pruning-identified exemplars)"
    )
    interval = distances.auc_interval
    if distances.auc is None or interval is None:
        return f"{sentence}."
    return (
        f"{sentence}; of those that most dense networks have right, a nearer adversarial was found for an exemplar "
        f"than for another sample with probability {distances.auc:.3f} (AUC, {100 * interval.confidence:g} % interval "
        f"{interval.low:.3f} to {interval.high:.3f})."
    )


def populations_table(result: Exemplars, dense: int, pruned: int, norm: Norm) -> list[tuple[str, str]]:
    """Return what people read of so many dense and pruned networks, line by line: a name and a value with its unit."""
    distances = result.distances
    return [
        ("dense networks", f"{dense}"),
        ("pruned networks", f"{pruned}"),
        ("exemplars", f"{result.n_exemplars} ({result.share:.2%})"),
        ("accuracy, dense", _percent(result.dense_accuracy)),
        ("  on exemplars", _percent(result.dense_accuracy_on_exemplars)),
        ("  without them", _percent(result.dense_accuracy_on_rest)),
        ("accuracy, pruned", _percent(result.pruned_accuracy)),
        ("  on exemplars", _percent(result.pruned_accuracy_on_exemplars)),
        ("  without them", _percent(result.pruned_accuracy_on_rest)),
        ("median epsilon, exemplars", distance_text(distances.median_lost, norm)),
        ("median epsilon, others", distance_text(distances.median_kept, norm)),
        ("AUC", "—" if distances.auc is None else f"{distances.auc:.3f}"),
    ]


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{share:.2%}"
