"""How long allocations live: weighted histograms, and survival where some are still alive."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

STEPS_PER_DOUBLING = 4


def bucket_of(value: float) -> int:
    """The bucket of a value: four to a doubling, 0 for everything below 1."""
    return 0 if value < 1 else 1 + int(math.log2(value) * STEPS_PER_DOUBLING)


def bucket_start(bucket: int) -> float:
    """The least value of a bucket.

    >>> bucket_start(bucket_of(1000.0)) <= 1000.0 < bucket_start(bucket_of(1000.0) + 1)
    True
    """
    return 0.0 if bucket == 0 else float(2 ** ((bucket - 1) / STEPS_PER_DOUBLING))


@dataclass(slots=True)
class Lifetimes:
    """Lifetimes on one clock, as weights by bucket; those still alive (censored) apart."""

    ended: dict[int, float] = field(default_factory=dict)
    censored: dict[int, float] = field(default_factory=dict)

    def add(self, lifetime: float, weight: float, *, alive: bool = False) -> None:
        """Count one sample that stands for `weight` allocations."""
        counts = self.censored if alive else self.ended
        bucket = bucket_of(lifetime)
        counts[bucket] = counts.get(bucket, 0.0) + weight

    def survival(self) -> list[tuple[float, float]]:
        """Kaplan-Meier: (lifetime, share that lives at least that much longer), falling.

        Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", 1958. Weighted;
        within a bucket deaths count before censorings.
        """
        at_risk = sum(self.ended.values()) + sum(self.censored.values())
        share = 1.0
        curve: list[tuple[float, float]] = []
        for bucket in sorted(self.ended.keys() | self.censored.keys()):
            died = self.ended.get(bucket, 0.0)
            if died and at_risk > 0:
                share *= max(0.0, 1 - died / at_risk)
                curve.append((bucket_start(bucket + 1), share))
            at_risk -= died + self.censored.get(bucket, 0.0)
        return curve

    def quantile(self, part: float) -> float | None:
        """The lifetime that a share `part` does not outlive; None if too many are still alive."""
        for lifetime, share in self.survival():
            if share <= 1 - part + 1e-12:
                return lifetime
        return None

    def share_within(self, lifetime: float) -> float:
        """F(lifetime): the share that lives no longer."""
        living = 1.0
        for end, share in self.survival():
            if end > lifetime:
                break
            living = share
        return 1 - living


def weighted_quantile(values: Iterable[tuple[float, float]], part: float) -> float:
    """The smallest value at which (value, weight) pairs reach a share `part` of all weight."""
    ordered = sorted(values)
    target = part * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= target - 1e-12:
            return value
    return 0.0
