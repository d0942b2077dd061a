"""Run by test_failing_allocations.py: each allocation fails in turn, once and for good.

python allocations.py core     what the core asks of the C library (failing_allocations.c preloaded)
python allocations.py python   what anybody asks of the interpreter's allocators
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import poolwise
from poolwise import BufferPool, Pool, _core


class Thing:
    pass


def attempt(work: Callable[..., Any], *args: Any) -> Any:
    """None where there was no memory."""
    try:
        return work(*args)
    except MemoryError:
        return None


def fill(pool: Pool[Thing], count: int) -> list[Thing]:
    things = [thing for _ in range(count) if (thing := attempt(pool.get)) is not None]
    for thing in things:
        attempt(pool.put, thing)
    return things


def lend(pool: Pool[Thing], depth: int = 1) -> None:
    with pool.lease():
        if depth > 1:
            lend(pool, depth - 1)


def objects(policy: str) -> None:
    """Queues that grow, at puts and at trims; in two threads."""
    pool = attempt(lambda: Pool(Thing, trim=policy, trim_seconds=None, checks="off"))  # type: ignore[call-overload]
    if pool is None:
        return
    fill(pool, 40)
    thread = threading.Thread(target=fill, args=(pool, 20))
    thread.start()
    thread.join()
    attempt(pool.trim)
    held = fill(pool, 70)
    for _ in range(5):
        attempt(pool.trim)
    del held
    attempt(lend, pool)
    fill(pool, 30)
    assert pool._check()
    stats = pool.stats()
    assert stats.gets == stats.hits + stats.misses
    pool.clear()
    gc.collect()
    stats = pool.stats()
    assert (stats.idle, stats.held) == (0, 0)
    assert sum(type(each) is Thing for each in gc.get_objects()) == 0


def leases() -> None:
    """Whatever fails, an object that a lease has had is put, or counted as dropped."""
    pool = attempt(lambda: Pool(Thing, trim=None, checks="off"))
    if pool is not None:
        attempt(lend, pool, 40)
        stats = pool.stats()
        assert stats.out == 0, stats


def buffers() -> None:
    pool = attempt(lambda: BufferPool(max_size=1 << 16, max_bytes=1 << 20, trim_seconds=None))
    if pool is None:
        return
    for size in (10, 5000, 1 << 16, 1 << 17, 10):
        out = [attempt(pool.acquire, size) for _ in range(5)]
        for buffer in out:
            if buffer is not None:
                memoryview(buffer)[:1] = b"x"
        del out, buffer
    pool.trim()
    stats = pool.stats()
    assert stats.out == stats.out_bytes == stats.fallback_bytes == 0
    assert stats.gets == stats.hits + stats.misses


SCENES: list[Callable[[], None]] = [
    *[lambda policy=policy: objects(policy) for policy in ("demand", "victim", "aged", "clear")],  # type: ignore[misc]
    leases,
    buffers,
]


def of_the_core() -> int:
    library = ctypes.CDLL(None)
    fail, asked = library.fail_allocations, library.allocations_asked
    fail.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_long, ctypes.c_long]
    fail.restype, asked.restype = None, ctypes.c_long
    library.allocations_alive.restype = ctypes.c_long
    with open("/proc/self/maps") as maps:
        parts = [line.split("-", 2) for line in maps if _core.__file__ in line]
    core = int(parts[0][0], 16), int(parts[-1][1].split()[0], 16)
    failures = 0
    for scene in SCENES:
        fail(*core, -1, -1)
        scene()  # what the first use keeps for good
        gc.collect()
        alive = library.allocations_alive()
        for number, for_good in itertools.product(range(10_000), (False, True)):
            fail(*core, number, 1 << 40 if for_good else number + 1)
            scene()
            reached = asked() > number
            fail(*core, -1, -1)
            gc.collect()
            left = library.allocations_alive() - alive
            assert left == 0, f"{left} allocations lost when the {number}th failed"
            if not reached:
                break
            failures += 1
    return failures


def in_use(pool: Pool[Thing], buffers: BufferPool) -> list[Callable[[], Any]]:
    """Operations that may raise MemoryError, and nothing else."""

    return [
        lambda: Pool(Thing, trim="aged", name="a", checks="off", trim_seconds=None),
        lambda: BufferPool(max_size=1000, max_bytes=10_000, trim_seconds=None),
        pool.get,
        lambda: pool.put(pool.get()),
        lambda: pool.put(None),  # type: ignore[arg-type]
        lambda: [pool.get() for _ in range(5)],
        lambda: lend(pool),
        pool.trim,
        pool.stats,
        pool.locals,
        pool.clear,
        lambda: repr(pool),
        lambda: buffers.acquire(10).release(),
        lambda: buffers.acquire(5000),
        lambda: buffers.acquire(100_000),
        lambda: buffers.acquire(-1),
        lambda: bytes(buffers.acquire(10)),
        buffers.stats,
        buffers.trim,
    ]


def of_python() -> int:
    from _testcapi import remove_mem_hooks, set_nomemory

    things = [Thing() for _ in range(40)]
    pool: Pool[Thing] = Pool(Thing, trim=None, checks="off")
    buffers = BufferPool(max_size=1 << 16, max_bytes=1 << 20, trim_seconds=None)
    failures = 0
    for work in in_use(pool, buffers):
        for number, for_good in itertools.product(range(120), (False, True)):
            for thing in things:
                pool.put(thing)
            failed = False
            until = 0 if for_good else number + 1
            set_nomemory(number, until)
            try:
                work()
            except MemoryError:
                failed = True
            except poolwise.PoolwiseError:
                pass
            remove_mem_hooks()
            failures += failed
            assert pool._check()
            pool.trim()
            pool.clear()
            assert pool.stats().idle == 0
            assert buffers.stats().out == 0
    gc.collect()
    assert sum(type(each) is Thing for each in gc.get_objects()) == len(things)
    return failures


if __name__ == "__main__":
    failures = of_the_core() if sys.argv[1] == "core" else 0
    if (
        sys.argv[1] == "python"
    ):  # a scope is opened before: CPython crashes where that finds no memory
        for scope in contextlib.nullcontext(), poolwise.statistics():
            with scope:
                failures += of_python()
    print(failures, "failures survived")
