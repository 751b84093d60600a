"""How near the attacks come, for how many passes: TMN beside FMN and other programs' attacks, in one process.

    python benchmarks/engine.py --reference FOLDER [--networks a,b] [--norms linf,l2] [--first 60] [--samples 40]
                                [--attacks tmn-standard,fmn-300] [--peers] [--strong 3] [--learn] [--json FILE]

The columns are explained in README.md. The best known epsilons are in `data/best_known.npz`: the least that any attack
ever found; `--learn` writes back what this run found nearer, without it they are lowered for this run alone. A row of
`--json` takes the place of an older one of the same network, norm and attack; the file keeps all others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import NETWORKS, VERIFIED, load, mnist, proofs
from peers import AT_BUDGETS, PEERS, PassCounter, missing
from torch import Tensor

from thinice.attacks import make_attack
from thinice.attacks.fmn import fmn
from thinice.attacks.ho_fmn import ho_fmn, tune
from thinice.attacks.result import verify
from thinice.attacks.tmn import ROW as TMN
from thinice.norms import NORM_TABLE

HERE = Path(__file__).parent
BEST_KNOWN = HERE / "data" / "best_known.npz"
Search = Callable[..., Tensor]
Found = tuple[np.ndarray, float, float]
PACKAGES = ("torch", "foolbox", "adv-lib", "pyautoattack", "thinice")


def ours(
    model: PassCounter, inputs: Tensor, labels: Tensor, ids: Tensor, *, norm: str, name: str, **settings: int | str
) -> Tensor:
    """Return the adversarials of an attack as thinice's users get it, fall-back and verification included."""
    return make_attack(name, norm=norm, **settings)(model, inputs, labels, ids).adversarials


def plain_fmn(model: PassCounter, inputs: Tensor, labels: Tensor, ids: Tensor, *, norm: str, steps: int) -> Tensor:
    """Return what FMN finds by itself."""
    return fmn(model, inputs, labels, ids, norm=norm, steps=steps).candidates


ATTACKS: dict[str, Search] = {
    **{f"tmn-{effort}": partial(ours, name="tmn", effort=effort) for effort in ("quick", "standard", "thorough")},
    # about 200 and 1000 passes in l1 and l0
    **{f"tmn-steps-{steps}": partial(ours, name="tmn", steps=steps) for steps in (400, 2000)},
    **{f"fmn-{steps}": partial(plain_fmn, steps=steps) for steps in (100, 300)},
}
USUAL = ("tmn-quick", "tmn-standard", "tmn-thorough", "fmn-300")


def strong_searches(seeds: int) -> list[Search]:
    """Return TMN with other seeds, and a long FMN."""
    again = [partial(ours, name="tmn", effort="thorough", seed=seed) for seed in range(1, seeds + 1)]
    return [*again, partial(plain_fmn, steps=1000)] if seeds else []


def searches(options: argparse.Namespace, norm: str, tuned: Search | None) -> dict[str, Search]:
    """Return the attacks of this run in this norm."""
    chosen = {name: ATTACKS[name] for name in options.attacks if name in ATTACKS}
    for name, peer in (PEERS | AT_BUDGETS).items():
        wanted = name in options.attacks or (options.peers and name in PEERS)
        if wanted and norm in peer.norms and name not in {*missing(), *options.without}:
            chosen[name] = lambda model, inputs, labels, _ids, *, norm, peer=peer: peer(
                model, inputs, labels, norm=norm
            )
    return chosen | ({} if tuned is None else {"ho-fmn-100-tuned": tuned})


def tuned_ho_fmn(model: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, norm: str) -> Search:
    """Return HO-FMN with settings searched on these samples: 16 trials, which are not counted among its passes."""
    ids = torch.arange(len(inputs))
    settings = tune(model, inputs, labels, ids, norm=norm, optimizers=("sgd", "adam"), trials=8).settings

    def search(model: PassCounter, inputs: Tensor, labels: Tensor, ids: Tensor, *, norm: str) -> Tensor:
        return ho_fmn(model, inputs, labels, ids, norm=norm, **settings).candidates

    return search


def bracketed(reference: Path) -> tuple[str, Callable[[Tensor], Tensor], Tensor, Tensor, np.ndarray]:
    """Return a name, `mnistfc_256x2`, the images whose linf radius is bracketed, labels, smallest counterexamples."""
    _, model, _, _ = load("mnistfc_256x2", reference, HERE)
    brackets = np.load(reference / "data" / "verified" / "mnistfc_256x2_brackets.npz")
    inputs, labels = (values[torch.as_tensor(brackets["sample_ids"]).long()] for values in mnist(reference, "t10k"))
    with torch.no_grad():
        correct = model(inputs).argmax(1) == labels
    counterexample = np.asarray(brackets["counterexample"], float)[correct.numpy()]
    return "mnistfc_256x2-brackets", model, inputs[correct], labels[correct], counterexample


def measured(name: str, norm: str, options: argparse.Namespace) -> tuple[str, dict[str, Found], list[np.ndarray]]:
    """Return the network's identity, each attack's epsilons (N,), passes and seconds, and strong searches' epsilons.

    An epsilon is infinite where nothing is verified.
    """
    identity, model, everything, classes = load(name, options.reference, options.cache)
    part = slice(options.first, options.first + options.samples)
    inputs, labels = everything[part], classes[part]
    ids = torch.arange(options.first, options.first + len(inputs))

    def run(search: Search) -> Found:
        counted, start = PassCounter(model), time.perf_counter()
        points = search(counted, inputs, labels, ids, norm=norm)
        seconds, passes = time.perf_counter() - start, counted.passes / len(inputs)
        nearest = verify(model, inputs, points, labels, norm=norm, evaluations=torch.zeros(len(inputs)))
        return nearest.epsilon.nan_to_num(torch.inf).double().numpy(), passes, seconds

    free = slice(0, min(32, options.first))  # samples that are not measured
    tuned = None
    if options.tune and options.first:
        tuned = tuned_ho_fmn(model, everything[free], classes[free], norm)
    results = {attack: run(search) for attack, search in searches(options, norm, tuned).items()}
    return identity, results, [run(search)[0] for search in strong_searches(options.strong)]


def best_known(known: dict[str, np.ndarray], key: str, first: int, results: list[np.ndarray]) -> np.ndarray:
    """Return the least epsilon known of each sample, those just found included, and note them."""
    table = known.setdefault(key, np.full(400, np.inf))
    part = slice(first, first + len(results[0]))
    table[part] = np.minimum(table[part], np.min(results, axis=0))
    return table[part].copy()


def row(epsilon: np.ndarray, best: np.ndarray, peer_epsilon: np.ndarray | None) -> dict[str, float]:
    """Return the figures of one attack on one network."""
    found = np.isfinite(epsilon)
    excess = 100 * (epsilon[found] / best[found] - 1)
    figures = {
        "mean_epsilon": float(epsilon[found].mean()) if found.any() else float("nan"),
        "mean": float(excess.mean()) if found.any() else float("nan"),
        "median": float(np.median(excess)) if found.any() else float("nan"),
        "worst": float(excess.max()) if found.any() else float("nan"),
        "within_1": float((excess < 1).sum() / len(epsilon)),
        "not_found": int((~found & np.isfinite(best)).sum()),
    }
    if peer_epsilon is not None:
        figures["worse_than_fmn_300"] = float((epsilon > 1.02 * peer_epsilon).mean())
    return figures


def against_proofs(name: str, norm: str, first: int, epsilon: np.ndarray, reference: Path) -> dict[str, int]:
    """Return how many epsilons lie within a radius that is proved free, and how many known violations are not met."""
    if name not in VERIFIED or norm != "linf":
        return {}
    radii, verdicts = (values[first : first + len(epsilon)] for values in proofs(name, reference))
    return {
        "proved": int((verdicts == "holds").sum()),
        "below_proof": int(((verdicts == "holds") & (epsilon < radii)).sum()),
        "violated": int((verdicts == "violated").sum()),
        "violations_missed": int(((verdicts == "violated") & (epsilon > radii * (1 + 1e-5))).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731  # a type for argparse
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where trained weights are kept")
    parser.add_argument("--networks", type=words, default=list(NETWORKS))
    parser.add_argument("--norms", type=words, default=["linf", "l2"])
    parser.add_argument("--attacks", type=words, default=USUAL, help="peers' names, too")
    parser.add_argument("--peers", action="store_true", help="other programs' attacks as well")
    parser.add_argument("--without", type=words, default=[], help="peers to leave out")
    parser.add_argument("--tune", action="store_true", help="HO-FMN tuned on samples before --first as well")
    parser.add_argument("--strong", type=int, default=0, help="so many seeds more, only to lower the best known")
    parser.add_argument("--first", type=int, default=0, help="of the correctly classified samples")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--learn", action="store_true")
    options = parser.parse_args()
    assert set(NORM_TABLE) >= set(options.norms)
    if unknown := set(options.attacks) - {*ATTACKS, *PEERS, *AT_BUDGETS}:
        parser.error(f"--attacks {','.join(sorted(unknown))}: choose from {', '.join([*ATTACKS, *PEERS, *AT_BUDGETS])}")
    torch.set_num_threads(1)
    for name, package in missing().items():
        if options.peers or name in options.attacks:
            print(f"{name}: skipped, {package} is not installed")
    known = dict(np.load(BEST_KNOWN)) if BEST_KNOWN.exists() else {}
    facts = {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}
    facts |= {
        "machine": f"{os.cpu_count()} cores, CPU, {platform.machine()}",
        "threads": "1",
    }
    rows = []
    print("network | norm | attack | mean excess % | within 1 % | >2 % worse than fmn-300 | passes | not found | s")
    print("--- | --- | --- | --- | --- | --- | --- | --- | ---")
    for name in options.networks:
        for norm in options.norms:
            identity, results, strong = measured(name, norm, options)
            epsilons = [epsilon for epsilon, _, _ in results.values()]
            best = best_known(known, f"{identity}/{norm}", options.first, [*epsilons, *strong])
            peer_epsilon = results["fmn-300"][0] if "fmn-300" in results else None
            for attack, (epsilon, passes, seconds) in results.items():
                figures = row(epsilon, best, peer_epsilon)
                worse = figures.get("worse_than_fmn_300", float("nan"))
                print(
                    f"{name} | {norm} | {attack} | {figures['mean']:.2f} | {figures['within_1']:.2f} | {worse:.2f} "
                    f"| {passes:.1f} | {figures['not_found']} | {seconds:.1f}",
                    flush=True,
                )
                row_facts = {"network": name, "norm": norm, "attack": attack}
                row_facts |= {"samples": len(epsilon), "first": options.first}
                proof = against_proofs(name, norm, options.first, epsilon, options.reference)
                if attack.startswith("tmn"):
                    row_facts["version"] = TMN.version
                rows.append(row_facts | figures | {"passes": passes, "seconds": seconds} | proof)
            if options.learn:
                np.savez_compressed(BEST_KNOWN, **{key: table.astype(np.float64) for key, table in known.items()})
            if options.json:
                write_rows(options.json, facts, rows)


def write_rows(path: Path, facts: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Write these rows, and those that the file has of other networks, norms and attacks."""
    table = {}
    for row in [*(json.loads(path.read_text())["rows"] if path.exists() else ()), *rows]:
        table[row["network"], row["norm"], row["attack"]] = row
    path.write_text(json.dumps({"facts": facts, "rows": list(table.values())}, indent=1) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
