"""How a run writes: one transaction at a time, columns in whole, and no sample that the selection does not have."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thinice.errors import StoreError
from thinice.store.connection import ask, reading, writing
from thinice.store.queries import query
from thinice.store.schema import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thinice.store.columns import Columns
    from thinice.store.connection import Connection

__all__ = ["Pen", "key_of", "write"]


class Pen:
    """Writes into one store for one run, and keeps nothing open: the base of `Run`."""

    def __init__(self, path: Path, patience: float, run_id: int) -> None:
        self.run_id = run_id
        self._path, self._patience = path, patience

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id}, {str(self._path)!r})"

    @contextmanager
    def _writing(self, *, bulky: bool = False) -> Iterator[Connection]:
        """Yield a connection in a transaction that also notes that this run is alive."""
        with writing(self._path, self._patience, bulky=bulky) as connection:
            yield connection
            ask(
                connection,
                "update runs set seen = greatest(seen, $now) where run_id = $run_id",
                run_id=self.run_id,
                now=now(),
            )

    def _missing(
        self, name: str, sample_ids: npt.ArrayLike, key: Mapping[str, int], *adopted: str, **more: int
    ) -> npt.NDArray[np.int64]:
        """Return the positions in `sample_ids` that a named query by `key` and `more` finds missing, ascending.

        Where there are any, other named queries by `key` first copy what can be `adopted` from elsewhere in the store.
        """
        ids = np.asarray(sample_ids, dtype=np.int64)
        columns = {"position": np.arange(len(ids)), "sample_id": ids}
        with reading(self._path, self._patience) as connection:
            missing = _positions(connection, name, columns, **key, **more)
        if not (missing.size and adopted):
            return missing
        with self._writing() as connection:
            for step in adopted:
                ask(connection, query(step), **key)
            return _positions(connection, name, columns, **key, **more)

    def _looked_up(self, connection: Connection, column: str, table: str, key: int) -> int:
        """Return a whole number in the row of this key; the names are this module's own, the key is bound."""
        one = table.removesuffix("s")
        found = ask(connection, f"select {column} from {table} where {one}_id = $key", key=key)  # noqa: S608
        if not found:
            raise StoreError(f"{self._path} has no {one} {key}")
        return int(found[0][0])


def write(
    connection: Connection, name: str, columns: Columns, *, selection: int | None = None, **parameters: object
) -> int:
    """Insert columns in whole by a named query and return the number of new rows.

    Raises
    ------
    StoreError
        Where a sample is not in the selection of this dataset_id.

    """
    _register(connection, columns)
    strange = [] if selection is None else ask(connection, query("strangers"), dataset_id=selection)
    if strange:
        raise StoreError(f"sample {strange[0][0]} is not in selection {selection}: nothing was stored")
    ((count,),) = ask(connection, query(name), **parameters)
    return int(count)


def key_of(connection: Connection, table: str, **values: object) -> int:
    """Return the key of the row with these values; the names are the caller's own, the values are bound."""
    wanted = " and ".join(f"{name} = ${name}" for name in values)
    ((key,),) = ask(connection, f"select {table.removesuffix('s')}_id from {table} where {wanted}", **values)  # noqa: S608
    return int(key)


def _positions(connection: Connection, name: str, columns: Columns, **key: int) -> npt.NDArray[np.int64]:
    _register(connection, columns)
    found = ask(connection, query(name), **key)
    return np.array([position for (position,) in found], dtype=np.int64)


def _register(connection: Connection, columns: Columns) -> None:
    """Let queries see columns as the table ``rows``."""
    import pandas as pd  # noqa: PLC0415 - half a second, for those who write

    frame = pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
    connection.register("rows", frame)
