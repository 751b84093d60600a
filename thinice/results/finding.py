"""Findings of the checks, and what people read of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thinice.types import Norm

__all__ = ["Finding", "sort_by_severity", "stored_finding", "warning_texts"]

LONGEST = 4
"""So many contradictions are listed one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: where something was seen, what that means, and what to do; made in `thinice.checks`.

    Attributes
    ----------
    check : str
        Its name in `thinice.checks.CHECKS`.
    subjects : tuple of str
        What it is about, where the caller does not know: the networks of a study, or two attacks, the one whose claim
        is refuted and the one whose adversarials refute it.
    samples : tuple of int
        Ids of the samples on which it was seen; of a contradiction the worst first, and no more than were asked for.
    seen, advice : str
        What was seen, and what to do.
    raised : bool
        Whether that is more than is normal, and the numbers are in doubt.
    count, of : int
        On how many samples it was seen, and how many were looked at; 0 of 0 where it is not about samples.
    value : float, optional
        The mean of the indicator over the samples, where it is a number and not a flag.
    norms : tuple of str
        The norms of two attacks.
    claimed, bounds : tuple of float
        Of each of the samples, what the one attack claims, and what the adversarial of the other allows at most, both
        in the norm of the claim.

    """

    check: str
    subjects: tuple[str, ...]
    samples: tuple[int, ...]
    seen: str
    advice: str
    raised: bool = True
    count: int = 0
    of: int = 0
    value: float | None = None
    norms: tuple[Norm, ...] = ()
    claimed: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """On which share of the samples it was seen; 0 where there are none."""
        return self.count / self.of if self.of else 0.0

    def __str__(self) -> str:
        samples = f"{self.count} of {self.of} samples"
        if self.norms:
            attacks = (f"{attack} ({norm})" for attack, norm in zip(self.subjects, self.norms, strict=True))
            return f"{' against '.join(attacks)}: {samples}; {self.seen}: {self.advice}"
        head = [self.check, *self.subjects, *([] if self.subjects else [samples])]
        return f"{', '.join(head)}: {self.seen}; {self.advice}"

    def to_dict(self) -> dict[str, str | int | bool | float | list[int] | list[str] | None]:
        """Return what can be stored as JSON."""
        return {
            "check": self.check,
            "subjects": list(self.subjects),
            "raised": self.raised,
            "samples": self.count,
            "of": self.of,
            "value": self.value,
            "sample_ids": list(self.samples),
            "seen": self.seen,
            "advice": self.advice,
        }


def stored_finding(row: Mapping[Any, Any]) -> Finding:
    """Return the finding in a row of the store's ``findings`` or ``warnings``, without what the row does not have."""
    ids, value = tuple(map(int, row.get("sample_ids", ()))), row.get("value")
    return Finding(
        row["check_name"],
        (),
        ids,
        row["seen"],
        row["advice"],
        raised=bool(row.get("raised", True)),
        count=int(row.get("samples", len(ids))),
        of=int(row["looked_at"]),
        value=None if value is None or math.isnan(value) else float(value),  # NULL is NaN in pandas
    )


def sort_by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that are raised, the one on the largest share of samples first."""
    return tuple(sorted((finding for finding in findings if finding.raised), key=lambda raised: -raised.share))


def warning_texts(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return what was seen, on how many samples, and what to do: a sentence for each that is raised, the worst first.

    Of many contradictions the last sentence says how many more there are.
    """
    listed = tuple(findings)
    contradictions = [finding for finding in listed if finding.norms]
    others = sort_by_severity(finding for finding in listed if not finding.norms)
    more = len(contradictions) - LONGEST
    rest = (f"{more} more pairs of attacks contradict each other: see `thinice check`",) if more > 0 else ()
    return (*map(str, (*others, *contradictions[:LONGEST])), *rest)
