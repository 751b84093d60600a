"""Signs that a robustness evaluation cannot be trusted: of the network, and of the attack on it.

The checks of AutoAttack (Croce and Hein, ICML 2020) and the Indicators of Attack Failure (Pintor et al., "Indicators
of Attack Failure: Debugging and Improving Optimization of Adversarial Examples", NeurIPS 2022).
"""

from thinice.indicators.attack import AnyAttack, check_attack
from thinice.indicators.finding import INDICATORS, Finding, black_box_stronger, worst_first
from thinice.indicators.network import check_network
from thinice.indicators.together import indicators

__all__ = [
    "INDICATORS",
    "AnyAttack",
    "Finding",
    "black_box_stronger",
    "check_attack",
    "check_network",
    "indicators",
    "worst_first",
]
