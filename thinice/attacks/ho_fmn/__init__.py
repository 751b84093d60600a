"""FMN with a choice of loss, optimiser and scheduler, whose hyper-parameters are meant to be tuned for each network.

Mura, Floris, Scionis, Piras, Pintor, Demontis, Giacinto, Biggio, Roli: "HO-FMN: Hyperparameter optimization for fast
minimum-norm attacks", Neurocomputing 2025. `search.py` is the attack, `tuning.py` searches the hyper-parameters.
"""

from __future__ import annotations

from thinice.attacks.ho_fmn.search import HO_FMN_LOSSES, HO_FMN_OPTIMIZERS, HO_FMN_SCHEDULERS, ho_fmn
from thinice.attacks.ho_fmn.tuning import Trial, Tuned, tune
from thinice.attacks.rows import MinNormRow, keyword_defaults

__all__ = ["HO_FMN_LOSSES", "HO_FMN_OPTIMIZERS", "HO_FMN_SCHEDULERS", "ROW", "Trial", "Tuned", "ho_fmn", "tune"]

ROW = MinNormRow(
    search=ho_fmn,
    version=2,
    defaults=keyword_defaults(ho_fmn, skip=("seed",)),
    efforts={"quick": {"steps": 50}, "standard": {"steps": 200}, "thorough": {"steps": 1000}},
    ranges={
        "steps": (1, 10**6),
        "learning_rate": (1e-6, 1e6),
        "momentum": (0, 0.9999),
        "dampening": (0, 1),
        "weight_decay": (0, 10),
        "beta1": (0, 0.9999),
        "beta2": (0, 0.9999),
        "factor": (1e-3, 0.999),
        "patience": (0, 10**6),
        "gamma": (1e-6, 0.99),
        "bisections": (0, 100),
    },
    tune=tune,
)
"""HO-FMN in the registry."""
