"""Other programs' attacks, called alike: model, inputs, labels and samples' ids in, claims out.

Each keeps its own defaults except where its comment says why not. A peer whose package is missing is left out, and
`missing` says so. Passes are what `PassCounter` saw, not what a paper says of a step.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, nn

from thinice.attacks.ho_fmn import ho_fmn
from thinice.attacks.result import FORWARD
from thinice.norms import NORM_TABLE
from thinice.types import Norm

FOOLBOX = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
ALL: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
Points = Callable[..., Tensor]


class PassCounter(nn.Module):
    """A network that counts the samples that pass through it, forwards and backwards."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        self.forwards += len(inputs)
        logits = self.model(inputs)
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    @property
    def passes(self) -> float:
        """Forward-backward passes; a forward one is a third of one."""
        return FORWARD * self.forwards + (1 - FORWARD) * self.backwards


def foolbox_fmn(model: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm, steps: int) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=inputs.device)
    attack = getattr(foolbox.attacks, FOOLBOX[norm])(steps=steps)
    _raw, points, found = attack(wrapped, inputs, labels, epsilons=None)
    return torch.where(found[:, None, None, None], points, inputs)


def library(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm, name: str, **settings: float | Tensor
) -> Tensor:
    """Run an attack of adversarial-library."""
    if "visdom" not in sys.modules and find_spec("visdom") is None:  # for live plots, which nobody asks for here
        sys.modules["visdom"] = ModuleType("visdom")
    from adv_lib import attacks

    order = {"norm": ORDERS[norm]} if name in {"apgd", "fmn", "fab"} else {}
    points: Tensor = getattr(attacks, name)(model, inputs, labels, **order, **settings)
    return points


def targeted_fab(model: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm, steps: int) -> Tensor:
    """Run AutoAttack's FAB towards every class, and keep the nearest: its own loop stops at a budget."""
    from pyautoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(model, norm=norm.capitalize(), n_iter=steps, targeted=True, device=inputs.device)
    length = NORM_TABLE[norm].length
    best, least = inputs.clone(), torch.full_like(labels, torch.inf, dtype=torch.float32)
    with torch.no_grad():
        classes = model.model(inputs).shape[1]
    for rank in range(2, classes + 1):
        attack.target_class = rank
        points = attack.attack_single_run(inputs, labels, use_rand_start=False, is_targeted=True)
        distance = length((points - inputs).flatten(1))
        nearer = (distance > 0) & (distance < least)
        best, least = torch.where(nearer[:, None, None, None], points, best), torch.where(nearer, distance, least)
    return best


def minimal_apgd(model: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm, steps: int, searches: int) -> Tensor:
    """Run APGD with one budget after the other: twice as large until one suffices, then halfway between the last two.

    The first budget is one pixel's range. l1 has its paper's three phases of budgets (arXiv:2103.01208).
    """
    budget = torch.ones(len(inputs), device=inputs.device)
    failed, best = torch.zeros_like(budget), torch.full_like(budget, torch.inf)
    nearest, large = inputs.clone(), {"use_large_reps": norm == "l1"}
    for _ in range(searches):
        points = library(model, inputs, labels, norm=norm, name="apgd", eps=budget, n_iter=steps, **large)
        with torch.no_grad():
            adversarial = model(points).argmax(1) != labels
        nearest = torch.where(adversarial[:, None, None, None], points, nearest)
        best, failed = torch.where(adversarial, budget, best), torch.where(adversarial, failed, budget)
        budget = torch.where(best.isinf(), 2 * failed, (failed + best) / 2)
    return nearest


def ours_ho_fmn(model: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm, steps: int) -> Tensor:
    return ho_fmn(model, inputs, labels, torch.arange(len(inputs)), norm=norm, steps=steps).candidates


@dataclass(frozen=True)
class Peer:
    """An attack, the package that it needs, and the norms that it knows."""

    package: str
    norms: tuple[Norm, ...]
    points: Points

    def __call__(self, model: PassCounter, inputs: Tensor, labels: Tensor, *, norm: Norm) -> Tensor:
        """Return the points (N, C, H, W) that it claims; the input where it claims none."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            points = self.points(model, inputs.clone(), labels.clone(), norm=norm).detach()
        return points.nan_to_num(0).clamp(0, 1)


PEERS: dict[str, Peer] = {
    "foolbox-fmn-200": Peer("foolbox", ALL, partial(foolbox_fmn, steps=200)),
    "advlib-fmn-200": Peer("adv_lib", ALL, partial(library, name="fmn", steps=200)),
    # 256 levels would round every adversarial to bytes
    "advlib-ddn-200": Peer("adv_lib", ("l2",), partial(library, name="ddn", steps=200, levels=None)),
    # 0.5 is the paper's for short runs; the default 0.9 is that of 1000 steps
    "advlib-alma-200": Peer("adv_lib", ("l2",), partial(library, name="alma", num_steps=200, α=0.5)),
    "advlib-fab-100": Peer("adv_lib", ("linf", "l2", "l1"), partial(library, name="fab", n_iter=100)),
    "autoattack-fab-t-100": Peer("pyautoattack", ("linf", "l2"), partial(targeted_fab, steps=100)),
    "advlib-sigma-zero-200": Peer("adv_lib", ("l0",), partial(library, name="sigma_zero", num_steps=200)),
    "advlib-sigma-zero-1000": Peer("adv_lib", ("l0",), partial(library, name="sigma_zero", num_steps=1000)),
    "ho-fmn-100": Peer("thinice", ALL, partial(ours_ho_fmn, steps=100)),
}

SPARSE: tuple[Norm, ...] = ("l1", "l0")
AT_BUDGETS: dict[str, Peer] = {
    "advlib-fmn-100": Peer("adv_lib", SPARSE, partial(library, name="fmn", steps=100)),
    "advlib-fmn-1000": Peer("adv_lib", SPARSE, partial(library, name="fmn", steps=1000)),
    "advlib-sigma-zero-100": Peer("adv_lib", ("l0",), partial(library, name="sigma_zero", num_steps=100)),
    "advlib-apgd-minimal-10x20": Peer("adv_lib", ("l1",), partial(minimal_apgd, steps=20, searches=10)),
    "advlib-apgd-minimal-15x70": Peer("adv_lib", ("l1",), partial(minimal_apgd, steps=70, searches=15)),
}
"""Asked for by name: peers of l1 and l0 at about 100, 200 and 1000 passes, where `PEERS` lacks them."""


def missing() -> dict[str, str]:
    """Return the peers that cannot run here, and the package that each lacks."""
    return {name: peer.package for name, peer in (PEERS | AT_BUDGETS).items() if find_spec(peer.package) is None}
