"""How much dearer than in the calibration memory was while the program ran.

Prices are those of a quiet moment. Beside a busy neighbour the same page costs more CPU time, and
so does all else that the program does: quiet prices over a disturbed program's CPU time would
promise too little. So while the program runs, the waiting parent takes a small block from the
kernel now and then, writes it and gives it back, as the calibration did.
"""

from __future__ import annotations

import math
import mmap
import time
from statistics import fmean, stdev

from poolwise.advise.calibrate import Calibration, Price

PROBE_BYTES = 1 << 20
WARM_ROUNDS = 4  # after a sleep everything is cold, which in a calibration it is not
PROBE_ROUNDS = 2  # in all some three milliseconds
LEAST_PROBES = 5
MOST = 3.0  # no factor is believed beyond

_content = bytes(PROBE_BYTES)


def probe() -> float:
    """CPU seconds of this thread for one probe."""
    started = 0.0
    for turn in range(WARM_ROUNDS + PROBE_ROUNDS):
        if turn == WARM_ROUNDS:
            started = time.thread_time()
        with mmap.mmap(-1, PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
            block.write(_content)
    return time.thread_time() - started


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
