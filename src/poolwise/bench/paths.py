"""What each path of get and put costs: private, shared, steal, depot, victim, factory."""

from __future__ import annotations

import statistics
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import Any

from poolwise import Pool

TITLE = "one call by the path it takes, nanoseconds"
NOTE = (
    "Each call goes to the next of 64 pools, so that it takes the path once: with the loop, and "
    "the cache misses that come with 64 pools. Compare with the two rows that call no pool."
)
FIGURES = {"mean_ns": "ns a call", "p99_ns": "P99 of passes, ns"}

POOLS = 64
PASSES = 300

Calls = list[Callable[[], object]]
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Thing:
    """What the pools make."""

    __slots__ = ("value",)


def cases(quick: bool) -> list[dict[str, str | int]]:
    """Each path."""
    paths = list(PATHS)
    return [{"path": path} for path in (paths[:3] if quick else paths)]


def run(case: dict[str, Any]) -> dict[str, float | None]:
    """Passes over all pools, each prepared anew."""
    path = PATHS[case["path"]]
    if path is None:
        return {"mean_ns": None, "p99_ns": None}
    times = []
    for _ in range(PASSES):
        calls = path()
        start = time.perf_counter_ns()
        for call in calls:
            call()
        times.append((time.perf_counter_ns() - start) / len(calls))
    times = times[PASSES // 10 :]
    return {"mean_ns": statistics.fmean(times), "p99_ns": statistics.quantiles(times, n=100)[98]}


_held: list[object] = []


def pools(idle: int, **settings: Any) -> list[Pool[Any]]:
    """Pools without a timer, each with so many idle."""
    made: list[Pool[Any]] = [Pool(Thing, trim_seconds=None, **settings) for _ in range(POOLS)]
    for pool in made:
        things = [pool.get() for _ in range(idle)]
        while things:
            pool.put(things.pop())
    return made


def _private() -> Calls:
    return [pool.get for pool in pools(1)]


def _beyond_private(made: list[Pool[Any]]) -> Calls:
    _held[:] = [pool.get() for pool in made for _ in range(2)]
    return [pool.get for pool in made]


def _shared() -> Calls:
    return _beyond_private(pools(5))


def _depot() -> Calls:
    made = pools(5, trim="aged", max_age=1000)
    for pool in made:
        pool.trim()
    return _beyond_private(made)


def _victim() -> Calls:
    made = pools(5, trim="victim")
    for pool in made:
        pool.trim()
    return [pool.get for pool in made]


def _factory() -> Calls:
    return [pool.get for pool in pools(0)]


def _steal() -> Calls:
    made: list[Pool[Any]] = [Pool(Thing, trim_seconds=None) for _ in range(POOLS)]
    filled, done = threading.Event(), threading.Event()

    def fill() -> None:
        for pool in made:
            things = [pool.get() for _ in range(5)]
            while things:
                pool.put(things.pop())
        filled.set()
        done.wait()

    # It lives on as long as its locals are to be stolen from: the next pass ends it.
    threading.Thread(target=fill, daemon=True).start()
    filled.wait()
    for event in _others:
        event.set()
    _others[:] = [done]
    return [pool.get for pool in made]


_others: list[threading.Event] = []


def _puts(idle: int, **settings: Any) -> Calls:
    calls: Calls = []
    for pool in pools(idle, **settings):
        thing = Thing()
        pool.put(thing)  # the pool knows the class, and its first put is behind it
        pool.clear()
        _held[:] = things = [pool.get() for _ in range(idle)]
        while things:
            pool.put(things.pop())
        calls.append(lambda put=pool.put, thing=thing: put(thing))  # type: ignore[misc]
    return calls


def _lambda() -> Calls:
    nothing = [].__len__
    return [lambda call=nothing: call() for _ in range(POOLS)]  # type: ignore[misc]


PATHS: dict[str, Callable[[], Calls] | None] = {
    "no pool: list.__len__": lambda: [[].__len__ for _ in range(POOLS)],
    "get: private": _private,
    "get: shared": _shared,
    "get: steal": _steal if FREE else None,
    "get: depot": _depot,
    "get: victim": _victim,
    "get: factory": _factory,
    "no pool: the class itself": lambda: [Thing for _ in range(POOLS)],
    "no pool: lambda, list.__len__": _lambda,
    "put, in a lambda: private": lambda: _puts(0),
    "put, in a lambda: shared": lambda: _puts(4),
    "put, in a lambda: full": lambda: _puts(0, max_idle=0),
    "put, in a lambda: reset": lambda: _puts(0, reset=id),
}
