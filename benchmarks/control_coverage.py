"""How often the interval of the difference to a control holds the true difference: a table of simulations.

    python benchmarks/control_coverage.py [--replicates 300] [--samples 900 8000]

Epsilons are drawn from a gamma distribution. A network loses a sample where its epsilon, with some noise of the
network, falls below a threshold: noise decides how well epsilons separate. ``shared`` is how much of the noise of a
sample all networks share. Printed are true AUCs, mean number of lost samples, coverage and mean width at 95 %.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from thinice.stats import compare_with_control, delong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EASY, MIDDLE, HARD = (0.3, 0.9), (0.8, 0.6), (1.5, -0.1)
"""Noise and threshold: AUC 0.99, 0.95 and 0.88."""


PAIRS = [(EASY, EASY), (MIDDLE, MIDDLE), (HARD, HARD), (EASY, HARD)]
"""Of the pruned and of the control networks."""


def lost(
    epsilon: NDArray[np.float64], network: tuple[float, float], common: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which samples a network loses; part of its noise is `common` to others."""
    noise, threshold = network
    own = rng.normal(size=len(epsilon))
    share = float(common.std() > 0) * 0.7
    return np.asarray(epsilon + noise * (share * common + np.sqrt(1 - share**2) * own) < threshold)


def true_auc(network: tuple[float, float], rng: np.random.Generator) -> float:
    """Return the AUC in 400 000 samples."""
    epsilon = rng.gamma(4, 1, 400_000)
    gone = lost(epsilon, network, np.zeros(len(epsilon)), rng)
    (auc,), _ = delong(epsilon[~gone][None], epsilon[gone][None])
    return float(auc)


def main(replicates: int, sizes: Sequence[int]) -> None:
    """Print a line a setting."""
    rng = np.random.default_rng(0)
    print("AUC  control  samples  networks  shared   lost  coverage  width")
    for (pruned, control), n, networks, shared in product(PAIRS, sizes, (1, 5), (False, True)):
        aucs = true_auc(pruned, rng), true_auc(control, rng)
        difference = aucs[0] - aucs[1]
        held, widths, counts = [], [], []
        for _ in range(replicates if n < 1000 else replicates // 5):
            epsilon = rng.gamma(4, 1, n)
            common = rng.normal(size=n) if shared else np.zeros(n)
            gone = lost(epsilon, pruned, common, rng)
            result = compare_with_control(epsilon, gone, [lost(epsilon, control, common, rng) for _ in range(networks)])
            if result.low is None or result.high is None:
                continue
            held.append(result.low <= difference <= result.high)
            widths.append(result.high - result.low)
            counts.append(gone.sum())
        print(
            f"{aucs[0]:.2f} {aucs[1]:8.2f} {n:8} {networks:9} {'0.7' if shared else '0':>7}"
            f" {np.mean(counts):6.0f} {np.mean(held):9.3f} {np.mean(widths):6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--samples", type=int, nargs="+", default=[900, 8000])
    arguments = parser.parse_args()
    main(arguments.replicates, arguments.samples)
