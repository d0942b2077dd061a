"""Hit rate and latency by size: acquire + release, get + put, and plain allocation."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

from poolwise import BufferPool, Pool

TITLE = "take + give back by size, nanoseconds a pair"
NOTE = (
    "varying: sizes drawn log-normally around the size. P99 of batches of 16 pairs, so of bursts "
    "and not of single calls; the cost of the clock is taken off."
)
FIGURES = {"hit_rate": "hit rate", "mean_ns": "mean, ns", "p99_ns": "P99, ns"}

SIZES = (16, 128, 2 << 10, 64 << 10, 1 << 20)
BATCH = 16
SECONDS = 0.15

Pair = Callable[[int], object]


def cases(quick: bool) -> list[dict[str, str | int]]:
    """Each way of having memory, at each size."""
    sizes = (16, 1 << 20) if quick else SIZES
    return [
        {"size": size, "load": load, "way": way}
        for size in sizes
        for load in ("fixed", "varying")
        for way in ("bytearray", "Pool", "BufferPool")
    ]


def run(case: dict[str, Any]) -> dict[str, float | None]:
    """Pairs for a while, in batches."""
    size = case["size"]
    draw = random.Random(1)
    sizes = [size] * 256
    if case["load"] == "varying":
        sizes = [max(1, round(size * draw.lognormvariate(0, 0.5))) for _ in sizes]
    pair, hit_rate = _way(case["way"], sizes)
    times = _batches(pair, sizes)
    return {
        "hit_rate": hit_rate(),
        "mean_ns": statistics.fmean(times),
        "p99_ns": statistics.quantiles(times, n=100)[98],
    }


def _way(way: str, sizes: list[int]) -> tuple[Pair, Callable[[], float | None]]:
    if way == "bytearray":
        return bytearray, lambda: None
    largest = max(sizes)
    if way == "Pool":
        pool = Pool(lambda: bytearray(largest))
        get, put = pool.get, pool.put
        return lambda _: put(get()), lambda: pool.stats().hit_rate
    buffers = BufferPool(max_size=largest, max_bytes=max(64 * largest, 1 << 22))
    acquire = buffers.acquire
    return lambda n: acquire(n).release(), lambda: buffers.stats().hit_rate


def _batches(pair: Pair, sizes: list[int]) -> list[float]:
    """Nanoseconds a pair, of each batch; the loop and the clock taken off."""
    clock = time.perf_counter_ns
    following = cycle(sizes)
    batches = [[next(following) for _ in range(BATCH)] for _ in range(64)]

    def timed(call: Pair, batch: list[int]) -> int:
        start = clock()
        for n in batch:
            call(n)
        return clock() - start

    empty = min(timed(_nothing, batch) for batch in batches * 20)
    for batch in batches:
        timed(pair, batch)
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        times += [max(0, timed(pair, batch) - empty) / BATCH for batch in batches]
    return times


def _nothing(n: int) -> None:
    """What a batch costs that does nothing."""
