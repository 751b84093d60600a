"""Writing of comparisons: statistics, controls, populations, and where the boundaries of pruned networks are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from thinice.errors import InputError
from thinice.store.columns import (
    CORRECTIONS,
    TRANSFERS,
    json_text,
    shard_columns,
    write,
)
from thinice.store.connection import ask, quoted, reading
from thinice.store.run_base import RunBase, refuse_contradicted_proofs
from thinice.store.schema import add_missing_statistics, now
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt


__all__ = ["ComparisonWriter"]


class ComparisonWriter(RunBase):
    """The part of a run that stores comparisons."""

    def comparison(
        self,
        measurement_id: int,
        pruned_checkpoint_id: int,
        *,
        basis: str = "clean",
        budget: float | None = None,
        dense_verdicts: int | None = None,
        pruned_verdicts: int | None = None,
    ) -> int:
        """Return the comparison_id of a measured dense network and a pruned one; ``transitions`` shows it.

        Parameters
        ----------
        measurement_id, pruned_checkpoint_id : int
            From `measurement` and `checkpoint`.
        basis : str
            What correct means: ``"clean"``, or a text that says at which budget, and by which attack, it means robust.
        budget, dense_verdicts, pruned_verdicts : float, int, int, optional
            Of a robust basis: the budget, and the measurements of both networks that tell who is robust.

        """
        key = {"measurement_id": measurement_id, "pruned_checkpoint_id": pruned_checkpoint_id, "basis": basis}
        robust = {"budget": budget, "dense_verdicts": dense_verdicts, "pruned_verdicts": pruned_verdicts}
        with self._writing() as connection:
            comparison_id, is_new = self._enter(connection, "comparisons", key, **robust)
            if not is_new:
                ask(connection, query("set_basis"), **key, **robust)
            return comparison_id

    def untransferred(self, comparison_id: int, sample_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the positions of samples whose kept dense adversarial the pruned network has not seen, ascending."""
        return self._missing("untransferred", sample_ids, {"comparison_id": comparison_id})

    def add_transfers(self, comparison_id: int, sample_ids: npt.ArrayLike, *, predictions: npt.ArrayLike) -> int:
        """Store what the pruned network makes of the dense network's adversarials, and return how many were new.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        sample_ids, predictions : array_like
            (N,) int64; a prediction is -1 where a logit is NaN.

        """
        columns = shard_columns(sample_ids, TRANSFERS, {"predictions": predictions})
        with self._writing() as connection:
            measurement_id = self._looked_up(connection, "measurement_id", "comparisons", comparison_id)
            key = {"comparison_id": comparison_id, "run_id": self.run_id}
            new = write(
                connection, "add_transfers", columns, selection=self._selection(connection, measurement_id), **key
            )
            refuse_contradicted_proofs(connection, {"measurement_id": measurement_id})
            return new

    def uncorrected(self, measurement_id: int, sample_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the positions of samples that were not searched for an input that the network has right, ascending.

        What other selections of the same data hold, measured by the same attack on the same network, is copied first.
        """
        key = {"measurement_id": measurement_id}
        return self._missing("uncorrected", sample_ids, key, "copy_corrections_from_other_selections")

    def add_corrections(
        self,
        measurement_id: int,
        sample_ids: npt.ArrayLike,
        *,
        corrections: npt.ArrayLike,
        evaluations: npt.ArrayLike,
        converged: npt.ArrayLike,
        found_by: npt.ArrayLike,
        failure_reasons: npt.ArrayLike,
    ) -> int:
        """Store how far samples lie from the nearest inputs that the network has right; return how many were new.

        Parameters
        ----------
        measurement_id : int
            From `measurement`, of the network that has these samples wrong.
        sample_ids, corrections : array_like
            (N,) int64, and float32 above 0 on the [0, 1] scale; NaN where none was found.
        evaluations, converged, found_by, failure_reasons : array_like
            As of `Run.add_epsilons`.

        """
        values = {
            "corrections": corrections,
            "evaluations": evaluations,
            "converged": converged,
            "found_by": found_by,
            "failure_reasons": failure_reasons,
        }
        columns, key = shard_columns(sample_ids, CORRECTIONS, values), {"measurement_id": measurement_id}
        with self._writing() as connection:
            selection = self._selection(connection, measurement_id)
            return write(connection, "add_corrections", columns, selection=selection, run_id=self.run_id, **key)

    def add_statistics(
        self, comparison_id: int, *, notes: Sequence[str] = (), **statistics: float | bool | None
    ) -> None:
        """Store the statistics of a comparison beside its counts, which the store takes from its own samples.

        Stored again, they replace the old ones; those that are not given are NULL.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        notes : sequence of str
            Why a statistic is not known.
        statistics : float, bool or None
            By name, as of `thinice.stats.statistic_values`.

        Raises
        ------
        InputError
            For a name that is no statistic's.

        """
        with self._writing() as connection:
            key = {"comparison_id": comparison_id}
            known = add_missing_statistics(connection)
            for name in statistics:
                if name not in known:
                    raise InputError(f"`{name}` is no statistic: they are {', '.join(known)}")
            ask(connection, query("add_statistics"), **key, notes=list(notes), run_id=self.run_id, now=now())
            values = ", ".join(f"{quoted(name)} = ${name}" for name in known)
            update = f"update statistics set {values} where comparison_id = $comparison_id"  # noqa: S608 - our names
            ask(connection, update, **key, **dict.fromkeys(known) | statistics)

    def add_population(self, dataset_id: int, attack_id: int, *, dense: Iterable[int], pruned: Iterable[int]) -> str:
        """Store that dense and pruned networks were compared as groups, and return the key of that.

        The same groups on the same samples by the same attack are there once.

        Parameters
        ----------
        dataset_id, attack_id : int
            From `dataset` and `attack`.
        dense, pruned : iterable of int
            From `checkpoint`.

        """
        groups = {"dense": sorted(set(dense)), "pruned": sorted(set(pruned))}
        text = json_text({"dataset": dataset_id, "attack": attack_id, **groups})
        key = hashlib.sha256(text.encode()).hexdigest()
        with self._writing() as connection:
            for role, networks in groups.items():
                values = {"population": key, "role": role, "networks": networks, "run_id": self.run_id}
                ask(connection, query("add_population"), dataset_id=dataset_id, attack_id=attack_id, **values)
        return key

    def control_scales(self, comparison_id: int, seed: int) -> list[float]:
        """Return the scales of the weight noise that was a comparison's control under a seed, network by network."""
        with reading(self._path, self._patience, own=True) as connection:
            rows = ask(connection, query("control_scales"), comparison_id=comparison_id, seed=seed)
        return [float(scale) for (scale,) in rows]

    def add_controls(self, comparison_id: int, networks: Iterable[Mapping[str, Any]]) -> None:
        """Store the control networks of a comparison, which replace those that it had.

        Parameters
        ----------
        comparison_id : int
            From `comparison`.
        networks : iterable of mapping
            Of each its ``checkpoint_id``, from `checkpoint`; ``scale`` and ``seed`` of its weight noise, or None.

        """
        with self._writing() as connection:
            self._looked_up(connection, "measurement_id", "comparisons", comparison_id)
            ask(connection, query("delete_controls"), comparison_id=comparison_id)
            for number, network in enumerate(networks):
                key = {"comparison_id": comparison_id, "network": number, "run_id": self.run_id}
                ask(connection, query("add_control"), **network, **key)
