"""One self-contained HTML page out of a store: the answer, how it was measured, and every sample to look at."""

from thinice.report.page import save_report

__all__ = ["save_report"]
