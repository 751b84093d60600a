"""How often nominal 95 % intervals of an AUC hold the true one, where few samples are lost and the AUC is high.

    python benchmarks/auc_coverage.py --replicates 1000 >> results.md

Four kinds of groups, each placed so that its true AUC is known: **N** normal, of equal spread; **N2** normal, lost
samples spread twice as widely; **G** kept samples gamma of shape 2, lost ones exponential; **M** normal, but 5 % of the
lost samples lie like kept ones. Of each interval the table has its coverage in %, N / N2 / G / M, and the last row its
least over all settings: of DeLong's interval on the logit scale alone, of Newcombe's method 5 alone, and of the hull
that `thinice.stats.separation` gives, with its median width against DeLong's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

from thinice.stats.auc_interval import auc_bounds, newcombe_bounds, placement_variance, placements

Group = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[Group, Group]]
SIZES = ((5, 500), (12, 900), (40, 900), (400, 7600))
AUCS = (0.60, 0.80, 0.90, 0.97)
STRAY = 0.05
"""Of the lost samples of kind M: the share that lies like kept ones."""


def drawers(auc: float) -> dict[str, Draw]:
    """Return what draws kept and lost samples whose true AUC is this one, by kind."""
    apart = ndtri(auc)
    # half of the pairs with a stray one are won, so that the others must win more
    apart_of_most = ndtri((auc - STRAY / 2) / (1 - STRAY)) * 2**0.5

    def gamma_auc(scale: float) -> float:  # P(scale * gamma(2) > exponential) = 1 - (1 + scale)^-2
        return float(1 - (1 + scale) ** -2)

    scale = brentq(lambda scale: gamma_auc(scale) - auc, 1e-6, 1e6)

    def mixed(rng: np.random.Generator, m: int, n: int) -> tuple[Group, Group]:
        lost = rng.normal(0, 1, n) + apart_of_most * (rng.random(n) < STRAY)
        return rng.normal(apart_of_most, 1, m), lost

    return {
        "N": lambda rng, m, n: (rng.normal(apart * 2**0.5, 1, m), rng.normal(0, 1, n)),
        "N2": lambda rng, m, n: (rng.normal(apart * 5**0.5, 1, m), rng.normal(0, 2, n)),
        "G": lambda rng, m, n: (scale * rng.gamma(2, 1, m), rng.exponential(1, n)),
        "M": mixed,
    }


def simulated(draw: Draw, sizes: tuple[int, int], auc: float, replicates: int) -> NDArray[np.float64]:
    """Return coverage of the three intervals, and the median width of the last against the first."""
    rng = np.random.default_rng(0)
    n, m = sizes
    estimates, variances, dfs = (np.empty(replicates) for _ in range(3))
    for k in range(replicates):
        kept, lost = (np.sort(group) for group in draw(rng, m, n))
        placed_lost = placements(lost, kept)
        variance = placement_variance(placements(kept, lost), placed_lost)
        estimates[k], variances[k], dfs[k] = 1 - placed_lost.mean(), variance.variance[0], variance.df[0]
    se = np.where(variances > 0, np.sqrt(variances), np.nan)
    hull = auc_bounds(estimates, se, dfs, (m, n), 0.95)
    has_se = (estimates > 0) & (estimates < 1) & (se > 0)
    inside = np.where(has_se, estimates, 0.5)
    half = ndtri(0.975) * np.where(has_se, se, 0) / (inside * (1 - inside))
    delong = expit(logit(inside) - half), expit(logit(inside) + half)
    delong = np.where(has_se, delong, hull)  # where it has no variance both are Wilson's
    newcombe = np.where(has_se, newcombe_bounds(inside, (m, n), 0.95), hull)
    covered = [((low <= auc) & (auc <= high)).mean() for low, high in (delong, newcombe, hull)]
    return np.array([*covered, np.median((hull[1] - hull[0]) / (delong[1] - delong[0]))])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    replicates = parser.parse_args().replicates
    print(f"{replicates} replicates: a share of 95 % has a standard error of {(0.95 * 0.05 / replicates) ** 0.5:.1%}\n")
    print("| lost / kept | AUC | logit DeLong | Newcombe 5 | their hull, as thinice gives it | its width |")
    print("| --- | --- | --- | --- | --- | --- |")
    least = np.ones(3)
    for sizes in SIZES:
        for auc in AUCS:
            results = np.array([simulated(draw, sizes, auc, replicates) for draw in drawers(auc).values()])
            least = np.minimum(least, results[:, :3].min(axis=0))
            cells = [" / ".join(f"{100 * share:.0f}" for share in column) for column in results[:, :3].T]
            width = f"{results[:, 3].min():.1f} to {results[:, 3].max():.1f}"
            print(f"| {sizes[0]} / {sizes[1]} | {auc:.2f} | {' | '.join(cells)} | {width} |", flush=True)
    print(f"| least of all | | {' | '.join(f'{100 * share:.1f}' for share in least)} | |")


if __name__ == "__main__":
    main()
