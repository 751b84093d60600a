"""The tables of both README.md, out of the results in `data/`.

python benchmarks/tables.py [--write]

Each stands behind a comment with its name; without `--write` they are only printed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from peers import PEERS

Row = dict[str, Any]
INFINITY = float("inf")
OURS = ("tmn-quick", "tmn-standard", "tmn-thorough", "fmn-300")
CONVOLUTIONAL = ("resnet20", "oval_cifar_base_kw", "resnet_2b", "mnist_cnn", "at_cnn", "pruned90")
CONNECTED = ("fc256x4", "mse256x4", "mse256x6", "sig6x200", "msesig", "mnistfc_256x2")
NETWORKS, NORMS = (*CONVOLUTIONAL, *CONNECTED), ("linf", "l2", "l1", "l0")
# effort: most passes, most mean excess in %, least share within 1 %
GOALS: dict[bool, dict[str, tuple[float, float, float]]] = {
    True: {"quick": (25, 1, 0), "standard": (45, 0.5, 0.95), "thorough": (100, INFINITY, 0.99)},
    False: {"standard": (100, 2, 0), "thorough": (INFINITY, 0.5, 0)},
}
SPECIAL = {"ho-fmn-100-tuned"}
HERE = Path(__file__).parent
PAGES = (HERE / "README.md", HERE.parent / "README.md")
# what the front page shows: names, and in which norms
FRONT = {
    "resnet20": ("ResNet-20, CIFAR-10", ("linf", "l2", "l1", "l0")),
    "resnet_2b": ("ResNet, trained adversarially", ("linf", "l2")),
    "mnist_cnn": ("CNN, MNIST", ("linf", "l2")),
    "at_cnn": ("CNN, MNIST, trained adversarially", ("linf", "l2", "l1", "l0")),
    "mnistfc_256x2": ("fully connected, MNIST", ("linf", "l2")),
}
FRONT_ATTACKS = {
    "tmn-quick": "quick",
    "tmn-standard": "standard",
    "tmn-thorough": "thorough",
    "fmn-300": "FMN 300",
    "foolbox-fmn-200": "foolbox FMN 200",
    "advlib-fmn-200": "adversarial-library FMN 200",
}
Groups = dict[tuple[str, str], dict[str, Row]]


def cell(row: Row | None) -> str:
    """Return mean excess / share within 1 % / passes."""
    if row is None:
        return ""
    lost = f", {row['not_found']} not found" if row["not_found"] else ""
    return f"{row['mean']:.2f} / {100 * row['within_1']:.0f} / {row['passes']:.0f}{lost}"


def best_peer(rows: dict[str, Row]) -> tuple[str, Row] | tuple[None, None]:
    """Return the peer with the most samples within 1 %; of equal ones, the one with the smaller mean excess."""
    peers = {name: row for name, row in rows.items() if name in {*PEERS, *SPECIAL}}
    if not peers:
        return None, None
    name = max(peers, key=lambda one: (peers[one]["within_1"], -peers[one]["mean"]))
    return name, peers[name]


def missed(row: Row, passes: float, mean: float, within: float) -> str:
    """Return what of the goals a row misses, and by how much; "reached" where nothing."""
    words = [
        f"{row['passes']:.1f} passes > {passes:g}" if row["passes"] > passes else "",
        f"{row['mean']:.2f} % > {mean:g} %" if row["mean"] > mean else "",
        f"{100 * row['within_1']:.0f} % < {100 * within:g} %" if row["within_1"] < within else "",
    ]
    return "; ".join(word for word in words if word) or "reached"


def table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table whose first row is its head."""
    lines = [list(row) for row in rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(line) + " |" for line in lines]


def overview(groups: Groups) -> list[str]:
    """Return TMN's efforts beside FMN and the best peer."""
    head = ["network", "norm", "n", "quick", "standard", "thorough", "fmn-300"]
    rows = [[*head, "> 2 % worse", "best peer", "its figures"]]
    for (network, norm), attacks in groups.items():
        standard = attacks["tmn-standard"]
        peer, figures = best_peer(attacks)
        cells = [cell(attacks[name]) for name in OURS]
        worse = f"{100 * standard['worse_than_fmn_300']:.1f} %"
        rows.append([network, norm, str(standard["samples"]), *cells, worse, peer or "", cell(figures)])
    return table(rows)


def every_peer(groups: Groups) -> list[str]:
    """Return every peer beside TMN's standard effort."""
    names = [name for name in (*PEERS, *sorted(SPECIAL)) if any(name in rows for rows in groups.values())]
    columns = [key for key, attacks in groups.items() if any(name in attacks for name in names)]
    networks = list(dict.fromkeys(network for network, _ in columns))
    rows = [["attack", "norm", *networks]]
    for norm in dict.fromkeys(norm for _, norm in columns):
        for name in ("tmn-standard", *names):
            found = [groups.get((network, norm), {}).get(name) for network in networks]
            if any(found):
                rows.append([name, norm, *map(cell, found)])
    return table(rows)


def goals(groups: Groups) -> list[str]:
    """Return which goals are reached, and by how much the others are missed."""
    rows = [["network", "norm", "quick", "standard", "thorough", "> 2 % worse than FMN-300 (at most 2 %)"]]
    for (network, norm), attacks in groups.items():
        asked = GOALS[network in CONVOLUTIONAL]
        efforts = ("quick", "standard", "thorough")
        cells = [
            missed(attacks[f"tmn-{effort}"], *asked[effort]) if effort in asked else "no goal" for effort in efforts
        ]
        worse = attacks["tmn-standard"]["worse_than_fmn_300"]
        rows.append([network, norm, *cells, "reached" if worse <= 0.02 else f"{100 * worse:.1f} %"])
    return table(rows)


def equal_passes(_groups: Groups) -> list[str]:
    """Return attacks of l1 and l0 by the passes that they had, about 100, 200 and 1000."""
    path = HERE / "data" / "equal-passes.json"
    groups: Groups = defaultdict(dict)
    for row in json.loads(path.read_text())["rows"]:
        groups[row["norm"], row["network"]][row["attack"]] = row
    networks = [network for network in NETWORKS if ("l1", network) in groups]
    rows = [["norm", "attack", *networks], ["", "samples", *(samples(groups["l1", network]) for network in networks)]]
    for norm in ("l1", "l0"):
        attacks = dict.fromkeys(attack for key, group in groups.items() if key[0] == norm for attack in group)
        for attack in sorted(attacks, key=by_program):
            cells = [cell(groups[norm, network].get(attack)) for network in networks]
            rows.append([norm, attack, *cells])
    return table(rows)


def by_program(attack: str) -> tuple[bool, str, int]:
    """Return a key that sorts attacks by program, TMN first, then by the number that their name ends with."""
    program, _, steps = attack.rpartition("-")
    return not attack.startswith("tmn"), program, int(steps) if steps.isdigit() else 0


def samples(rows: dict[str, Row]) -> str:
    """Return how many samples these rows are of, and which is the first."""
    row = next(iter(rows.values()))
    return f"{row['samples']} from {row['first']}"


def attackbench(_groups: Groups) -> list[str]:
    """Return AttackBench's local optimality and queries, by attack and network."""
    groups: Groups = defaultdict(dict)
    for row in json.loads((HERE / "data" / "attackbench.json").read_text())["rows"]:
        groups[row["norm"], row["network"]][row["attack"]] = row
    networks = list(dict.fromkeys(network for _, network in groups))
    rows = [["norm", "attack", *networks, "mean"]]
    for norm in NORMS:
        complete = [network for network in networks if (norm, network) in groups]
        for attack in dict.fromkeys(name for network in complete for name in groups[norm, network]):
            results = [groups[norm, network].get(attack) for network in complete]
            scores = [row["optimality"] for row in results if row is not None]
            mean = f"{sum(scores) / len(scores):.3f}" if len(scores) == len(complete) else ""
            cells = dict(zip(complete, map(local_optimality, results), strict=True))
            rows.append([norm, attack, *(cells.get(network, "") for network in networks), mean])
    return table(rows)


def local_optimality(row: Row | None) -> str:
    """Return local optimality, how many were missed, and queries."""
    if row is None:
        return ""
    lost = f", {row['not_found']} missed" if row["not_found"] else ""
    return f"{row['optimality']:.3f}{lost} ({row['queries']:.0f})"


def front(groups: Groups) -> list[str]:
    """Return the mean excess of a few attacks on a few networks, for the front page."""
    rows = [["network", "norm", *FRONT_ATTACKS.values()]]
    for network, (name, norms) in FRONT.items():
        for norm in norms:
            found = [groups[network, norm].get(attack) for attack in FRONT_ATTACKS]
            rows.append([name, norm, *(short(row) for row in found)])
    return table(rows)


def short(row: Row | None) -> str:
    """Return mean excess, how many were missed, and passes."""
    if row is None:
        return ""
    lost = f", {row['not_found']} missed" if row["not_found"] else ""
    return f"{row['mean']:.2f}{lost} ({row['passes']:.0f})"


def measured() -> Groups:
    """Return the stored results by network and norm."""
    groups: Groups = defaultdict(dict)
    for path in sorted((HERE / "data").glob("engine-*.json")):
        for row in json.loads(path.read_text())["rows"]:
            groups[row["network"], row["norm"]][row["attack"]] = row
    return {key: groups[key] for key in product(NETWORKS, NORMS) if key in groups}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the tables in both pages")
    options = parser.parse_args()
    groups = measured()
    for make in (overview, every_peer, equal_passes, attackbench, goals, front):
        lines = "\n".join(make(groups))
        marker = f"<!-- table: {make.__name__} -->\n"
        print(marker + lines + "\n")
        for page in PAGES if options.write else ():
            text = page.read_text(encoding="utf-8")
            pattern = re.escape(marker) + r"(\|.*\n)*"
            page.write_text(re.sub(pattern, lambda _, new=marker + lines + "\n": new, text), encoding="utf-8")


if __name__ == "__main__":
    main()
