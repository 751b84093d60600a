"""Writing of lower bounds: those that were proved, and those that other programs claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinice.store.columns import (
    CLAIMED_BOUNDS,
    LOWER_BOUNDS,
    shard_columns,
    write,
)
from thinice.store.run_base import RunBase, refuse_contradicted_proofs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from thinice.types import Norm

__all__ = ["BoundsWriter"]


class BoundsWriter(RunBase):
    """The part of a run that stores lower bounds."""

    def uncertified(
        self, checkpoint_id: int, dataset_id: int, norm: Norm, sample_ids: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` whose lower bound in this norm is missing, ascending.

        What other selections of the same data hold of the same network is copied first.
        """
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "norm": norm}
        return self._missing("uncertified", sample_ids, key, "copy_lower_bounds_from_other_selections")

    def add_lower_bounds(
        self,
        checkpoint_id: int,
        dataset_id: int,
        norm: Norm,
        sample_ids: npt.ArrayLike,
        *,
        epsilon_lower: npt.ArrayLike,
    ) -> int:
        """Store radii that were proved, and return how many were new; a sample that has one keeps it.

        Parameters
        ----------
        checkpoint_id, dataset_id, norm : int, int, str
            From `checkpoint` and `dataset`, and the norm of the radii.
        sample_ids, epsilon_lower : array_like
            (N,) int64, and float64 of at least 0 on the [0, 1] scale.

        Raises
        ------
        StoreError
            Where any attack has found an adversarial within a radius: nothing is stored.

        """
        columns = shard_columns(sample_ids, LOWER_BOUNDS, {"epsilon_lower": epsilon_lower})
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id}
        with self._writing() as connection:
            new = write(
                connection, "add_lower_bounds", columns, selection=dataset_id, **key, norm=norm, run_id=self.run_id
            )
            refuse_contradicted_proofs(connection, key)
            return new

    def add_claimed_bounds(
        self,
        checkpoint_id: int,
        dataset_id: int,
        norm: Norm,
        sample_ids: npt.ArrayLike,
        *,
        verifier: str,
        source: str,
        claimed_lower: npt.ArrayLike,
        claimed_upper: npt.ArrayLike | None = None,
        seconds: npt.ArrayLike | None = None,
    ) -> int:
        """Store what another program claims of samples, and return how many there are; it replaces its older claims.

        Parameters
        ----------
        checkpoint_id, dataset_id, norm, sample_ids
            As of `add_lower_bounds`.
        verifier, source : str
            The program, and the file that its claims were read from.
        claimed_lower, claimed_upper, seconds : array_like
            (N,) float64; the last two NaN where unknown.

        """
        values = {"claimed_lower": claimed_lower, "claimed_upper": claimed_upper, "seconds": seconds}
        columns = shard_columns(sample_ids, CLAIMED_BOUNDS, values)
        key = {"checkpoint_id": checkpoint_id, "dataset_id": dataset_id, "norm": norm, "run_id": self.run_id}
        with self._writing() as connection:
            return write(
                connection,
                "add_claimed_bounds",
                columns,
                selection=dataset_id,
                **key,
                verifier=verifier,
                source=source,
            )
