"""Pool: who gets which object, and why objects leave."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from typing import Any

import pytest

import poolwise
from poolwise import Pool


class Thing:
    """An ordinary class: instances have a dict and can be weakly referenced."""


class Slotted:
    __slots__ = ("other",)


def untimed(factory: Any = Thing, **options: Any) -> Pool[Any]:
    return Pool(factory, trim=None, **options)


# ---- who gets which object


def test_an_object_comes_back_when_nobody_holds_it() -> None:
    pool = untimed()
    thing = pool.get()
    address = id(thing)
    pool.put(thing)
    del thing
    assert id(pool.get()) == address
    assert pool.stats().hits == 1


def test_the_newest_comes_first() -> None:
    pool = untimed()
    things = [pool.get() for _ in range(6)]
    order = [id(thing) for thing in things]
    while things:
        pool.put(things.pop(0))
    again = [pool.get() for _ in range(6)]
    assert [id(thing) for thing in again] == order[::-1]


def test_a_held_object_is_never_handed_out() -> None:
    pool = untimed()
    held = pool.get()
    pool.put(held)
    others = [pool.get() for _ in range(50)]
    assert all(other is not held for other in others)


def test_the_natural_loop_reuses_two_objects() -> None:
    pool = untimed()
    seen = set()
    for _ in range(1000):
        thing = pool.get()
        seen.add(id(thing))
        pool.put(thing)
    assert len(seen) == 2
    assert pool.stats().misses == 2


def test_trims_do_not_disturb_the_natural_loop() -> None:
    pool = untimed()
    for _ in range(100):
        thing = pool.get()
        pool.put(thing)
        pool.trim()
    assert pool.stats().misses == 2


@pytest.mark.parametrize("factory", [Thing, set, lambda: type("Fresh", (), {})])
def test_weakly_referenced_objects_are_never_handed_out(factory: Any) -> None:
    pool = untimed(factory)
    thing = pool.get()
    watcher = weakref.ref(thing)
    pool.put(thing)
    del thing
    others = [pool.get() for _ in range(20)]
    assert watcher() is not None
    assert all(other is not watcher() for other in others)


def test_it_comes_back_when_the_weak_reference_goes() -> None:
    pool = untimed()
    thing = pool.get()
    watcher = weakref.ref(thing)
    address = id(thing)
    pool.put(thing)
    del thing
    other = pool.get()
    assert id(other) != address
    del watcher
    assert id(pool.get()) == address


def test_slots_without_weakref_and_builtins_can_be_pooled() -> None:
    for factory in (Slotted, bytearray, list, dict):
        pool = untimed(factory)
        for _ in range(10):
            thing = pool.get()
            pool.put(thing)
        assert pool.stats().hits == 8


def test_put_twice_makes_no_second_owner() -> None:
    pool = untimed()
    thing = pool.get()
    pool.put(thing)
    pool.put(thing)
    del thing
    out = [pool.get() for _ in range(20)]
    assert len({id(one) for one in out}) == 20
    assert pool._check()


def test_what_was_put_twice_leaves_at_the_third_trim() -> None:
    pool = untimed()
    thing = pool.get()
    for _ in range(5):
        pool.put(thing)
    del thing
    for _ in range(3):
        pool.trim()
    stats = pool.stats()
    assert stats.dropped_pinned == 4
    assert stats.pinned_types == {"Thing": 4}
    pool.get()  # the fifth reference is the only one now
    assert pool.stats().hits == 1
    assert pool.stats().held == 0


def test_pinned_objects_are_dropped_at_the_third_trim_and_named() -> None:
    pool = untimed()
    held = [pool.get() for _ in range(10)]
    for thing in held:
        pool.put(thing)
    pool.trim()
    pool.trim()
    assert pool.stats().dropped_pinned == 0
    assert pool.stats().pinned == 10
    pool.trim()
    assert pool.stats().dropped_pinned == 9
    pool.trim()  # at the first the newest might have been the variable of a running loop
    stats = pool.stats()
    assert stats.dropped_pinned == 10
    assert stats.pinned_types == {"Thing": 10}
    assert stats.idle == stats.held == stats.pinned == 0


def test_an_object_that_holds_itself_does_not_fill_the_pool() -> None:
    class Selfish:
        def __init__(self) -> None:
            self.method = self.method_

        def method_(self) -> None: ...

    pool = untimed(Selfish)
    for _ in range(200):
        pool.put(pool.get())
    stats = pool.stats()
    assert stats.hits == 0
    assert stats.held + stats.idle < 50
    assert stats.pinned_types["Selfish"] == stats.dropped_pinned > 150


def test_an_object_let_go_while_held_aside_is_used_again() -> None:
    pool = untimed()
    things = [pool.get() for _ in range(4)]
    addresses = {id(thing) for thing in things}
    for thing in things:
        pool.put(thing)
    fresh = pool.get()
    assert id(fresh) not in addresses
    assert pool.stats().held > 0
    del things, thing
    assert {id(one) for one in [pool.get() for _ in range(4)]} <= addresses | {id(fresh)}


# ---- reset, limits, trims


def test_reset_runs_at_put() -> None:
    pool: Pool[list[int]] = Pool(list, reset=list.clear, trim=None)
    rows = pool.get()
    rows.append(1)
    pool.put(rows)
    assert rows == []


def test_a_reset_that_returns_false_drops() -> None:
    pool = untimed(list, reset=lambda rows: len(rows) < 3)
    pool.put([1, 2, 3])
    pool.put([1])
    stats = pool.stats()
    assert (stats.dropped_rejected, stats.idle, stats.puts) == (1, 1, 2)


def test_a_reset_that_raises_drops_and_raises() -> None:
    def reset(thing: Thing) -> None:
        raise LookupError("broken")

    pool = untimed(reset=reset)
    thing = pool.get()
    with pytest.raises(LookupError, match="broken"):
        pool.put(thing)
    stats = pool.stats()
    assert (stats.dropped_failed, stats.idle, stats.out) == (1, 0, 0)


def test_a_factory_that_raises_changes_nothing() -> None:
    def factory() -> Thing:
        raise OSError("no device")

    pool = untimed(factory)
    with pytest.raises(OSError, match="no device"):
        pool.get()
    assert pool.stats().gets == 0


def test_factory_and_reset_may_re_enter() -> None:
    depth = 0

    def factory() -> Thing:
        nonlocal depth
        if depth < 3:
            depth += 1
            pool.put(pool.get())
        return Thing()

    def reset(thing: Thing) -> None:
        pool.trim()
        pool.clear()
        pool.stats()

    pool: Pool[Thing] = Pool(factory, reset=reset, trim=None)
    pool.put(pool.get())
    assert pool._check()
    assert pool.stats().out == 0


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 10])
def test_max_idle(limit: int) -> None:
    pool = untimed(max_idle=limit)
    things = [pool.get() for _ in range(12)]
    while things:
        pool.put(things.pop())
    stats = pool.stats()
    assert (stats.idle, stats.dropped_full, stats.out) == (limit, 12 - limit, 0)


def test_demand_drops_half_of_what_nobody_missed() -> None:
    pool = untimed()
    things = [pool.get() for _ in range(100)]
    while things:
        pool.put(things.pop())
    pool.trim()  # they were out at some time since the last trim
    kept = pool.stats().idle
    for _ in range(4):
        in_use = [pool.get() for _ in range(10)]
        while in_use:
            pool.put(in_use.pop())
        before = pool.stats().idle
        dropped = pool.trim()
        assert dropped == (before - 10 + 1) // 2
    assert kept > pool.stats().idle >= 10
    assert pool._check()


def test_an_idle_pool_empties() -> None:
    pool = untimed()
    things = [pool.get() for _ in range(1000)]
    while things:
        pool.put(things.pop())
    for _ in range(12):
        pool.trim()
    stats = pool.stats()
    assert (stats.idle, stats.dropped_trimmed) == (0, 1000)


def test_clear_drops_everything() -> None:
    pool = untimed()
    things = [pool.get() for _ in range(100)]
    watchers = [id(thing) for thing in things]
    while things:
        pool.put(things.pop())
    assert len(watchers) == pool.clear() == pool.stats().dropped_cleared
    assert pool.stats().idle == 0


def test_finalizers_may_re_enter() -> None:
    class Final:
        def __del__(self) -> None:
            if len(born) < 500:  # each new object ends here again
                pool.put(new())
                pool.get()
                pool.stats()

    born: list[int] = []

    def new() -> Final:
        born.append(1)
        return Final()

    pool: Pool[Final] = Pool(new, trim=None)
    things = [pool.get() for _ in range(100)]
    while things:
        pool.put(things.pop())
    for _ in range(5):
        pool.clear()
        pool.trim()
        assert pool._check()


def test_the_timer_trims() -> None:
    gone = threading.Event()

    class Noisy:
        def __del__(self) -> None:
            gone.set()

    pool = Pool(Noisy, trim_seconds=0.001)
    things = [pool.get() for _ in range(4)]
    while things:
        pool.put(things.pop())
    deadline = time.monotonic() + 60
    while not gone.wait(0.01):  # without the GIL an object dies in the thread that made it
        assert time.monotonic() < deadline
    assert pool.stats().dropped_trimmed > 0


def test_the_timer_holds_no_pool() -> None:
    pool = Pool(Thing, trim_seconds=0.001)
    pool.put(pool.get())
    watcher = weakref.ref(pool)
    del pool
    deadline = 10_000
    while watcher() is not None and deadline:
        deadline -= 1  # the thread may be in the middle of a trim
        threading.Event().wait(0.001)
    assert watcher() is None


# ---- leases


def test_a_lease_puts_back() -> None:
    pool = untimed()
    with pool.lease() as thing:
        assert pool.stats().out == 1
        address = id(thing)
    assert pool.stats().out == 0
    del thing
    with pool.lease() as thing:
        assert id(thing) == address


def test_a_lease_puts_back_when_the_block_fails() -> None:
    pool = untimed()
    with pytest.raises(KeyError), pool.lease():
        raise KeyError
    assert pool.stats().out == 0


def test_lease_misuse() -> None:
    pool = untimed()
    lease = pool.lease()
    with pytest.raises(poolwise.LeaseError, match="has not been entered"):
        lease.__exit__(None, None, None)
    with lease, pytest.raises(poolwise.LeaseError, match="has been entered and not left"):
        lease.__enter__()
    with lease:  # once it is left it may be entered again
        pass


def test_an_abandoned_lease_is_counted() -> None:
    pool = untimed()
    lease = pool.lease()
    lease.__enter__()
    del lease
    stats = pool.stats()
    assert (stats.dropped_abandoned, stats.out, stats.puts) == (1, 0, 0)


def test_leases_in_cycles_are_collected() -> None:
    pool = untimed()
    thing = pool.get()
    watcher = weakref.ref(thing)
    del thing
    lease = pool.lease()
    lease.__enter__().lease = lease
    del lease
    gc.collect()
    assert watcher() is None
    assert pool.stats().dropped_abandoned == 1


def test_a_factory_that_enters_its_own_lease() -> None:
    def factory() -> Thing:
        nonlocal entered
        if not entered:
            entered = True
            lease.__enter__()
        return Thing()

    entered = False
    pool = untimed(factory)
    lease = pool.lease()
    with pytest.raises(poolwise.LeaseError, match="own factory"):
        lease.__enter__()


# ---- the collector


def test_a_pool_in_a_cycle_is_collected() -> None:
    pool = untimed()
    thing = pool.get()
    thing.pool = pool
    watcher = weakref.ref(pool)
    pool.put(thing)
    del thing, pool
    gc.collect()
    assert watcher() is None


def test_a_cycle_through_factory_and_reset_is_collected() -> None:
    def build() -> weakref.ref[Pool[Thing]]:
        def reset(thing: Thing) -> None:
            pool.stats()

        pool: Pool[Thing] = Pool(Thing, reset=reset, trim=None)
        pool.put(pool.get())
        return weakref.ref(pool)

    watcher = build()
    gc.collect()
    assert watcher() is None


def test_a_finalizer_may_use_the_pool_it_dies_with() -> None:
    used: list[int] = []

    class Late:
        pool: Pool[Any] | None = None

        def __del__(self) -> None:
            if self.pool is not None:
                self.pool.put(self.pool.get())
                used.append(self.pool.stats().gets)

    pool = untimed(Late)
    late = pool.get()
    late.pool = pool
    pool.put(late)
    del late, pool
    gc.collect()
    assert used == [2]


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factory": 3}, poolwise.UsageTypeError, "factory=3 cannot be called"),
        ({"reset": 3}, poolwise.UsageTypeError, "reset=3 cannot be called"),
        ({"name": 3}, poolwise.UsageTypeError, "name=3 is not a str"),
        ({"max_idle": -1}, poolwise.UsageError, "max_idle=-1 cannot be kept"),
        ({"max_idle": "9"}, poolwise.UsageTypeError, "max_idle='9' is not an int"),
        ({"trim": "often"}, poolwise.UsageError, "trim='often' is no policy"),
        ({"trim": 3}, poolwise.UsageError, "trim=3 is no policy"),
        ({"trim_seconds": 0}, poolwise.UsageError, "trim_seconds=0 is no period"),
        ({"trim_seconds": -1.5}, poolwise.UsageError, "trim_seconds=-1.5 is no period"),
        ({"trim_seconds": float("nan")}, poolwise.UsageError, "trim_seconds=nan is no period"),
        ({"trim_seconds": "x"}, TypeError, "must be real number"),
        ({"colour": 1}, TypeError, "colour"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Pool(**{"factory": Thing, **arguments})


def test_a_pool_without_a_factory() -> None:
    with pytest.raises(TypeError, match="factory"):
        Pool()  # type: ignore[call-arg]


def test_put_none_and_foreign_objects() -> None:
    pool = untimed(name="things")
    with pytest.raises(poolwise.ForeignPut, match="None is not from pool 'things'"):
        pool.put(None)
    thing = pool.get()
    with pytest.raises(poolwise.ForeignPut, match="this str is not from pool 'things'"):
        pool.put("text")
    with pytest.raises(ValueError, match="which makes Thing"):
        pool.put(3)
    pool.put(thing)
    assert pool.stats().puts == 1


def test_a_factory_that_returns_none() -> None:
    with pytest.raises(TypeError, match="returned None"):
        untimed(lambda: None).get()


def test_a_pool_may_be_filled_by_put() -> None:
    pool = untimed()
    pool.put(Thing())
    pool.get()
    assert pool.stats().hits == 1


def test_a_factory_of_several_types() -> None:
    made = iter([Thing, Slotted, list] * 2 + [type(f"T{i}", (), {}) for i in range(40)])
    pool = untimed(lambda: next(made)())
    things = [pool.get() for _ in range(46)]
    while things:
        pool.put(things.pop())
    assert pool.stats().idle == 46
    pool.put("after so many types none is foreign")


def test_immortal_objects_are_never_handed_out() -> None:
    pool = untimed(lambda: ())
    for _ in range(5):
        pool.put(pool.get())
    assert pool.stats().hits == 0


def test_subclassing_is_refused() -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (Pool,), {})


def test_generic_annotations_and_repr() -> None:
    assert Pool[int].__origin__ is Pool  # type: ignore[attr-defined]
    assert repr(untimed(name="a")) == "<poolwise.Pool 'a', 0 idle>"


# ---- threads


def test_threads_never_share_an_object() -> None:
    class Owned:
        owner: int | None = None

    clashes = []

    def work() -> None:
        me = threading.get_ident()
        for _ in range(3000):
            one = pool.get()
            if one.owner is not None:
                clashes.append(one)
            one.owner = me
            two = pool.get()
            if two is one or one.owner != me:
                clashes.append(one)
            one.owner = None
            pool.put(one)
            pool.put(two)

    pool: Pool[Owned] = Pool(Owned, trim_seconds=0.002)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = pool.stats()
    assert not clashes
    assert stats.gets == stats.puts == 4 * 3000 * 2
    assert pool._check()
