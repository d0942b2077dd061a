"""Atomics and false sharing, with plain C threads: why each local of a pool has its own lines."""

from __future__ import annotations

from typing import Any

from poolwise import _sharing

TITLE = "one increment of a counter by plain C threads, nanoseconds"
NOTE = (
    "own: each thread counts in a variable of its own stack; padded: in one array, a pair of cache "
    "lines apart, as the locals of a pool lie (sizeof a multiple of it on free-threaded builds); "
    "line: side by side on one line; atomic: all in one counter. summed: padded, while another "
    "thread sums all counters all the time, as stats() does now and then."
)
FIGURES = {"ns": "ns an increment", "slowdown": "times one thread of its own"}

LAYOUTS = ("own", "padded", "summed", "line", "atomic")
INCREMENTS = 20_000_000


def cases(quick: bool) -> list[dict[str, str | int]]:
    """Each layout, with 1 to 8 threads."""
    threads = (1, 2) if quick else (1, 2, 4, 8)
    return [{"layout": layout, "threads": count} for layout in LAYOUTS for count in threads]


def run(case: dict[str, Any]) -> dict[str, float | None]:
    """CPU time of all threads by their increments."""
    layout, threads = LAYOUTS.index(case["layout"]), case["threads"]
    alone = _sharing.count(LAYOUTS.index("own"), 1, INCREMENTS)
    nanoseconds = _sharing.count(layout, threads, INCREMENTS)
    return {"ns": nanoseconds, "slowdown": nanoseconds / alone}
