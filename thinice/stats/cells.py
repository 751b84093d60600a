"""Two groups as counts at each distinct epsilon: what curves are fitted to and resamples are drawn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinice.stats.columns import FloatColumn

__all__ = ["cells", "even_groups", "pooled_cells"]


def cells(kept: FloatColumn, lost: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Return the distinct epsilons (K,), ascending, and how many samples are kept and lost at each (K, 2)."""
    epsilon, where = np.unique(np.concatenate([kept, lost]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(epsilon)) for part in np.split(where.ravel(), [len(kept)])]
    return epsilon, np.column_stack(counts).astype(np.float64)


def pooled_cells(kept: FloatColumn, lost: FloatColumn, most: int) -> tuple[FloatColumn, FloatColumn]:
    """Return what `cells` does, with neighbouring epsilons pooled where there are more than `most`; inf stays alone."""
    epsilon, counts = cells(kept, lost)
    found = int(np.isfinite(epsilon).sum())
    if found <= most:
        return epsilon, counts
    sizes = counts[:found].sum(axis=1)
    group = even_groups(sizes, most)
    pooled = np.column_stack([np.bincount(group, column) for column in counts[:found].T])
    mean = np.bincount(group, sizes * epsilon[:found]) / pooled.sum(axis=1)
    return np.append(mean, epsilon[found:]), np.concatenate([pooled, counts[found:]])


def even_groups(sizes: FloatColumn, most: int) -> npt.NDArray[np.intp]:
    """Return a group for each epsilon, from 0 without gaps: at most so many, of nearly equally many samples."""
    if len(sizes) == 0:
        return np.empty(0, np.intp)
    middle = sizes.cumsum() - sizes / 2  # an epsilon goes where the middle of its samples is
    group = np.floor(middle / sizes.sum() * most)
    return np.unique(group, return_inverse=True)[1].ravel().astype(np.intp)
