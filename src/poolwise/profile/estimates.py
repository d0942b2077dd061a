"""What a sampled recording says of a total, a peak or a median lifetime, and how surely.

Each estimate gives an interval for any `error`, the share of recordings whose interval may miss.
What varies is which allocations were sampled, nothing else: an interval has no width where every
allocation was recorded, and says nothing of how another run of the program would differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from statistics import NormalDist, median
from typing import NamedTuple, Protocol

_REPLICATES = 25
_LARGE_SHAPE = 50.0


class Interval(NamedTuple):
    """An estimate between two limits; `high` may be infinite, and so may all of it."""

    value: float
    low: float
    high: float


class Estimate(Protocol):
    """Something estimated from a sample."""

    def interval(self, error: float) -> Interval:
        """The estimate between limits that miss the truth in a share `error` of samples."""


class Weighted(NamedTuple):
    """A sample: how many allocations it stands for, how unsure that is, what each adds to a total.

    `variance` is that of the number: weight (weight - 1) for samples taken independently.
    """

    weight: float
    variance: float
    amount: float

    @classmethod
    def of(cls, weight: float, amount: float) -> Weighted:
        """A sample taken with the chance 1 / weight."""
        return cls(weight, weight * (weight - 1), amount)

    @property
    def unseen(self) -> float:
        """What stands behind it that was not seen."""
        return (self.weight - 1) * self.amount

    @property
    def grain(self) -> float:
        """Half of what one more would add: totals move by steps, gamma limits do not."""
        return self.amount / 2 if self.variance else 0.0


class Total:
    """A sum over all allocations (Horvitz and Thompson, 1952), with gamma limits.

    What was seen is certain, what was not is estimated: its variance is the samples', and its
    limits are those of Fay and Feuer, "Confidence intervals for directly standardized rates: a
    method based on the gamma distribution", 1997, made for weighted sums of few events. `heaviest`
    is the sample that would add most if there were one more of it: it gives an upper limit even
    where nothing was sampled.

    >>> Total([Weighted.of(1.0, 100.0)] * 3, Weighted.of(1.0, 100.0)).interval(0.05)
    Interval(value=300.0, low=300.0, high=300.0)
    >>> Total([], Weighted.of(50.0, 1.0)).interval(0.05).high > 100
    True
    """

    def __init__(self, samples: Iterable[Weighted], heaviest: Weighted) -> None:
        self.seen = self.unseen = self.variance = 0.0
        self.heaviest = heaviest
        for sample in samples:
            self.seen += sample.amount
            self.unseen += sample.unseen
            self.variance += sample.variance * sample.amount**2

    def interval(self, error: float) -> Interval:
        """The total between its limits, the lower one never below what was seen."""
        more = self.heaviest
        low = _gamma_quantile(self.unseen, self.variance, error / 2) - more.grain
        variance = self.variance + more.variance * more.amount**2
        high = _gamma_quantile(self.unseen + more.unseen, variance, 1 - error / 2) + more.grain
        value = self.seen + self.unseen
        return Interval(value, min(self.seen + max(low, 0.0), value), max(self.seen + high, value))


class Life(NamedTuple):
    """How long a sample lived, or has lived so far if it is `alive`; see `Weighted`."""

    lifetime: float
    alive: bool
    weight: float
    variance: float


class MedianLifetime:
    """The lifetime that half of all allocations outlive (Kaplan and Meier, 1958).

    The limits are where a test of "half live longer" turns (Woodruff, "Confidence intervals for
    medians and other position measures", 1952; for censored lifetimes Brookmeyer and Crowley,
    1982). The variance of the curve is its linearisation's for independently taken samples, as an
    effective number of samples (Korn and Graubard, 1998) at which the binomial test is made, with
    its correction for continuity. Greenwood's would be wrong: it takes weights for counts.

    `heaviest` is a sample that there may be one more of, as in `Total`: few that were certain to be
    sampled say nothing of the many that were not.

    The value is infinite if more than half are alive at the end, longer than anything was seen.
    """

    def __init__(self, lives: Iterable[Life], heaviest: Weighted) -> None:
        ordered = sorted(lives)
        self.longest = ordered[-1].lifetime if ordered else 0.0
        self.steps: list[tuple[float, float, float]] = []  # lifetime, share, effective number
        at_risk = sum(life.weight for life in ordered)
        spread_at_risk = sum(life.variance for life in ordered)
        more = heaviest.variance / at_risk**2 if at_risk else math.inf
        spread = spread_at_risk / at_risk**2 + more if at_risk else math.inf
        effective = 1 / spread if spread > 1e-15 else math.inf
        share, hazard, spread_gone = 1.0, 0.0, 0.0
        at = 0
        while at < len(ordered):
            lifetime = ordered[at].lifetime
            first = at
            while at < len(ordered) and ordered[at].lifetime == lifetime:
                at += 1
            tied = ordered[first:at]
            died = sum(life.weight for life in tied if not life.alive)
            left = at_risk - died
            everyone = left <= 1e-9 * at_risk
            if died:
                if everyone:
                    share = 0.0
                else:
                    share *= left / at_risk
                    hazard += died / (at_risk * left)
            for life in tied:
                spread_at_risk -= life.variance
                if not everyone:
                    # Its pull on the curve's logarithm from here on.
                    pull = hazard - (0.0 if life.alive else 1 / left)
                    spread_gone += life.variance * pull * pull
            if died:
                if not everyone:
                    variance = (
                        share * share * (hazard * hazard * max(spread_at_risk, 0.0) + spread_gone)
                    )
                    if variance > 1e-15:
                        effective = 1 / (variance / (share * (1 - share)) + more)
                self.steps.append((lifetime, share, effective))
            at_risk -= sum(life.weight for life in tied)
        self.value = next((t for t, share, _ in self.steps if share <= 0.5 + 1e-12), math.inf)

    def interval(self, error: float) -> Interval:
        """The median between its limits."""
        z = -NormalDist().inv_cdf(error / 2)
        low: float | None = None
        for lifetime, share, effective in self.steps:
            half = 0.5 * z / math.sqrt(effective) + 0.5 / effective
            if low is None and share <= 0.5 + half + 1e-12:
                low = lifetime if half < 0.5 else 0.0
            if share <= 0.5 - half + 1e-12:
                assert low is not None
                return Interval(self.value, min(low, self.value), max(lifetime, self.value))
        return Interval(self.value, min(self.longest if low is None else low, self.value), math.inf)


class Block(NamedTuple):
    """A sampled block: from when to when it was alive (None: still); see `Weighted`."""

    birth_ns: int
    death_ns: int | None
    weight: float
    variance: float
    size: float


class Peak:
    """The most that was alive at one moment.

    The highest of many estimates reads high, and at no moment known beforehand. The limits hold
    for the whole course at once: the error of the level over time is taken for a Gaussian process
    with the variance of the samples, of which `_REPLICATES` are drawn (multipliers; Chernozhukov,
    Chetverikov and Kato, 2013). Its largest error exceeds the median of theirs by x standard
    deviations with a chance below 1 - Φ(x) (Borell, "The Brunn-Minkowski inequality in Gauss
    space", 1975). `heaviest` is what may be alive unseen, as in `Total`. The limits are wide rather
    than wrong.
    """

    def __init__(self, blocks: Sequence[Block], heaviest: Weighted) -> None:
        self.heaviest = heaviest
        events = [(block.birth_ns, 1, n) for n, block in enumerate(blocks)]
        events += [
            (block.death_ns, -1, n) for n, block in enumerate(blocks) if block.death_ns is not None
        ]
        events.sort()

        def course(amounts: Sequence[float]) -> Iterable[float]:
            return accumulate(sign * amounts[n] for _, sign, n in events)

        self.value = max(course([block.weight * block.size for block in blocks]), default=0.0)
        self.seen = max(course([block.size for block in blocks]), default=0.0)
        spread = [math.sqrt(block.variance) * block.size for block in blocks]
        self.error = self.deviation = 0.0
        if any(spread):
            self.deviation = math.sqrt(max(course([s * s for s in spread])))
            draw = random.Random(len(blocks))  # the same recordings give the same answer
            largest = []
            for _ in range(_REPLICATES):
                noise = [s * draw.gauss(0.0, 1.0) for s in spread]
                largest.append(max(map(abs, course(noise))))
            self.error = median(largest)

    def interval(self, error: float) -> Interval:
        """The peak between its limits, the lower one never below what was seen."""
        half = self.error - NormalDist().inv_cdf(error) * self.deviation if self.deviation else 0.0
        low = min(max(self.value - half, self.seen), self.value)
        more = Total([], self.heaviest).interval(error).high
        return Interval(self.value, low, self.value + half + more)


def difference(new: Interval, old: Interval, factor: float = 1.0) -> Interval:
    """new - factor · old, for independent estimates that need not be normal.

    Zou and Donner, "Construction of confidence limits about effect measures", 2008: each limit is
    as far away as the two limits that lead there, by Pythagoras.

    >>> difference(Interval(10, 6, 15), Interval(5, 1, 8))
    Interval(value=5.0, low=0.0, high=11.403124237432849)
    """
    if math.isinf(new.value) or math.isinf(old.value):  # no middle to start from
        low = new.low - factor * old.high if math.isfinite(old.high) else -math.inf
        high = new.high - factor * old.low if math.isfinite(new.high) else math.inf
        value = 0.0 if new.value == old.value else new.value - factor * old.value
        return Interval(value, low, high)
    value = new.value - factor * old.value
    down = math.hypot(new.value - new.low, factor * (old.high - old.value))
    up = math.hypot(new.high - new.value, factor * (old.value - old.low))
    return Interval(value, value - down, value + up)


def ratio(new: Interval, old: Interval) -> Interval:
    """new / old: all factors at which `difference` may be 0; infinite where `old` may be 0.

    >>> ratio(Interval(20, 18, 22), Interval(10, 10, 10))
    Interval(value=2.0, low=1.8, high=2.2)
    """
    if new.high == old.high == 0:
        return Interval(1.0, 1.0, 1.0)
    if math.isinf(new.value) or math.isinf(old.value):
        low = 0.0 if math.isinf(old.high) else _over(new.low, old.high)
        high = _over(new.high, old.low)
        return Interval(1.0 if new.value == old.value else _over(new.value, old.value), low, high)
    value = _over(new.value, old.value)
    down, up = new.value - new.low, old.high - old.value
    low = 0.0
    if math.isfinite(up):
        root = up**2 * new.low * (new.value + down) + (down * old.value) ** 2
        low = _over(new.low * (new.value + down), new.value * old.value + math.sqrt(root))
    up, down = new.high - new.value, old.value - old.low
    rest = old.low * (old.value + down)
    if math.isinf(up) or rest <= 0:
        return Interval(value, low, math.inf if new.high > 0 else value)
    root = (new.value * down) ** 2 + up**2 * rest
    return Interval(value, low, (new.value * old.value + math.sqrt(root)) / rest)


class Pair(NamedTuple):
    """Two estimates to be compared; apart only by more than a share `tolerance` do they differ."""

    old: Estimate
    new: Estimate
    tolerance: float = 0.0

    def differ(self, error: float) -> bool:
        """Whether they do, by the whole interval."""
        old, new = self.old.interval(error), self.new.interval(error)
        factor = 1 + self.tolerance
        return difference(new, old, factor).low > 0 or difference(new, old, 1 / factor).high < 0


def discoveries(pairs: Sequence[Pair], error: float) -> tuple[set[int], float]:
    """Which of many pairs differ, and the error to show their intervals at.

    Benjamini and Hochberg, 1995, put as intervals (Benjamini and Yekutieli, "False discovery
    rate-adjusted multiple confidence intervals for selected parameters", 2005): the largest R such
    that R pairs differ at an error of R · error / number of pairs. Of the pairs found, a share
    `error` on average does not differ, or does not lie in its interval.
    """
    found = {n for n, pair in enumerate(pairs) if pair.differ(error)}
    while found:
        adjusted = error * len(found) / len(pairs)
        still = {n for n in found if pairs[n].differ(adjusted)}
        if still == found:
            return found, adjusted
        found = still
    return set(), error / max(len(pairs), 1)


def _over(a: float, b: float) -> float:
    if b > 0:
        return 0.0 if math.isinf(b) else a / b
    return math.inf if a > 0 else 0.0


def _gamma_quantile(mean: float, variance: float, part: float) -> float:
    """The quantile of the gamma distribution with this mean and variance."""
    if mean <= 0 or variance <= mean * mean * 1e-18:
        return mean
    shape, scale = mean * mean / variance, variance / mean
    # Wilson and Hilferty, 1931: the cube root is nearly normal.
    z = NormalDist().inv_cdf(part)
    root = 1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))
    if shape >= _LARGE_SHAPE:
        return scale * shape * max(root, 0.0) ** 3
    low, high = 0.0, shape + 12 * math.sqrt(shape) + 40
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _gamma_share(shape, middle) < part else (low, middle)
    return scale * (low + high) / 2


def _gamma_share(shape: float, x: float) -> float:
    """The share of the gamma distribution (scale 1) up to x: the series in rising powers of x."""
    if x <= 0:
        return 0.0
    term = total = 1 / shape
    k = shape
    while term > total * 1e-14:
        k += 1
        term *= x / k
        total += term
    return min(total * math.exp(shape * math.log(x) - x - math.lgamma(shape)), 1.0)
