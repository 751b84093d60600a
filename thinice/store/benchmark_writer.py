"""Writing of the benchmark: tuned settings, published accuracies, networks that went through it, imported distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thinice.errors import StoreError
from thinice.store.columns import IMPORTED_DISTANCES, json_text, shard_columns, write
from thinice.store.connection import ask
from thinice.store.run_base import RunBase
from thinice.store.schema import now
from thinice.store.sql import query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from thinice.types import Norm

__all__ = ["BenchmarkWriter"]

PUBLISHED_TEXTS = {"method", "architecture", "data", "structure"}


class BenchmarkWriter(RunBase):
    """The part of a run that stores what the benchmark keeps."""

    def add_tuning(
        self,
        fingerprint: str,
        *,
        checkpoint: str,
        samples: str,
        attack: str,
        norm: Norm,
        asked: Mapping[str, Any],
        settings: Mapping[str, Any],
        median: float | None,
        default_median: float | None,
        n: int,
    ) -> None:
        """Store the settings that a search found best for a network, under the hash of all that decides them.

        Parameters
        ----------
        fingerprint, checkpoint, samples : str
            Of the search, the network, and the selection tuned on.
        attack, norm, asked : str, str, mapping
            What was searched.
        settings, median, default_median, n
            The best settings; median epsilons of these and of the default ones, None where unknown, on so many samples.

        """
        facts = {"checkpoint": checkpoint, "samples": samples, "attack": attack, "norm": norm, "n": n}
        results = {"settings": json_text(settings), "median": median, "default_median": default_median}
        with self._writing() as connection:
            key = {"fingerprint": fingerprint, "run_id": self.run_id, "now": now()}
            ask(connection, query("add_tuning"), **key, **facts, **results, asked=json_text(asked))

    def add_published_accuracies(
        self, columns: Mapping[str, Sequence[Any]], *, n: int, budget: float, source: str
    ) -> None:
        """Store the rows of the published leaderboards, by the columns of ``published_accuracies``; those there stay.

        Parameters
        ----------
        columns : mapping of str to sequence
            ``method``, ``architecture``, ``data``, ``structure``, ``sparsity``, ``clean_accuracy``,
            ``robust_accuracy``.
        n, budget, source : int, float, str
            Test images and radius of all of them, and who says so.

        """
        ready = {
            name: np.array(values, object if name in PUBLISHED_TEXTS else None) for name, values in columns.items()
        }
        with self._writing() as connection:
            facts: dict[str, Any] = {"n": n, "budget": budget, "source": source, "run_id": self.run_id}
            write(connection, "add_published_accuracies", ready, **facts)

    def add_benchmark_network(
        self,
        measurement_id: int,
        *,
        protocol: Mapping[str, Any],
        method: str | None,
        entry: Mapping[str, str] | None,
        model_key: str | None,
        structure: str,
        removed_share: float,
        layers: Mapping[str, float],
        autoattack_id: int,
        ho_fmn_id: int,
    ) -> None:
        """Store that a pruned network went through the benchmark; it replaces what was stored of it by this protocol.

        Parameters
        ----------
        measurement_id : int
            Of the dense network's epsilons, which both comparisons are of.
        protocol, method, entry, model_key, structure, removed_share, layers
            By the columns of ``benchmark_networks``.
        autoattack_id, ho_fmn_id : int
            Measurements of the pruned network.

        Raises
        ------
        StoreError
            Where the store has not both comparisons.

        """
        facts = {
            "protocol": json_text(protocol),
            "method": method,
            "entry": None if entry is None else json_text(entry),
            "model_key": model_key,
            "structure": structure,
            "removed_share": removed_share,
            "layers": json_text(layers),
            "autoattack_id": autoattack_id,
            "ho_fmn_id": ho_fmn_id,
        }
        with self._writing() as connection:
            key = {"measurement_id": measurement_id, "run_id": self.run_id, "now": now()}
            ((count,),) = ask(connection, query("add_benchmark_network"), **key, **facts)
            if not count:
                raise StoreError(
                    f"{self._path} has no comparisons of measurements {measurement_id} and {autoattack_id}"
                )

    def replace_imported_distances(
        self,
        model_key: str,
        sample_ids: npt.ArrayLike,
        *,
        distances: npt.ArrayLike,
        split: str,
        source: str,
        digest: str,
    ) -> int:
        """Store the distances of a file of the public benchmark, and return how many; they replace those of its key."""
        columns = shard_columns(sample_ids, IMPORTED_DISTANCES, {"distances": distances})
        facts: dict[str, Any] = {"model_key": model_key, "split": split, "source": source, "digest": digest}
        with self._writing() as connection:
            ask(connection, query("delete_imported_distances"), model_key=model_key)
            return write(connection, "add_imported_distances", columns, **facts, run_id=self.run_id)
