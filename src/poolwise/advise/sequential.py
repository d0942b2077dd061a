"""Intervals for a mean: one that is looked at once, and one that may be looked at all the time.

Looking at a plain 95 % interval after each pair, and stopping as soon as it excludes zero, finds an
effect where there is none about a quarter of the time. `sequence` therefore is a confidence
sequence: with probability 95 % *all* its intervals, from the first look to the last, hold the true
mean.

It inverts the Gaussian-mixture t-test with the right Haar prior on the scale. With n values of mean
m and standard deviation s, t = sqrt(n) (m - m0) / s, v = n - 1 and r = 1 + n g, the Bayes factor

    B = r^(-1/2) [ (1 + t^2 / v) / (1 + t^2 / (v r)) ]^(n/2)          (Gonen et al. 2005)

is, under the hypothesis that the true mean is m0, a non-negative martingale of start value 1
whatever the unknown variance is (Lai 1976; Perez-Ortiz et al. 2022, "E-statistics, group invariance
and anytime-valid testing"), so by Ville's inequality it ever reaches 20 with probability 5 % at
most. Solving B < 20 for m0 gives the interval. It is exact for normal values at every n, where the
asymptotic sequences of Robbins and of Waudby-Smith et al. are not: ours are seldom more than 20.

g is the variance of the effect, in standard deviations of one value, that the test expects; any
value is valid, and 10 suits effects that are several times the noise of a pair.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

EFFECT_VARIANCE = 10.0


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its interval; infinite ends: nothing can be said yet."""

    value: float
    low: float
    high: float


def plain(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval for the mean; valid for one look, at a number of values fixed before.

    Example: `plain([1.0, 2.0, 3.0])` is 2.0, from -0.48 to 4.48.
    """
    if len(values) < 2:
        return _around(values, math.inf)
    quantile = student_quantile((1 + confidence) / 2, len(values) - 1)
    return _around(values, quantile / math.sqrt(len(values)))


def sequence(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean's interval in a confidence sequence: valid at all looks together.

    Example: `sequence([1.0, 2.0])` has infinite ends; with more values they come closer.
    """
    n = len(values)
    r = 1 + n * EFFECT_VARIANCE
    q = (math.sqrt(r) / (1 - confidence)) ** (2 / n) if n > 1 else math.inf
    if q >= r:
        return _around(values, math.inf)
    t_square = (n - 1) * (q - 1) / (1 - q / r)
    return _around(values, math.sqrt(t_square / n))


def _around(values: Sequence[float], deviations: float) -> Interval:
    """The mean and so many standard deviations of one value to both sides."""
    mean = math.fsum(values) / len(values)
    if deviations == math.inf:
        return Interval(mean, -math.inf, math.inf)
    squares = math.fsum((value - mean) ** 2 for value in values)
    half_width = deviations * math.sqrt(squares / (len(values) - 1))
    return Interval(mean, mean - half_width, mean + half_width)


@functools.lru_cache
def student_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t for a whole number of degrees of freedom, by bisection.

    Example: `student_quantile(0.975, 10)` is 2.228. `probability` from 0.5 to below 1.
    """
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if student_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def student_cdf(t: float, freedom: int) -> float:
    """Student's distribution function at t >= 0: Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = 1.0, 0.0
    if freedom % 2:
        term = cosine
        for k in range(1, freedom // 2 + 1):
            total += term
            term *= cosine**2 * 2 * k / (2 * k + 1)
        inside = 2 / math.pi * (angle + sine * total)
    else:
        for k in range(freedom // 2):
            total += term
            term *= cosine**2 * (2 * k + 1) / (2 * k + 2)
        inside = sine * total
    return (1 + inside) / 2
