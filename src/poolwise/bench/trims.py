"""What each trim policy keeps and costs, over three loads; latency before and after a trim."""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

from poolwise import Pool

TITLE = "trim policies over a scripted load of 60 periods"
NOTE = (
    "A trim ends each period. steady: 40 out at once; bursts: 100 out in every fourth period, 5 "
    "else; falling: from 200 to 5. made: objects the factory made; idle: mean at the trims; "
    "regret: made anew after a trim that dropped one; waste: idle from trim to trim, summed. "
    "Latency of get + put of 20 objects, right before and right after a trim, and after a full "
    "collection."
)
FIGURES = {
    "hit_rate": "hit rate",
    "made": "made",
    "idle": "idle",
    "regret": "regret",
    "waste": "waste",
    "before_ns": "before, ns",
    "after_trim_ns": "after a trim, ns",
    "after_collection_ns": "after a collection, ns",
}

PERIODS = 60
POLICIES = ("demand", "aged", "victim", "clear")
LOADS = {
    "steady": [40] * PERIODS,
    "bursts": [100 if period % 4 == 0 else 5 for period in range(PERIODS)],
    "falling": [max(5, 200 - 4 * period) for period in range(PERIODS)],
}


class Thing:
    """What the pools make."""


def cases(quick: bool) -> list[dict[str, str | int]]:
    """Each policy under each load."""
    loads = ["bursts"] if quick else list(LOADS)
    return [{"load": load, "policy": policy} for load in loads for policy in POLICIES]


def run(case: dict[str, Any]) -> dict[str, float | None]:
    """The load once, then the latencies."""
    pool: Pool[Thing] = Pool(Thing, trim=case["policy"], trim_seconds=None)
    idle = []
    for at_once in LOADS[case["load"]]:
        for _ in range(5):
            use(pool, at_once)
        idle.append(pool.stats().idle)
        pool.trim()
    stats = pool.stats()
    before, after_trim, after_collection = [], [], []
    for _ in range(200):
        use(pool, 20)
        before.append(timed(pool))
        pool.trim()
        after_trim.append(timed(pool))
        use(pool, 20)
        gc.collect()
        after_collection.append(timed(pool))
    return {
        "hit_rate": stats.hit_rate,
        "made": float(stats.misses),
        "idle": statistics.fmean(idle),
        "regret": float(stats.regret),
        "waste": float(stats.waste),
        "before_ns": statistics.median(before),
        "after_trim_ns": statistics.median(after_trim),
        "after_collection_ns": statistics.median(after_collection),
    }


def use(pool: Pool[Thing], at_once: int) -> None:
    """Take so many at once, and give them back."""
    things = [pool.get() for _ in range(at_once)]
    while things:
        pool.put(things.pop())


def timed(pool: Pool[Thing]) -> float:
    """Nanoseconds a pair."""
    start = time.perf_counter_ns()
    use(pool, 20)
    return (time.perf_counter_ns() - start) / 20
