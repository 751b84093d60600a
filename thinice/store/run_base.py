"""What all that a run writes has in common: one transaction each, rows under their keys, shards of samples."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thinice.errors import StoreError
from thinice.store.columns import (
    Columns,
    adversarial_columns,
    positions,
    write,
)
from thinice.store.connection import ask, reading, writing
from thinice.store.schema import now
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thinice.store.connection import Connection

__all__ = ["RunBase", "refuse_contradicted_proofs"]


class RunBase:
    """A run that holds a store for a transaction at a time; `Run` is what callers have."""

    def __init__(self, path: Path, patience: float, run_id: int) -> None:
        self.run_id = run_id
        self._path, self._patience = path, patience
        self._checkpoint_ids: dict[str, int] = {}  # of the networks that this run has entered, by fingerprint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id}, {str(self._path)!r})"

    @contextmanager
    def _writing(self, *, bulky: bool = False) -> Iterator[Connection]:
        """Yield a connection in a transaction that also notes that this run is alive."""
        with writing(self._path, self._patience, bulky=bulky, in_a_run=True) as connection:
            yield connection
            ask(connection, query("touch_run"), run_id=self.run_id, now=now())

    def _missing(
        self, name: str, sample_ids: npt.ArrayLike, key: Mapping[str, int | str], *adopted: str, **more: int
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that a named query by `key` and `more` finds missing, ascending.

        Where there are any, other named queries by `key` first copy what can be `adopted` from other selections.
        """
        ids = np.asarray(sample_ids, dtype=np.int64)
        columns = {"position": np.arange(len(ids)), "sample_id": ids}
        with reading(self._path, self._patience, own=True) as connection:
            missing = positions(connection, name, columns, **key, **more)
            ((selections,),) = ask(connection, "select count(*) from datasets")
        if not (missing.size and adopted and selections > 1):
            return missing
        with self._writing() as connection:
            for step in adopted:
                ask(connection, query(step), **key)
            refuse_contradicted_proofs(connection, key)
            return positions(connection, name, columns, **key, **more)

    def _enter(
        self, connection: Connection, table: str, key: Mapping[str, object], **values: object
    ) -> tuple[int, bool]:
        """Return the number of the row of a table with this key, made now where there is none, and whether it was.

        The names are this module's own, the values are bound.
        """
        kind = table.removesuffix("s")
        ((count,),) = ask(connection, query(f"add_{kind}"), **key, **values, run_id=self.run_id, now=now())
        wanted = " and ".join(f"{name} = ${name}" for name in key)
        ((number,),) = ask(connection, f"select {kind}_id from {table} where {wanted}", **key)  # noqa: S608
        return int(number), count > 0

    def _looked_up(self, connection: Connection, column: str, table: str, key: int) -> int:
        """Return a whole number in the row of this key; the names are this module's own, the key is bound."""
        kind = table.removesuffix("s")
        rows = ask(connection, f"select {column} from {table} where {kind}_id = $key", key=key)  # noqa: S608
        if not rows:
            raise StoreError(f"{self._path} has no {kind} {key}")
        return int(rows[0][0])

    def _selection(self, connection: Connection, measurement_id: int) -> int:
        return self._looked_up(connection, "dataset_id", "measurements", measurement_id)

    def _add(
        self,
        names: tuple[str, str],
        columns: Columns,
        adversarials: Mapping[int, npt.ArrayLike] | None,
        key: Mapping[str, int],
        **more: str,
    ) -> int:
        """Write a shard by one named query, its adversarials by the other, and return the number of new rows."""
        images = adversarial_columns(adversarials, columns["sample_id"]) if adversarials else None
        with self._writing(bulky=images is not None) as connection:
            selection = self._selection(connection, key["measurement_id"])
            new = write(connection, names[0], columns, selection=selection, run_id=self.run_id, **key, **more)
            if images is not None:
                write(connection, names[1], images, run_id=self.run_id, **key)
            if names[0] == "add_epsilons":
                refuse_contradicted_proofs(connection, key)
            return new


def refuse_contradicted_proofs(connection: Connection, key: Mapping[str, int | str]) -> None:
    """Raise `StoreError` where an epsilon lies below a proved radius of its sample, so that one of them is false.

    Looked at are those of a measurement, or all of a network and a selection of samples, as the key names them.
    """
    names = ("measurement_id", "checkpoint_id", "dataset_id")
    parameters = {name: key.get(name) for name in names}
    for sample_id, epsilon, lower, network, attack, samples in ask(
        connection, query("contradicted_proofs"), **parameters
    ):
        others = f" (and {samples - 1} more)" if samples > 1 else ""
        raise StoreError(
            f"sample {sample_id}{others} of {network} has an adversarial at {epsilon:.6g} by {attack}, but a radius of "
            f"{lower:.6g} was proved: one of them is false, and nothing was stored; please report it, and measure into "
            "a new store without --certify (--store new.duckdb)"
        )
