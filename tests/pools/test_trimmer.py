"""What makes the trimmer trim: the timer, full collections, memory pressure."""

from __future__ import annotations

import gc
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from poolwise import BufferPool, Pool, PoolStats
from poolwise.pools import pressure, trimmer


class Thing:
    pass


@pytest.fixture(autouse=True)
def own_trimmer(monkeypatch: pytest.MonkeyPatch) -> Iterator[trimmer.Trimmer]:
    own = trimmer.Trimmer()
    monkeypatch.setattr(trimmer, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(trimmer, "watch", own.watch)
    yield own
    own.stop()
    assert own._note_collection not in gc.callbacks


def memory_is(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pressure.Pressure(
        tier=tier,  # type: ignore[arg-type]
        source="machine",
        used_bytes=1,
        limit_bytes=1,
        stalled=0.0,
    )
    monkeypatch.setattr(pressure, "read", lambda before: found)


def filled(seconds: float = 3600.0, **options: Any) -> Pool[Thing]:
    pool: Pool[Thing] = Pool(Thing, trim_seconds=seconds, **options)
    things = [pool.get() for _ in range(100)]
    while things:
        pool.put(things.pop())
    return pool


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def reasons(pool: Pool[Thing]) -> dict[str, int]:
    stats: PoolStats = pool.stats()
    return {reason: count for reason, count in stats.trims_by_reason.items() if count}


def test_the_timer_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("low", monkeypatch)
    pool = filled(0.01)
    wait_until(lambda: pool.stats().trims > 2)
    assert set(reasons(pool)) == {"timer"}


def test_a_full_collection_trims_soon_after(
    own_trimmer: trimmer.Trimmer, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_is("low", monkeypatch)
    pool = filled(3600)
    for watched in own_trimmer._watched:
        watched.trimmed -= 1000  # more than a quarter of the period has passed
    gc.collect()
    wait_until(lambda: pool.stats().trims == 1)
    assert reasons(pool) == {"collection": 1}


def test_collections_all_the_time_leave_the_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("low", monkeypatch)
    pool = filled(3600)
    for _ in range(30):
        gc.collect()
        time.sleep(0.005)
    assert pool.stats().trims == 0


def test_a_young_collection_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("low", monkeypatch)
    own = trimmer.Trimmer()
    own._note_collection("stop", {"generation": 0})
    own._note_collection("start", {"generation": 2})
    assert not own._collected
    own._note_collection("stop", {"generation": 2})
    assert own._collected


def test_medium_pressure_trims_once_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("medium", monkeypatch)
    pool = filled(trim="aged", max_age=1000)
    wait_until(lambda: pool.stats().trims > 3)
    assert set(reasons(pool)) == {"pressure"}
    assert pool.stats().idle == 100  # the policy decides what goes


def test_high_pressure_clears(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("high", monkeypatch)
    pool = filled(trim="aged", max_age=1000)
    buffers = BufferPool(max_size=1 << 16, max_bytes=1 << 24, trim_seconds=3600)
    buffers.acquire(60_000).release()
    wait_until(lambda: pool.stats().idle <= 2 and buffers.stats().idle == 0)
    assert pool.stats().dropped_cleared + pool.stats().dropped_trimmed >= 98


def test_the_thread_ends_with_the_last_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_is("low", monkeypatch)
    own = trimmer.Trimmer()
    pool = Pool(Thing, trim_seconds=None)
    own.watch(pool, 3600)
    assert own._thread is not None
    del pool
    wait_until(lambda: own._thread is None)
    own.stop()


LATE = ((3, 13), (3, 13, 10)), ((3, 14), (3, 14, 1))
FORK = """
import os, threading, time
import poolwise
pool = poolwise.Pool(list, trim="aged", max_age=1000, trim_seconds=0.005)
pool.put(pool.get())
def trims():
    before, end = pool.stats().trims, time.monotonic() + 30
    while pool.stats().trims < before + 2:
        assert time.monotonic() < end
        time.sleep(0.001)
for _ in range(20):
    trims()
    child = os.fork()
    if child == 0:
        trims()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
trims()
print([thread.name for thread in threading.enumerate()])
"""


def test_a_fork_meets_no_thread_and_both_sides_trim_on() -> None:
    warnings = "default" if any(a <= sys.version_info < b for a, b in LATE) else "error"
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", FORK], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "['MainThread', 'poolwise-trimmer']\n", done.stderr


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="imports change nothing with the GIL"
)
def test_pools_in_use_import_nothing_without_the_gil() -> None:
    """An import amid running threads slows one of them down for good; see pools/__init__.py."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, poolwise; before = set(sys.modules)\n"
            "pool = poolwise.Pool(list); pool.put(pool.get()); pool.stats(); pool.locals()\n"
            "pool.trim(); pool.clear()\n"
            "buffers = poolwise.BufferPool(max_size=100, max_bytes=1000)\n"
            "buffers.acquire(10).release(); buffers.stats(); buffers.trim()\n"
            "print(*sorted(set(sys.modules) - before))",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == []
