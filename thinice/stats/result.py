"""What all results share: `to_dict()` for JSON, `frame()` for pandas, a table in a notebook."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from thinice.types import Interval

__all__ = ["Result"]


class Result:
    """The base of the result dataclasses: tells the fields, and the properties that `derived` names."""

    __slots__ = ()
    derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict for JSON: an interval as ``…_low`` and ``…_high``, no number as None."""
        flat: dict[str, Any] = {}
        for name, value in self._values().items():
            if isinstance(value, Interval):
                flat |= {f"{name}_low": _plain(value.low), f"{name}_high": _plain(value.high)}
            else:
                flat[name] = _plain(value)
        return flat

    def frame(self) -> pd.DataFrame:
        """Return the columns of the result, one row an entry; a result without columns is one row."""
        columns = {name: value for name, value in self._values().items() if isinstance(value, np.ndarray)}
        if columns:
            return pd.DataFrame(columns)
        row = {name: "; ".join(value) if name == "notes" else value for name, value in self.to_dict().items()}
        return pd.DataFrame([row])

    def _repr_html_(self) -> str:
        frame = self.frame()
        if len(frame) == 1:  # one row reads better as a list
            return str(frame.T.to_html(header=False))
        return str(frame.to_html(max_rows=20))

    def _values(self) -> dict[str, Any]:
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]  # all are dataclasses
        return {name: getattr(self, name) for name in (*fields, *self.derived)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of any result
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(entry) for entry in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
