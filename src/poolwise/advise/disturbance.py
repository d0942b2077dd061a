"""How much dearer than in the calibration memory was while the program ran.

Prices are those of a quiet moment. Beside a busy neighbour the same page costs more CPU time, and
so does all else that the program does: quiet prices over a disturbed program's CPU time would
promise too little. So the waiting parent probes the machine now and then while the program runs,
just as it did while the children of the calibration ran.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.probe import probe

LEAST_PROBES = 5
MOST = 3.0  # no factor is believed beyond, but it makes the range wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the probes of one run took: how many, their mean and standard deviation in seconds."""

    count: int
    mean: float
    deviation: float

    def factor(self, quiet: Price) -> Price:
        """How much more than `quiet` a probe took on average, with the error of both."""
        error = 1.96 * self.deviation / math.sqrt(self.count) / self.mean
        # A dear reference is a low factor.
        below = math.hypot(error, 1 - quiet.value / quiet.high)
        above = math.hypot(error, quiet.value / quiet.low - 1)
        factor = self.mean / quiet.value
        value = min(max(factor, 1 / MOST), MOST)
        return Price(
            value, min(value, factor * max(0.0, 1 - below)), max(value, factor * (1 + above))
        )

    def adjusted(self, prices: Calibration) -> Calibration:
        """`prices` as they were while the program ran."""
        return prices.scaled(self.factor(prices.prices["probe"]))


class Watch:
    """Probes taken now and then; call it to take one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self) -> None:
        self.seconds.append(probe())

    def probes(self) -> Probes:
        """What they took; a few more are taken where there were hardly any."""
        while len(self.seconds) < LEAST_PROBES:
            self()
        return Probes(
            count=len(self.seconds), mean=fmean(self.seconds), deviation=stdev(self.seconds)
        )
