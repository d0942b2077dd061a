"""How much dearer than in the calibration memory was while the program ran.

Prices are those of a quiet moment. Beside a busy neighbour the same page costs more CPU time, and
so does all else that the program does: quiet prices over a disturbed program's CPU time would
promise too little. So the waiting parent probes the machine now and then while the program runs,
just as it did while the children of the calibration ran.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.probe import probe

LEAST_PROBES = 5
MOST = 3.0  # no factor is believed beyond


class Watch:
    """Probes taken now and then; call it to take one."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self) -> None:
        self.seconds.append(probe())

    def factor(self, quiet: Price) -> Price:
        """How much more than `quiet` a probe took on average, with the error of that average."""
        while len(self.seconds) < LEAST_PROBES:
            self()
        mean = fmean(self.seconds) / quiet.value
        error = 1.96 * stdev(self.seconds) / math.sqrt(len(self.seconds)) / quiet.value
        bounded = [
            min(max(factor, 1 / MOST), MOST) for factor in (mean, mean - error, mean + error)
        ]
        return Price(*bounded)

    def adjusted(self, prices: Calibration) -> Calibration:
        """`prices` as they were while the program ran."""
        return prices.scaled(self.factor(prices.prices["probe"]))
