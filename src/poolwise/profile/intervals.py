"""95 % intervals of estimates from samples that stand for 1/p allocations each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

Z95 = 1.959964  # the normal distribution's 97.5 % point


class Estimate(NamedTuple):
    """An estimate and its 95 % interval; `high` is infinite where nothing bounds it.

    The interval is about what a recording of every allocation of the same run would have said, not
    about the next run. Where every allocation was sampled it has no width.
    """

    value: float
    low: float
    high: float


def span(size: int) -> int:
    """How much of the gap to the next sample a block of `size` bytes uses up (`decision.h`).

    >>> span(100), span(16384)
    (356, 278784)
    """
    return size + 256 + (size // 16384 * 16384 << 4)


def weight_of(size: int, gap: float) -> float:
    """How many blocks of `size` bytes one stands for that is sampled at a mean gap; 1 for none.

    >>> round(weight_of(0, 65536))
    257
    """
    return -1 / math.expm1(-span(size) / gap) if gap > 0 else 1.0


def total(samples: Iterable[tuple[float, float]], spare: tuple[float, float]) -> Estimate:
    """The sum of what all allocations are worth, from (weight, worth) of the sampled ones.

    Horvitz and Thompson (1952): sum of weight * worth, with variance sum of weight (weight - 1)
    worth². The samples themselves are known; what is not is the rest, a sum that is skewed where
    samples are few. It is taken for gamma distributed with this mean and variance, and half a
    sample more: Jeffreys' interval where all weights are equal (Brown, Cai and DasGupta, "Interval
    estimation in exponential families", 2003). Where they are not, what was never sampled may well
    have had a larger weight than what was: at the upper end the half sample is half of `spare`
    (Fay and Feuer, "Confidence intervals for directly standardized rates", 1997). Bounds are
    rounded outwards to whole allocations.

    >>> total([(1.0, 8.0), (1.0, 4.0)], spare=(1.0, 8.0))
    Estimate(value=12.0, low=12.0, high=12.0)
    >>> few = total([(100.0, 1.0)] * 4, spare=(100.0, 1.0))
    >>> few.value, few.low, few.high
    (400.0, 135.0, 949.0)
    """
    known = unseen = allocations = variance = 0.0
    partial = 0
    for weight, worth in samples:
        known += worth
        unseen += (weight - 1) * worth
        allocations += weight - 1
        variance += weight * (weight - 1) * worth * worth
        partial += weight > 1
    low = 0.0
    if variance > 0:
        one, more = unseen / allocations, 1 + 0.5 / partial
        low = math.floor(_gamma_quantile(unseen * more, variance * more, -Z95) / one) * one
    weight, worth = spare
    high = 0.0
    if weight > 1 and worth > 0:
        mean = unseen + (weight - 1) * worth / 2
        high = _gamma_quantile(mean, variance + weight * (weight - 1) * worth**2 / 2, Z95)
        high = math.ceil(high / worth) * worth
    return Estimate(known + unseen, known + low, known + max(high, unseen))


def _gamma_quantile(mean: float, variance: float, z: float) -> float:
    """By Wilson and Hilferty (1931): the cube root of a gamma variate is close to normal."""
    shape = mean * mean / variance
    root = 1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))
    return mean * max(0.0, root) ** 3
