"""Gains: seconds of CPU saved per second of CPU, with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from poolwise.advise.calibrate import Price

RUN_TO_RUN = 0.01  # by so much of its CPU time a program differs from itself; no claim is finer
WIDEST = 0.02  # a verdict's interval is no wider than this to each side, or
WIDEST_SHARE = 0.30  # than this share of its value


@dataclass(frozen=True, slots=True)
class Gain:
    """CPU seconds saved per CPU second of the program as it is; [low, high] is 95 %."""

    value: float
    low: float
    high: float

    @property
    def is_narrow(self) -> bool:
        """Whether the interval is narrow enough for a verdict."""
        half = (self.high - self.low) / 2
        return half <= max(WIDEST, WIDEST_SHARE * abs(self.value)) * 1.001

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


NOTHING = Gain(0.0, 0.0, 0.0)


@dataclass(slots=True)
class Seconds:
    """A sum of prices of sampled allocations.

    Three things are uncertain, and are kept apart: the prices (low and high move together over
    the whole sum), the sampling (variances add up), and the model (a share of the value).
    """

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    variance: float = 0.0

    def add(self, weight: float, price: Price, *, units: float = 1.0) -> None:
        """One sample that stands for `weight` allocations, each worth `units` of `price`."""
        self.value += weight * units * price.value
        self.low += weight * units * price.low
        self.high += weight * units * price.high
        # Horvitz-Thompson: each sample was taken with probability 1/weight.
        self.variance += weight * (weight - 1) * (units * price.value) ** 2

    def scaled(self, factor: float) -> Seconds:
        """All of it `factor` times."""
        return Seconds(
            self.value * factor,
            self.low * factor,
            self.high * factor,
            self.variance * factor * factor,
        )

    def gain(self, cpu_seconds: float, *, model_share: float) -> Gain:
        """As a gain of a program that takes `cpu_seconds`."""
        sampling = 1.96 * math.sqrt(self.variance)
        common = math.hypot(sampling, model_share * self.value, RUN_TO_RUN * cpu_seconds)
        below = math.hypot(self.value - self.low, common)
        above = math.hypot(self.high - self.value, common)
        return Gain(
            self.value / cpu_seconds,
            (self.value - below) / cpu_seconds,
            (self.value + above) / cpu_seconds,
        )


def total(parts: Iterable[Gain]) -> Gain:
    """Several gains at once. Their errors are taken as independent."""
    gains = list(parts)
    value = sum(gain.value for gain in gains)
    below = math.hypot(*(gain.value - gain.low for gain in gains))
    above = math.hypot(*(gain.high - gain.value for gain in gains))
    return Gain(value, value - below, value + above)
