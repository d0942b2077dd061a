"""Nothing is lost: a leak is a rise in every round after the warm-up."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import sysconfig
from collections.abc import Callable

import pytest

import poolwise
from poolwise import BufferPool, Pool

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
ROUNDS = 20 if FREE else 6  # without the GIL blocks are freed late: levels settle slowly


class Thing:
    pass


def broken(thing: Thing) -> None:
    raise LookupError


def objects() -> None:
    pool = Pool(Thing, trim=None)
    things = [pool.get() for _ in range(50)]
    while things:
        pool.put(things.pop())
    pool.trim()
    pool.clear()
    pool.stats()


def leases() -> None:
    pool = Pool(Thing, trim=None)
    for _ in range(20):
        with pool.lease():
            pass
    pool.lease().__enter__()
    pool.lease()


def pinned() -> None:
    pool = Pool(Thing, trim=None)
    things = [pool.get() for _ in range(60)]
    for thing in things:
        pool.put(thing)
    for _ in range(3):
        pool.trim()


def failures() -> None:
    pool = Pool(Thing, reset=broken, trim=None)
    with contextlib.suppress(LookupError):
        pool.put(pool.get())
    with contextlib.suppress(poolwise.ForeignPut):
        pool.put("text")  # type: ignore[arg-type]
    with contextlib.suppress(ZeroDivisionError):
        Pool(lambda: 1 // 0, trim=None).get()
    for bad in ({"max_idle": -1}, {"trim": "x"}, {"name": 1}, {"reset": 1}):
        with contextlib.suppress(poolwise.PoolwiseError):
            Pool(Thing, **bad)  # type: ignore[arg-type]


def buffers() -> None:
    pool = BufferPool(max_size=100_000, max_bytes=1_000_000, trim_seconds=None)
    out = [pool.acquire(size) for size in range(0, 200_000, 7001)]
    views = [memoryview(buffer) for buffer in out]
    with contextlib.suppress(poolwise.ViewsAlive):
        out[0].release()
    del views
    for buffer in out[::2]:
        buffer.release()
    with contextlib.suppress(poolwise.BufferReleased):
        bytes(out[0])
    for bad in (-1, 1 << 100, "x"):
        with contextlib.suppress(poolwise.PoolwiseError):
            pool.acquire(bad)  # type: ignore[arg-type]
    with contextlib.suppress(poolwise.PoolwiseError):
        BufferPool(max_size=10, max_bytes=-1)
    pool.trim()
    pool.stats()


def fixed_pool_of_buffers() -> None:
    for size in (16, 5000, 70_000, 200_000):
        with shared.acquire(size) as buffer:
            memoryview(buffer)[:] = b"x" * size


shared = BufferPool(max_size=100_000, max_bytes=1_000_000, trim_seconds=None)


@pytest.mark.parametrize(
    "work", [objects, leases, pinned, failures, buffers, fixed_pool_of_buffers]
)
def test_no_blocks_are_lost(work: Callable[[], None]) -> None:
    levels = []
    for _ in range(ROUNDS):
        for _ in range(20):
            work()
        gc.collect()
        levels.append(sys.getallocatedblocks())
    rises = [later - earlier for earlier, later in itertools.pairwise(levels)]
    assert min(rises[1:]) < 20, f"blocks rose in every round: {rises}"


def resident_kib() -> int:
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def test_no_mapped_memory_is_lost() -> None:
    payload = memoryview(b"x" * (1 << 21))  # made once: only the pool takes memory in a round
    levels = []
    for _ in range(ROUNDS):
        for _ in range(5):
            pool = BufferPool(max_size=1 << 20, max_bytes=1 << 26, trim_seconds=None)
            for size in (100, 5000, 100_000, 1 << 20, 1 << 21):
                for buffer in [pool.acquire(size) for _ in range(4)]:
                    memoryview(buffer)[:] = payload[:size]
            del pool, buffer
        levels.append(resident_kib())
    rises = [later - earlier for earlier, later in itertools.pairwise(levels)]
    assert min(rises[1:]) < 1024, f"KiB resident rose in every round: {rises}"
