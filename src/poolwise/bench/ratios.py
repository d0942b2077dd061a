"""Ratios of paired measurements, with intervals that assume nothing about their distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, with an interval of at least 95 % for it.

    With fewer than six pairs no such interval exists; then it is their whole range.
    """

    value: float
    low: float
    high: float

    @property
    def undecided(self) -> bool:
        """True if the interval holds 1: no difference was seen."""
        return self.low <= 1 <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def median_interval(values: Sequence[float]) -> Ratio:
    """Median of `values`, between the order statistics that hold the true one 95 times in 100.

    >>> median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    Ratio(value=3.5, low=1.0, high=6.0)
    """
    ordered = sorted(values)
    count = len(ordered)
    # The true median is below the k-th smallest (from 0) as often as a fair coin shows heads at
    # most k times in `count`: as many are cut off at each end as 2.5 % allow.
    cut, missed = 0, 2.0**-count
    while missed + comb(count, cut + 1) * 2.0**-count <= 0.025:
        cut += 1
        missed += comb(count, cut) * 2.0**-count
    return Ratio(median(ordered), ordered[cut], ordered[-1 - cut])
