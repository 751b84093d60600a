"""What people read of a control: how the AUC of a pruning compares with that of other changes of the dense network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["control_sentence"]


def control_sentence(row: Mapping[str, Any]) -> str:
    """Return how the pruning compares with its control, in a sentence; empty where there is no control.

    Parameters
    ----------
    row : mapping
        That of `Comparison.to_dict`, or the statistics in a store: ``control_auc``, ``control_networks``,
        ``control_churn``, ``control_weight_noise``, ``control_difference`` with its ends, ``churn``, ``confidence``.

    Examples
    --------
    >>> numbers = {"control_difference": 0.01, "control_difference_low": -0.02, "control_difference_high": 0.05}
    >>> churns = {"control_churn": 0.021, "churn": 0.02, "control_networks": 5, "control_weight_noise": True}
    >>> sentence = control_sentence({"control_auc": 0.95, "confidence": 0.95, **numbers, **churns})
    >>> print(sentence.partition("; pruning - ")[0])
    The control, weight noise that changes 2.1 % of the predictions (5 networks; pruning: 2.0 %), has an AUC of 0.950
    >>> print(sentence.partition("; pruning - ")[2])
    control: 0.010 (95 % interval -0.020 to 0.050), no difference shown.
    """
    auc, difference = row.get("control_auc"), row.get("control_difference")
    if auc is None:
        return ""
    count = row["control_networks"]
    kind = "weight noise that changes" if row["control_weight_noise"] else "a network that changes"
    networks = "1 network" if count == 1 else f"{count} networks"
    sentence = (
        f"The control, {kind} {100 * row['control_churn']:.1f} % of the predictions ({networks}; pruning: "
        f"{100 * row['churn']:.1f} %), has an AUC of {auc:.3f}"
    )
    if difference is None:
        return f"{sentence}."
    low, high = row["control_difference_low"], row["control_difference_high"]
    verdict = "no difference shown"
    if low > 0:
        verdict = "what pruning loses lies nearer to the boundary than what the control loses"
    elif high < 0:
        verdict = "what pruning loses lies farther from the boundary than what the control loses"
    return (
        f"{sentence}; pruning - control: {difference:.3f} ({100 * row['confidence']:g} % interval "
        f"{low:.3f} to {high:.3f}), {verdict}."
    )
