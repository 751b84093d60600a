"""The store: one DuckDB file that keeps every measurement, answers questions in SQL, and survives its writers."""

from thinice.store.explain import statements
from thinice.store.run import Run
from thinice.store.store import Store, open_store

__all__ = ["Run", "Store", "open_store", "statements"]
