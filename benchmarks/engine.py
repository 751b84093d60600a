"""How near the attacks come, for how many passes: the race beside FMN, ours and foolbox's, in one process.

    python benchmarks/engine.py --reference FOLDER [--networks a,b] [--norms linf,l2] [--first 64] [--samples 48]
                                [--attacks race-standard,fmn-100] [--json FILE] [--learn]

Each row: mean excess over the best known epsilon in %, of the found; share of samples within 1 %; share more than 2 %
worse than our FMN at 300 steps; passes a sample (foolbox: its steps); not found; seconds. The best known epsilons are
in `data/best_known.npz`: the least that any of the attacks of the development ever found, with thousands of passes a
sample; `--learn` writes back what this run found nearer. Without it they are lowered for this run alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from networks import NETWORKS, load
from torch import Tensor

from thinice.attacks.fmn import fmn
from thinice.attacks.nearest import Claims, judge
from thinice.attacks.race import RACE_EFFORTS, race
from thinice.norms import NORM_TABLE

HERE = Path(__file__).parent
BEST_KNOWN = HERE / "data" / "best_known.npz"
Search = Callable[..., Claims]
FOOLBOX = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}


def foolbox_fmn(
    model: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, _: Tensor, *, norm: str, steps: int
) -> Claims:
    """Return what foolbox's FMN claims; a step is one pass."""
    import foolbox

    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model(x)

    wrapped = foolbox.PyTorchModel(Module().eval(), bounds=(0, 1), device=inputs.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _raw, points, found = getattr(foolbox.attacks, FOOLBOX[norm])(steps=steps)(
            wrapped, inputs, labels, epsilons=None
        )
    points = torch.where(found[:, None, None, None], points, inputs).clamp(0, 1)
    return Claims(points, torch.full((len(inputs),), float(steps)))


ATTACKS: dict[str, Search] = {
    **{f"race-{effort}": partial(race, **settings) for effort, settings in RACE_EFFORTS.items()},
    "fmn-100": partial(fmn, steps=100),
    "fmn-300": partial(fmn, steps=300),
    "foolbox-100": partial(foolbox_fmn, steps=100),
    "foolbox-300": partial(foolbox_fmn, steps=300),
}


def measured(
    name: str, norm: str, options: argparse.Namespace
) -> tuple[str, dict[str, tuple[np.ndarray, float, float]]]:
    """Return the network's identity and each attack's epsilons (N,), infinite where not found, passes and seconds."""
    identity, model, inputs, labels = load(name, options.reference, options.cache)
    part = slice(options.first, options.first + options.samples)
    inputs, labels = inputs[part], labels[part]
    ids = torch.arange(options.first, options.first + len(inputs))
    results = {}
    for attack in options.attacks:
        start = time.perf_counter()
        claims = ATTACKS[attack](model, inputs, labels, ids, norm=norm)
        seconds = time.perf_counter() - start
        nearest = judge(model, inputs, claims.candidates, labels, norm=norm, evaluations=claims.evaluations)
        epsilon = nearest.epsilon.nan_to_num(torch.inf).double().numpy()
        results[attack] = epsilon, float(nearest.evaluations.mean()), seconds
    return identity, results


def best_known(known: dict[str, np.ndarray], key: str, first: int, results: list[np.ndarray]) -> np.ndarray:
    """Return the least epsilon known of each sample, those just found included, and note them."""
    table = known.setdefault(key, np.full(400, np.inf))
    part = slice(first, first + len(results[0]))
    table[part] = np.minimum(table[part], np.min(results, axis=0))
    return table[part].copy()


def row(epsilon: np.ndarray, best: np.ndarray, rival: np.ndarray | None) -> dict[str, float]:
    """Return the figures of one attack on one network."""
    found = np.isfinite(epsilon)
    excess = 100 * (epsilon[found] / best[found] - 1)
    figures = {
        "mean": float(excess.mean()) if found.any() else float("nan"),
        "within_1": float((excess < 1).sum() / len(epsilon)),
        "not_found": int((~found).sum()),
    }
    if rival is not None:
        figures["worse_than_fmn_300"] = float((epsilon > 1.02 * rival).mean())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731  # a type for argparse
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where trained weights are kept")
    parser.add_argument("--networks", type=words, default=list(NETWORKS))
    parser.add_argument("--norms", type=words, default=["linf", "l2"])
    parser.add_argument("--attacks", type=words, default=list(ATTACKS))
    parser.add_argument("--first", type=int, default=0, help="of the correctly classified samples")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--learn", action="store_true")
    options = parser.parse_args()
    assert set(NORM_TABLE) >= set(options.norms)
    torch.set_num_threads(1)
    known = dict(np.load(BEST_KNOWN)) if BEST_KNOWN.exists() else {}
    rows = []
    print("network | norm | attack | mean excess % | within 1 % | >2 % worse than fmn-300 | passes | not found | s")
    print("--- | --- | --- | --- | --- | --- | --- | --- | ---")
    for name in options.networks:
        for norm in options.norms:
            identity, results = measured(name, norm, options)
            if not next(iter(results.values()))[0].size:
                continue
            best = best_known(
                known, f"{identity}/{norm}", options.first, [epsilon for epsilon, _, _ in results.values()]
            )
            rival = results["fmn-300"][0] if "fmn-300" in results else None
            for attack, (epsilon, passes, seconds) in results.items():
                figures = row(epsilon, best, rival)
                worse = figures.get("worse_than_fmn_300", float("nan"))
                print(
                    f"{name} | {norm} | {attack} | {figures['mean']:.2f} | {figures['within_1']:.2f} | {worse:.2f} "
                    f"| {passes:.1f} | {figures['not_found']} | {seconds:.1f}",
                    flush=True,
                )
                row_facts = {"network": name, "norm": norm, "attack": attack, "samples": len(epsilon)}
                rows.append(row_facts | figures | {"passes": passes, "seconds": seconds})
    if options.learn:
        np.savez_compressed(BEST_KNOWN, **{key: table.astype(np.float64) for key, table in known.items()})
    if options.json:
        facts = {"python": sys.version.split()[0], "torch": version("torch"), "foolbox": version("foolbox")}
        facts |= {"machine": platform.machine(), "threads": "1", "first": str(options.first)}
        options.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
