"""One contract for a pool and for the pool that keeps nothing."""

from __future__ import annotations

from typing import Any

import pytest

import poolwise
from poolwise import NullPool, Pool


class Thing:
    pass


KINDS = pytest.mark.parametrize("kind", [Pool, NullPool])


@KINDS
def test_get_put_lease(kind: Any) -> None:
    pool = kind(Thing, name="things")
    thing = pool.get()
    assert isinstance(thing, Thing)
    assert pool.put(thing) is None
    with pool.lease() as leased:
        assert isinstance(leased, Thing)
    stats = pool.stats()
    assert (stats.name, stats.gets, stats.puts, stats.out) == ("things", 2, 2, 0)
    assert pool.name == "things"
    assert "'things'" in repr(pool)


@KINDS
def test_reset_runs_at_put_and_may_refuse(kind: Any) -> None:
    wiped: list[Thing] = []

    def reset(thing: Thing) -> bool:
        wiped.append(thing)
        return False

    pool = kind(Thing, reset=reset)
    pool.put(pool.get())
    assert len(wiped) == 1
    assert pool.stats().dropped_rejected == 1


@KINDS
def test_errors_reach_the_caller(kind: Any) -> None:
    def broken(thing: Thing) -> None:
        raise LookupError

    pool = kind(Thing, reset=broken)
    with pytest.raises(LookupError):
        pool.put(pool.get())
    with pytest.raises(ZeroDivisionError):
        kind(lambda: 1 // 0).get()
    for foreign in (None, "text"):
        with pytest.raises(poolwise.ForeignPut):
            pool.put(foreign)
    with pytest.raises(LookupError), pool.lease():
        pass


@KINDS
@pytest.mark.parametrize(
    "bad",
    [
        {"max_idle": -1},
        {"trim": "sometimes"},
        {"name": 3},
        {"reset": 3},
        {"max_age": 0},
        {"trim_seconds": -1},
    ],
)
def test_bad_settings(kind: Any, bad: Any) -> None:
    with pytest.raises(poolwise.PoolwiseError):
        kind(Thing, **bad)


@KINDS
def test_trim_and_clear_say_how_many(kind: Any) -> None:
    pool = kind(Thing, trim="clear")
    pool.put(pool.get())
    assert pool.trim("timer") + pool.clear() <= 1
    assert pool.stats().idle == 0
    with pytest.raises(poolwise.UsageError):
        pool.trim("noon")


def test_nothing_is_kept() -> None:
    pool = NullPool(Thing)
    for _ in range(3):
        pool.put(pool.get())
    stats = pool.stats()
    assert (stats.hits, stats.misses, stats.idle, stats.dropped_full) == (0, 3, 0, 3)
    assert pool.locals() == []
