"""The statistics of a comparison, one row each, from which table, store, report and JSON take what they show.

A new one is a decorated function:

    @statistic("auc_error", "DeLong's standard error of auc.", unit="probability")
    def auc_error(separation: Separation) -> float | None:
        return separation.auc_se

It becomes an entry of `Separation.to_dict`, a column of the store's table ``statistics`` and view ``separation`` with
this comment, a row of the report and, with a `label`, a line of the table that ``thinice compare`` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from thinice.stats.separation import Separation

__all__ = ["STATISTICS", "Statistic", "Unit", "Value", "statistic", "statistic_values"]

Unit = Literal["epsilon", "probability", "count", "log10", "log10 approximate", "flag", "none"]
"""``epsilon``: a distance in the norm of the attack; ``flag``: True or False; ``log10 approximate``: the logarithm of a
p-value whose far tail is not to be believed, so that people read no more than that p is below 0.0001."""
Value = float | int | bool | None


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that says how lost and kept samples differ.

    Attributes
    ----------
    name : str
        Its key in JSON, and its column in the store.
    comment : str
        What it means, in a sentence.
    unit : str
        One of `Unit`.
    label : str
        Its line in the table that people read; empty where that does not show it.
    quartiles : str
        The entry of `Separation.to_dict` whose two numbers stand in brackets behind it in that line.
    interval : tuple of str
        The statistics that are the ends of its interval, which stands in brackets behind it in that line.
    among : str
        The statistic that says of how many; the line shows both.
    exact : str
        The flag that says whether it is exact or an approximation; the line says which.
    until : str
        The statistic that is the upper end of an interval which begins with this one; the line shows both.
    optional : bool
        Whether its line is left out where it is not known, as of a control that was not asked for.
    of : callable, optional
        What computes it from a `Separation`; by default it is the attribute of this name.

    """

    name: str
    comment: str
    unit: Unit = "none"
    label: str = ""
    quartiles: str = ""
    interval: tuple[str, str] | tuple[()] = ()
    among: str = ""
    exact: str = ""
    until: str = ""
    optional: bool = False
    of: Callable[[Separation], Value] | None = None

    def __call__(self, separation: Separation) -> Value:
        """Return its value; None where it is not known."""
        value: Value = getattr(separation, self.name) if self.of is None else self.of(separation)
        return value


STATISTICS: dict[str, Statistic] = {
    row.name: row
    for row in (
        Statistic(
            "auc",
            "Chance that a kept sample lies farther from the boundary than a lost one; ties count half.",
            "probability",
            "AUC",
        ),
        Statistic("auc_se", "DeLong's standard error of auc; NULL where it is 0 or not known.", "probability"),
        Statistic("auc_df", "Degrees of freedom of auc_se, after Brunner and Munzel."),
        Statistic(
            "auc_low",
            "Lower end of the confidence interval of auc, over samples drawn anew for these two networks.",
            "probability",
            "AUC, 95 % interval",
            until="auc_high",
        ),
        Statistic("auc_high", "Upper end of the confidence interval of auc.", "probability"),
        Statistic(
            "auc_not_found_low",
            "auc if kept samples that were not found lay nearest, and such lost ones farthest.",
            "probability",
        ),
        Statistic("auc_not_found_high", "auc if it were the other way round.", "probability"),
        Statistic(
            "brunner_munzel_log10_p",
            "One-sided test of auc > 1/2 by Brunner and Munzel, which holds for groups of unequal spread too.",
            "log10 approximate",
            "p, AUC above 1/2",
        ),
        Statistic(
            "log10_p",
            "Decimal logarithm of p_value, Mann-Whitney's: both groups are distributed alike.",
            "log10",
            "log10 p, lost are nearer",
            exact="exact",
        ),
        Statistic(
            "closest_lost",
            "Lost samples in the closest tenth.",
            "count",
            "lost in the closest 10 %",
            among="closest",
        ),
        Statistic(
            "margin_auc",
            "auc of the dense network's margin, the true logit minus the best other one, in place of epsilon.",
            "probability",
            "AUC of the margin alone",
        ),
        Statistic("margin_difference", "auc minus margin_auc: positive where epsilon predicts losses better."),
        Statistic("margin_difference_low", "Lower end of the confidence interval of margin_difference, DeLong's."),
        Statistic("margin_difference_high", "Upper end of the confidence interval of margin_difference."),
        Statistic(
            "margin_log10_p", "Two-sided paired DeLong test of no difference between auc and margin_auc.", "log10"
        ),
        Statistic(
            "margin_equivalence_log10_p",
            "Two one-sided tests: small where it is shown that auc and margin_auc differ by less than 0.05.",
            "log10",
        ),
        Statistic(
            "epsilon_adds_log10_p",
            "Likelihood-ratio test: small where epsilon says something of the losses that the margin does not.",
            "log10",
        ),
        Statistic(
            "median_kept",
            "Median epsilon of kept samples; NULL where it falls on a sample that was not found.",
            "epsilon",
            "median epsilon, kept",
            quartiles="quartiles_kept",
        ),
        Statistic(
            "median_lost",
            "Median epsilon of lost samples; NULL where it falls on a sample that was not found.",
            "epsilon",
            "median epsilon, lost",
            quartiles="quartiles_lost",
        ),
        Statistic(
            "shift",
            "By how much kept samples lie farther: median of all differences kept - lost (Hodges-Lehmann).",
            "epsilon",
            "shift, kept - lost",
            interval=("shift_low", "shift_high"),
        ),
        Statistic(
            "shift_low",
            "Lower end of the confidence interval of shift, also for groups of unequal spread; NULL where not known.",
            "epsilon",
        ),
        Statistic("shift_high", "Upper end of the confidence interval of shift; NULL where not known.", "epsilon"),
        Statistic("confidence", "Level of the confidence intervals of auc and shift.", "probability"),
        Statistic("cliffs_delta", "Effect size 2 auc - 1."),
        Statistic(
            "u", "Mann-Whitney U of the lost samples: pairs in which the lost one lies farther, ties count half."
        ),
        Statistic(
            "p_value", "One-sided: lost samples lie nearer. 0 below 1e-308, where log10_p still holds.", "probability"
        ),
        Statistic("p_value_two_sided", "Two-sided p-value.", "probability"),
        Statistic("log10_p_two_sided", "Decimal logarithm of p_value_two_sided.", "log10"),
        Statistic(
            "log10_p_normal",
            "log10_p by the normal approximation, as papers give it; far in the tail it is no p-value.",
            "log10",
        ),
        Statistic(
            "kolmogorov_smirnov",
            "Largest difference between the shares of lost and of kept samples within a radius.",
            "probability",
        ),
        Statistic("kolmogorov_smirnov_at", "Radius at which that difference is largest.", "epsilon"),
        Statistic(
            "kolmogorov_smirnov_log10_p",
            "Two-sided test of any difference between the distributions of lost and of kept samples.",
            "log10",
        ),
        Statistic(
            "kolmogorov_smirnov_exact",
            "Whether it counts all orders of the samples, instead of following Kolmogorov's distribution.",
            "flag",
        ),
        Statistic(
            "exact",
            "Whether Mann-Whitney's p-values count all cases, instead of following the saddlepoint approximation.",
            "flag",
        ),
        Statistic("closest", "Samples in the closest tenth: as near as the one that completes it, or nearer.", "count"),
        Statistic(
            "brunner_munzel_log10_p_two_sided",
            "Two-sided test of auc against 1/2 by Brunner and Munzel.",
            "log10 approximate",
        ),
        Statistic(
            "stratified_auc",
            "Chance that of two samples of one class the kept one lies farther than the lost one.",
            "probability",
        ),
        Statistic(
            "van_elteren_log10_p", "One-sided test: lost samples are nearer than kept ones of their own class.", "log10"
        ),
        *(
            Statistic(
                f"radius_{percent}_{group}",
                f"Radius within which {percent} % of the {group} samples have an adversarial, by Kaplan and Meier; "
                "NULL where fewer were found.",
                "epsilon",
            )
            for group in ("kept", "lost")
            for percent in (10, 25, 75)
        ),
        *(
            Statistic(
                f"median_{group}_{end}",
                f"{word} end of the confidence interval of median_{group}, by Brookmeyer and Crowley; NULL where it is "
                "not known.",
                "epsilon",
            )
            for group in ("kept", "lost")
            for end, word in (("low", "Lower"), ("high", "Upper"))
        ),
        Statistic(
            "log_rank_log10_p",
            "One-sided log-rank test: at every radius, lost samples are found sooner.",
            "log10 approximate",
        ),
        Statistic(
            "lost_needed",
            "Lost samples with which the interval of auc would be 0.1 wide, were auc the true one.",
            "count",
        ),
        Statistic(
            "partial_auc",
            "auc among the closest tenth of the kept samples: chance that a lost sample is nearer than one of them.",
            "probability",
        ),
    )
}
"""By name, in the order in which they are shown."""


def statistic(
    name: str, comment: str, *, unit: Unit = "none", label: str = "", until: str = "", optional: bool = False
) -> Callable[[Callable[[Separation], Value]], Callable[[Separation], Value]]:
    """Return a decorator that adds a function of a `Separation` to the statistics of every comparison.

    Parameters
    ----------
    name, comment, unit, label, until, optional
        As of `Statistic`. The name must be that of no other statistic.

    """

    def add(function: Callable[[Separation], Value]) -> Callable[[Separation], Value]:
        if name in STATISTICS:
            raise ValueError(f"there is a statistic {name!r} already")
        STATISTICS[name] = Statistic(name, comment, unit, label, until=until, optional=optional, of=function)
        return function

    return add


def statistic_values(separation: Separation) -> dict[str, Value]:
    """Return all statistics of a comparison by name."""
    return {name: row(separation) for name, row in STATISTICS.items()}
