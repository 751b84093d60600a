"""AttackBench's own harness on TMN and on the attacks it ranks: local optimality, for how many queries of a sample.

    python benchmarks/attackbench_harness.py --reference FOLDER [--networks a,b] [--norms linf,l2] [--attacks c,d]
                                             [--samples 10] [--json FILE]

A. Cinà et al., "AttackBench: Evaluating Gradient-based Attacks for Adversarial Examples" (arXiv:2404.19460). Model
wrapper, counting of queries (forward and backward passes, 2000 of a sample at most), distances and local optimality are
attackbenchlib's. A cell is one attack on one network in one norm; FILE keeps each when it is done, and a cell that it
has is not run again. The attacks are adversarial-library's with AttackBench's settings, but where a comment says why
not.

AttackBench's wrapper clamps its inputs within the graph, and torch has set the gradient of `clamp` to zero at both ends
since 2.14: then no attack gets a gradient of a black or white pixel. It runs without its clamp here, behind one of the
same values with the gradient that torch had before.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from networks import NETWORKS, Model, load
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thinice import example_checkpoints, load_classifier, load_samples, make_attack
from thinice.attacks.tmn import ROW as TMN

if find_spec("visdom") is None:  # adversarial-library's, for live plots, which nobody asks for here
    sys.modules["visdom"] = ModuleType("visdom")

import attackbench
from adv_lib.attacks import sdf, sigma_zero
from attackbench.attacks.adv_lib import configs, wrapper
from attackbench.models.benchmodel_wrapper import BenchModel

HERE = Path(__file__).parent
RESULTS = HERE / "data" / "attackbench.json"
QUERIES = attackbench.DEFAULT_QUERY_BUDGET
PACKAGES = ("torch", "attackbenchlib", "adv-lib", "thinice")
Attack = Callable[..., Tensor]
Row = dict[str, Any]


class Box(torch.autograd.Function):
    """Clamps to [0, 1]; the gradient is that of the input within the box, its ends included, and zero outside."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:  # noqa: ANN401 (torch's context)
        """Return the inputs, clamped."""
        ctx.save_for_backward((inputs >= 0) & (inputs <= 1))
        return inputs.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        """Return the gradient, zero outside the box."""
        (inside,) = ctx.saved_tensors
        return gradient * inside


class Module(nn.Module):
    """A network as a module of its own: hooks of one run go with it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(inputs)


def tmn(model: nn.Module, inputs: Tensor, labels: Tensor, norm: str, settings: dict[str, int | str]) -> Tensor:
    """Return what users get of TMN: the input where nothing was found."""
    ids = torch.arange(len(inputs))
    return make_attack("tmn", norm=norm, **settings)(model, inputs, labels, ids).adversarials


def preset(name: str, **changes: float | bool | None) -> Callable[[str], Attack]:
    """Return AttackBench's attack in a norm: its settings, those of the norm where it has them, with changes."""

    def build(norm: str) -> Attack:
        settings = getattr(configs, f"adv_lib_{name}_{norm}", getattr(configs, f"adv_lib_{name}", None))()
        settings |= {"threat_model": norm} | changes
        make = getattr(configs, f"get_adv_lib_{name}")
        attack = make(**{key: value for key, value in settings.items() if key in make.__annotations__})
        if isinstance(attack, partial) and attack.func is wrapper.adv_lib_minimal_wrapper:
            return attack
        return partial(wrapper.adv_lib_wrapper, attack=attack)

    return build


def minimal_apgd_t(norm: str) -> Attack:
    """Return minimal APGD-T: AttackBench's 100 steps towards 9 classes at 20 budgets are nine times 2000 queries."""
    return preset("apgd_t_minimal", num_steps=22, num_targets=5, search_steps=10, use_large_reps=norm == "l1")(norm)


EVERYWHERE = ("linf", "l2", "l1", "l0")
# name: norms, and what makes the attack of a norm
ATTACKS: dict[str, tuple[tuple[str, ...], Callable[[str], Attack]]] = {
    "tmn-quick": (EVERYWHERE, lambda _: partial(tmn, settings={"effort": "quick"})),
    "tmn-standard": (EVERYWHERE, lambda _: partial(tmn, settings={"effort": "standard"})),
    "tmn-thorough": (EVERYWHERE, lambda _: partial(tmn, settings={"effort": "thorough"})),
    # the whole budget
    "tmn-exhaustive": (EVERYWHERE, lambda _: partial(tmn, settings={"effort": "exhaustive"})),
    "fmn-1000": (EVERYWHERE, preset("fmn")),
    # 100 steps are 1180 queries
    "fab-166": (("linf", "l2", "l1"), preset("fab", num_steps=166)),
    "apgd-t-minimal": (("linf", "l2", "l1"), minimal_apgd_t),
    "ddn-1000": (("l2",), preset("ddn_NQ")),
    "alma-1000": (("l2", "l1"), preset("alma")),
    # AttackBench's own is another algorithm under that name
    "superdeepfool": (("l2",), lambda _: partial(wrapper.adv_lib_wrapper, attack=sdf)),
    "sigma-zero-1000": (
        ("l0",),
        lambda _: partial(wrapper.adv_lib_wrapper, attack=partial(sigma_zero, num_steps=1000)),
    ),
}


def network(name: str, options: argparse.Namespace) -> tuple[Model, Tensor, Tensor]:
    """Return a network and the samples to attack: correctly classified ones, from `first` on where there are enough."""
    if name == "digits":
        dense, test = load_classifier(next(iter(example_checkpoints().values()))), load_samples("digits", split="test")
        inputs, labels = test.inputs, test.labels
        with torch.no_grad():
            correct = dense(inputs).argmax(1) == labels
        model, inputs, labels = dense, inputs[correct], labels[correct]
    else:
        _, model, inputs, labels = load(name, options.reference, options.cache)
    first = min(options.first, len(inputs) - options.samples)
    part = slice(first, first + options.samples)
    return model, inputs[part].contiguous(), labels[part]


def strays(bench: BenchModel, counts: list[int]) -> Callable[..., None]:
    """Return a hook that counts rows of a batch as large as the samples' that were booked on another sample."""

    def count(_module: nn.Module, args: tuple[Tensor], _output: Tensor) -> None:
        if bench._benchmark_mode and len(args[0]) == bench.batch_size:  # noqa: SLF001 (nothing public tells)
            counts[0] += int((bench._indices != torch.arange(bench.batch_size)).sum())  # noqa: SLF001

    return count


def cell(model: Model, inputs: Tensor, labels: Tensor, attack: Attack, norm: str) -> Row:
    """Return what AttackBench says of one attack on one network in one norm.

    The harness books a row on the sample that it is nearest to. In l0 every changed entry counts, and a batch of dense
    perturbations is nearest to anybody: there it gets one sample at a time.
    """
    bench, counts = BenchModel(Module(model), enforce_box=False), [0]
    # FAB goes on in float64 where its l1 projection has been
    bench.register_forward_pre_hook(lambda _module, args: (Box.apply(args[0].to(inputs.dtype)),))
    bench.register_forward_hook(strays(bench, counts))
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=1 if norm == "l0" else len(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = attackbench.run_attack(
            bench, loader, attack, norm, torch.device("cpu"), query_budget=QUERIES, seed=42, debug=True
        )
    keys = ("correct", "num_forwards", "num_backwards")
    facts = {key: result[key] for key in keys} | {key: result[key][norm] for key in ("distances", "final_distances")}
    queries = np.add(result["num_forwards"], result["num_backwards"])
    return facts | {"queries": float(queries.mean()), "seconds": sum(result["times"]), "strays": counts[0]}


def scored(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with AttackBench's local optimality: beside the least of all rows of a network and norm."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["norm"]), []).append(row)
    for (_, norm), group in groups.items():
        results = [{"distances": {norm: row["distances"]}, "correct": row["correct"]} for row in group]
        names = [row["attack"] for row in group]
        if len(group) > 1:
            scores = attackbench.compare_attacks_optimality(results, norm, names)["optimality_scores"]
            for row in group:
                row["optimality"] = scores[row["attack"]]
                row["not_found"] = int(np.isinf(row["distances"]).sum())
    return [row for group in groups.values() for row in group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731  # a type for argparse
    parser.add_argument("--reference", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", help="where trained weights are kept")
    parser.add_argument("--networks", type=words, default=["digits", "mnist_cnn", "resnet_2b", "resnet20"])
    parser.add_argument("--norms", type=words, default=EVERYWHERE)
    parser.add_argument("--attacks", type=words, default=list(ATTACKS))
    parser.add_argument("--first", type=int, default=60, help="of the correctly classified samples")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    for given, known in (("networks", ("digits", *NETWORKS)), ("norms", EVERYWHERE), ("attacks", ATTACKS)):
        if unknown := set(getattr(options, given)) - set(known):
            parser.error(f"--{given} {','.join(sorted(unknown))}: choose from {', '.join(known)}")
    torch.set_num_threads(1)
    rows = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    facts = {name: version(name) for name in PACKAGES} | {"queries": QUERIES, "threads": 1, "first": options.first}
    for name in options.networks:
        model, inputs, labels = network(name, options)
        for norm in options.norms:
            for label in options.attacks:
                norms, build = ATTACKS[label]
                key = {"network": name, "norm": norm, "attack": label}
                if norm not in norms or any(key.items() <= row.items() for row in rows):
                    continue
                row = key | {"samples": len(inputs)} | cell(model, inputs, labels, build(norm), norm)
                if label.startswith("tmn"):
                    row |= {"version": TMN.version, "strays": None}  # its rows are in no order of the samples'
                rows = scored([*rows, row])
                options.json.write_text(json.dumps({"facts": facts, "rows": rows}) + "\n")
                figures = (
                    f"{row.get('optimality', 1):.3f} | {row['queries']:.0f} | {row['strays']} | {row['seconds']:.0f}"
                )
                print(f"{name} | {norm} | {label} | {figures}", flush=True)


if __name__ == "__main__":
    main()
