"""How long allocations live: weighted histograms, and survival where some are still alive."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from poolwise.profile.intervals import Z95, Estimate

STEPS = 32  # buckets a doubling
_EXACT = 2 * STEPS  # whole numbers below have a bucket each


def bucket_of(value: float) -> int:
    """The bucket of a value: 32 of equal width to a doubling, below 64 one for each whole number.

    The scheme of HdrHistogram (Tene, 2012): a value is known to 1 part in 64.
    """
    whole = int(value)
    if whole < _EXACT:
        return whole
    shift = whole.bit_length() - _EXACT.bit_length() + 1
    return shift * STEPS + (whole >> shift)


def bucket_start(bucket: int) -> int:
    """The least value of a bucket.

    >>> bucket_start(bucket_of(1000)) <= 1000 < bucket_start(bucket_of(1000) + 1)
    True
    """
    if bucket < _EXACT:
        return bucket
    return (bucket % STEPS + STEPS) << (bucket // STEPS - 1)


def bucket_middle(bucket: int) -> float:
    """The value that stands for a bucket.

    >>> bucket_middle(bucket_of(3)), bucket_middle(bucket_of(1000))
    (3.0, 999.5)
    """
    return (bucket_start(bucket) + bucket_start(bucket + 1) - 1) / 2


class Step(NamedTuple):
    """A step of a survival curve: `share` outlive `lifetime`; `variance` is that of the share."""

    lifetime: float
    share: float
    variance: float


@dataclass(slots=True)
class Lifetimes:
    """Lifetimes on one clock, as weights by bucket; those still alive (censored) apart.

    `ended_noise`, `censored_noise`: the sampling variance of these weights. `spare`: what a sample
    stands for at most (`total` in `intervals.py`).
    """

    spare: float = 1.0

    ended: dict[int, float] = field(default_factory=dict)
    censored: dict[int, float] = field(default_factory=dict)
    ended_noise: dict[int, float] = field(default_factory=dict)
    censored_noise: dict[int, float] = field(default_factory=dict)

    def add(self, lifetime: float, weight: float, *, alive: bool = False) -> None:
        """Count one sample that stands for `weight` allocations."""
        counts = self.censored if alive else self.ended
        noise = self.censored_noise if alive else self.ended_noise
        bucket = bucket_of(lifetime)
        counts[bucket] = counts.get(bucket, 0.0) + weight
        noise[bucket] = noise.get(bucket, 0.0) + weight * max(0.0, weight - 1)

    def steps(self) -> list[Step]:
        """Kaplan-Meier, with the sampling variance of every share.

        Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", 1958. Weighted;
        within a bucket deaths count before censorings.

        Greenwood's variance is not that of weighted samples. Here each sample's influence on the
        logarithm of the share is squared and summed with the variance of its weight (linearization:
        Binder, "On the variances of asymptotically normal estimators from complex surveys", 1983;
        for this curve Williams, "Product-limit survival functions with correlated survival times",
        1995). It is 0 where every allocation was sampled.
        """
        at_risk = sum(self.ended.values()) + sum(self.censored.values())
        later = sum(self.ended_noise.values()) + sum(self.censored_noise.values())
        share = 1.0
        hazard = passed = 0.0  # summed: what being at risk does to the logarithm; what is behind
        steps: list[Step] = []
        for bucket in sorted(self.ended.keys() | self.censored.keys()):
            died = self.ended.get(bucket, 0.0)
            left = at_risk - died
            if died and left > 1e-9 * at_risk:
                share *= left / at_risk
                hazard += died / (at_risk * left)
            elif died:
                share = 0.0
            noise = self.ended_noise.get(bucket, 0.0)
            censored_noise = self.censored_noise.get(bucket, 0.0)
            later -= noise + censored_noise
            if died and share > 0:
                passed += noise * (hazard - 1 / left) ** 2
                variance = share * share * (passed + hazard**2 * (max(later, 0.0) + censored_noise))
                steps.append(Step(bucket_middle(bucket), share, variance))
            elif died:
                steps.append(Step(bucket_middle(bucket), 0.0, 0.0))
            passed += censored_noise * hazard**2
            at_risk = left - self.censored.get(bucket, 0.0)
        return steps

    def survival(self) -> list[tuple[float, float]]:
        """Kaplan-Meier: (lifetime, share that outlives it), falling."""
        return [(step.lifetime, step.share) for step in self.steps()]

    def quantile(self, part: float) -> float | None:
        """The lifetime that a share `part` does not outlive; None if too many are still alive."""
        return _first(self.steps(), part)

    def quantile_estimate(self, part: float) -> Estimate | None:
        """`quantile` with its 95 % interval.

        A lifetime is inside if the share that was seen to live no longer could be `part` (Woodruff,
        "Confidence intervals for medians and other position measures", 1952), by a score test with
        the effective number of samples, which holds where these are few (Wilson, 1927; Korn and
        Graubard, "Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data", 1998).
        """
        steps = self.steps()
        value = _first(steps, part)
        if value is None:
            return None
        unseen = self.spare * (self.spare - 1) / 4  # half a sample, for both ends
        noise = sum(self.ended_noise.values()) + sum(self.censored_noise.values()) + unseen
        if noise == 0:
            return Estimate(value, value, value)
        weight = sum(self.ended.values()) + sum(self.censored.values())
        low: float | None = None
        high = math.inf
        for step in steps:
            dead = 1 - step.share
            one = noise / weight**2  # over the effective number of samples
            if step.variance > 0:
                one = max(one, step.variance / (dead * step.share) + unseen / weight**2)
            error = Z95 * math.sqrt(part * (1 - part) * one)
            if low is None and dead >= part - error:
                low = step.lifetime if part > error else 0.0
            if dead > part + error:
                high = step.lifetime
                break
        return Estimate(value, value if low is None else low, high)

    def share_within(self, lifetime: float) -> float:
        """F(lifetime): the share that lives no longer."""
        living = 1.0
        for step in self.steps():
            if step.lifetime > lifetime:
                break
            living = step.share
        return 1 - living


def _first(steps: Iterable[Step], part: float) -> float | None:
    return next((step.lifetime for step in steps if step.share <= 1 - part + 1e-12), None)


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
