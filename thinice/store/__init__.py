"""The store: one DuckDB file that keeps every measurement, answers questions in SQL, and survives its writers."""

from thinice.store.explain import statements
from thinice.store.run import Run
from thinice.store.store import Store, open_store
from thinice.store.stored import stored_adversarial, stored_settings

__all__ = ["Run", "Store", "open_store", "statements", "stored_adversarial", "stored_settings"]
