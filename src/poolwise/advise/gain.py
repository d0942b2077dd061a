"""Gains: seconds of CPU saved per second of CPU, with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

from poolwise.advise.calibrate import Price

RUN_TO_RUN = 0.012  # by so much of its CPU time a program differs from itself; no claim is finer
START_UP_SECONDS = 0.005  # and by so much in any case, however short it is
MODEL_SHARE = 0.10  # what the prices leave out, as a share of the gain
WIDEST = 0.02  # a verdict's interval is no wider than this to each side, or
WIDEST_SHARE = 0.30  # than this share of its value


@dataclass(frozen=True, slots=True)
class Gain:
    """CPU seconds saved per CPU second of the program as it is; [low, high] is 95 %.

    `sampling`: the part of the interval's half width that a longer recording would narrow.
    """

    value: float
    low: float
    high: float
    sampling: float = 0.0

    @property
    def allowed(self) -> float:
        """How wide a verdict's interval may be to each side."""
        return max(WIDEST, WIDEST_SHARE * abs(self.value))

    @property
    def wants_more(self) -> bool:
        """Whether the interval is too wide for a verdict, and recording for longer would help."""
        return (self.high - self.low) / 2 > self.allowed and self.sampling > self.allowed / 2

    def less(self, taken: float) -> Gain:
        """What is left of it when something else has taken a part."""
        return Gain(self.value - taken, self.low - taken, self.high - taken, self.sampling)

    def __str__(self) -> str:
        # Adding 0.0 makes a negative zero a plain one.
        value, low, high = (
            round(100 * part, 1) + 0.0 for part in (self.value, self.low, self.high)
        )
        return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


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

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(
            self.value + other.value,
            self.low + other.low,
            self.high + other.high,
            self.variance + other.variance,
        )

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(
            self.value - other.value,
            self.low - other.high,
            self.high - other.low,
            self.variance + other.variance,
        )

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(
            self.value * factor,
            self.low * factor,
            self.high * factor,
            self.variance * factor * factor,
        )

    def gain(self, cpu_seconds: float) -> Gain:
        """As a gain of a program that takes `cpu_seconds`."""
        sampling = 1.96 * math.sqrt(self.variance)
        itself = max(RUN_TO_RUN * cpu_seconds, START_UP_SECONDS)
        common = math.hypot(sampling, MODEL_SHARE * self.value, itself)
        below = math.hypot(self.value - self.low, common)
        above = math.hypot(self.high - self.value, common)
        return Gain(
            self.value / cpu_seconds,
            (self.value - below) / cpu_seconds,
            min((self.value + above) / cpu_seconds, max(1.0, self.value / cpu_seconds)),
            sampling / cpu_seconds,
        )
