"""One arm of the paradox bench, in a process of its own: the argument is a case as JSON.

The pattern is the same for every kind: `alive` things are made, each is written (or not), then
all are dropped, and again. Prints {"untouched" | "written": [CPU seconds, page faults]} a thing.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from poolwise import _core

PAGE = resource.getpagesize()
TURN_SECONDS = 0.0015
TURNS = 8


class Slotted:
    """An object of two fields."""

    __slots__ = ("key", "value")

    def __init__(self) -> None:
        self.key = 0
        self.value: object = None


@dataclass
class Job:
    """An object that owns two containers."""

    items: list[int] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)


def clear_slotted(obj: Slotted) -> None:
    obj.value = None


def clear_job(job: Job) -> None:
    job.items.clear()
    job.tags.clear()


def write_slotted(obj: Slotted) -> None:
    obj.key = 1
    obj.value = "text"


def write_job(job: Job) -> None:
    job.items.append(1)
    job.tags["key"] = 1


Make = Callable[[], Any]
Write = Callable[[Any], object]
Drop = Callable[[Any], object] | None  # None: letting go of the last reference is enough


def buffer_arms(kind: str, pooled: bool, size: int, alive: int) -> tuple[Make, Write, Drop]:
    pages = len(range(0, size, PAGE))
    ones = b"\1" * pages

    def write(buffer: Any) -> None:
        memoryview(buffer)[::PAGE] = ones

    make: Make
    if pooled:
        from poolwise import BufferPool

        acquire = BufferPool(max_size=size, max_bytes=max(1 << 26, 2 * alive * size)).acquire
        make = lambda: acquire(size)  # noqa: E731
    else:
        make = lambda: bytearray(size)  # noqa: E731
    if kind == "numpy.empty":
        import numpy

        if pooled:
            frombuffer: Any = numpy.frombuffer
            make = lambda: frombuffer(acquire(size), "B")  # noqa: E731
        else:
            empty = numpy.empty
            make = lambda: empty(size, "B")  # noqa: E731
    return make, write, None


def object_arms(kind: str, pooled: bool) -> tuple[Make, Write, Drop]:
    factory: Make = Slotted if kind == "slotted class" else Job
    write: Write = write_slotted if kind == "slotted class" else write_job
    if not pooled:
        return factory, write, None
    from poolwise import Pool

    reset: Any = clear_slotted if kind == "slotted class" else clear_job
    pool = Pool(factory, reset=reset)
    return pool.get, write, pool.put


def rounds(count: int, alive: int, make: Make, write: Write | None, drop: Drop) -> None:
    """The measured loop. The names are unbound before the next round: nothing stays alive."""
    for _ in repeat(None, count):
        held = [make() for _ in range(alive)]
        if write is not None:
            for thing in held:
                write(thing)
            del thing
        if drop is not None:
            while held:
                drop(held.pop())
        del held


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(alive: int, make: Make, write: Write | None, drop: Drop) -> tuple[float, float]:
    """CPU seconds a thing, in the least disturbed of TURNS turns, and page faults a thing."""
    rounds(3, alive, make, write, drop)  # the allocator's thresholds settle, the pool is filled

    def turn(count: int) -> float:
        start = time.process_time()
        rounds(count, alive, make, write, drop)
        return time.process_time() - start

    count = 1
    while min(turn(count), turn(count)) < TURN_SECONDS:  # the least: one may be disturbed
        count *= 2
    before = faults()
    least = min(turn(count) for _ in range(TURNS))
    return least / (count * alive), (faults() - before) / (TURNS * count * alive)


def main(case: dict[str, Any]) -> dict[str, tuple[float, float]]:
    kind, pooled, size, alive = case["kind"], case["pooled"], case["size"], case["alive"]
    if case["settings"]:
        from poolwise.program.settings import MALLOC

        for parameter, value in MALLOC:
            _core.mallopt(parameter, value)
    if size is None:
        make, write, drop = object_arms(kind, pooled)
    else:
        make, write, drop = buffer_arms(kind, pooled, size, alive)
    gc.collect()
    gc.disable()  # a collection in one arm's turn and not in the other's is noise
    result = {}
    if size is not None:
        result["untouched"] = measure(alive, make, None, drop)
    result["written"] = measure(alive, make, write, drop)
    return result


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
