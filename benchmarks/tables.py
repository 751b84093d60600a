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
OURS = ("race-quick", "race-standard", "race-thorough", "fmn-300")
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
        worse = f"{100 * standard['worse_than_fmn_300']:.0f} %"
        print(" | ".join([network, norm, str(standard["samples"]), *cells, worse, peer or "", cell(figures)]))
    print()
    names = [name for name in (*PEERS, *sorted(SPECIAL)) if any(name in rows for rows in groups.values())]
    columns = [key for key, rows in groups.items() if any(name in rows for name in names)]
    print("attack | norm | " + " | ".join(dict.fromkeys(network for network, _ in columns)))
    print(" | ".join(["---"] * (2 + len({network for network, _ in columns}))))
    for norm in dict.fromkeys(norm for _, norm in columns):
        for name in ("race-standard", *names):
            found = [groups[network, norm].get(name) for network in dict.fromkeys(network for network, _ in columns)]
            if any(found):
                print(" | ".join([name, norm, *map(cell, found)]))


if __name__ == "__main__":
    main()
