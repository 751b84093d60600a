"""The tables of README.md, out of the results in `data/`.

python benchmarks/tables.py data/engine-*.json
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from peers import PEERS

Row = dict[str, Any]
INFINITY = float("inf")
OURS = ("race-quick", "race-standard", "race-thorough", "fmn-300")
CONVOLUTIONAL = {"resnet20", "resnet_2b", "oval_cifar_base_kw", "mnist_cnn", "pruned90", "at_cnn"}
# effort: most passes, most mean excess in %, least share within 1 %
GOALS: dict[bool, dict[str, tuple[float, float, float]]] = {
    True: {"quick": (25, 1, 0), "standard": (45, 0.5, 0.95), "thorough": (100, INFINITY, 0.99)},
    False: {"standard": (100, 2, 0), "thorough": (INFINITY, 0.5, 0)},
}
SPECIAL = {"ho-fmn-100-tuned"}


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


def goals(groups: dict[tuple[str, str], dict[str, Row]]) -> None:
    """Print which goals are reached, and by how much the others are missed."""
    print("network | norm | quick | standard | thorough | > 2 % worse than FMN-300 (at most 2 %)")
    print(" | ".join(["---"] * 6))
    for (network, norm), rows in groups.items():
        asked = GOALS[network in CONVOLUTIONAL]
        efforts = ("quick", "standard", "thorough")
        cells = [missed(rows[f"race-{effort}"], *asked[effort]) if effort in asked else "no goal" for effort in efforts]
        worse = rows["race-standard"]["worse_than_fmn_300"]
        print(" | ".join([network, norm, *cells, "reached" if worse <= 0.02 else f"{100 * worse:.1f} %"]))


def main() -> None:
    groups: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for path in sys.argv[1:]:
        for row in json.loads(Path(path).read_text())["rows"]:
            groups[row["network"], row["norm"]][row["attack"]] = row
    print("network | norm | n | quick | standard | thorough | fmn-300 | > 2 % worse | best peer | its figures")
    print(" | ".join(["---"] * 10))
    for (network, norm), rows in groups.items():
        standard = rows["race-standard"]
        peer, figures = best_peer(rows)
        cells = [cell(rows[name]) for name in OURS]
        worse = f"{100 * standard['worse_than_fmn_300']:.1f} %"
        print(" | ".join([network, norm, str(standard["samples"]), *cells, worse, peer or "", cell(figures)]))
    print()
    names = [name for name in (*PEERS, *sorted(SPECIAL)) if any(name in rows for rows in groups.values())]
    columns = [key for key, rows in groups.items() if any(name in rows for name in names)]
    print("attack | norm | " + " | ".join(dict.fromkeys(network for network, _ in columns)))
    print(" | ".join(["---"] * (2 + len({network for network, _ in columns}))))
    for norm in dict.fromkeys(norm for _, norm in columns):
        for name in ("race-standard", *names):
            found = [
                groups.get((network, norm), {}).get(name)
                for network in dict.fromkeys(network for network, _ in columns)
            ]
            if any(found):
                print(" | ".join([name, norm, *map(cell, found)]))
    print()
    goals(groups)


if __name__ == "__main__":
    main()
