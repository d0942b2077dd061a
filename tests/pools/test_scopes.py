"""`with poolwise.statistics()`: what one block of code did, counted as by hand."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import poolwise
from poolwise import BufferPool, Pool


class Thing:
    pass


def new_pool(**options: Any) -> Pool[Thing]:
    return Pool(Thing, trim=None, checks="off", **options)


def counts(scope: poolwise.statistics) -> tuple[int, int, int, int]:
    return scope.gets, scope.hits, scope.misses, scope.puts


def turn(pool: Pool[Thing], times: int) -> None:
    """From an idle object on: each get is a hit."""
    for _ in range(times):
        thing = pool.get()
        pool.put(thing)
        del thing


def test_a_block_is_counted_and_nothing_else() -> None:
    pool = new_pool()
    turn(pool, 5)
    with poolwise.statistics() as scope:
        turn(pool, 3)
        things = [pool.get() for _ in range(4)]
    turn(pool, 7)
    assert counts(scope) == (7, 4, 3, 3)
    assert scope.hit_rate == 4 / 7
    assert len(things) == 4


def test_an_empty_block() -> None:
    with poolwise.statistics() as scope:
        pass
    assert counts(scope) == (0, 0, 0, 0)
    assert (scope.hit_rate, scope.fallbacks) == (0.0, 0)
    assert repr(scope) == "<poolwise.statistics: 0 gets, 0 hits, 0 puts>"


def test_an_outer_scope_counts_what_its_inner_ones_do() -> None:
    pool = new_pool()
    with poolwise.statistics() as outer:
        turn(pool, 2)
        with poolwise.statistics() as inner:
            turn(pool, 3)
            with poolwise.statistics() as innermost:
                turn(pool, 4)
        turn(pool, 5)
    assert [scope.gets for scope in (outer, inner, innermost)] == [14, 7, 4]
    assert [scope.puts for scope in (outer, inner, innermost)] == [14, 7, 4]
    assert outer.misses == 1


def test_a_scope_may_be_opened_again_and_goes_on_counting() -> None:
    pool = new_pool()
    scope = poolwise.statistics()
    for _ in range(3):
        with scope:
            turn(pool, 2)
        turn(pool, 1)
    assert scope.gets == 6


@pytest.mark.parametrize("size", [100, 5000])
def test_buffers_and_their_fallbacks(size: int) -> None:
    buffers = BufferPool(max_size=4096, max_bytes=8192, trim_seconds=None)
    with poolwise.statistics() as scope:
        for _ in range(3):
            buffers.acquire(size).release()
    if size <= 4096:
        assert counts(scope)[:3] == (3, 2, 1)
        assert scope.fallbacks == 0
    else:
        assert counts(scope)[:3] == (3, 0, 3)
        assert scope.fallbacks == 3


def test_what_fails_is_counted_where_the_pool_counts_it() -> None:
    def reset(thing: Thing) -> bool:
        if refuse:
            return False
        raise LookupError

    def factory() -> Thing:
        raise OSError

    pool, broken = new_pool(reset=reset), Pool(factory, trim=None, checks="off")
    with poolwise.statistics() as scope:
        refuse = True
        pool.put(pool.get())
        refuse = False
        with pytest.raises(LookupError):
            pool.put(pool.get())
        with pytest.raises(OSError):
            broken.get()
        with pytest.raises(poolwise.ForeignPut):
            pool.put(None)  # type: ignore[arg-type]
    stats = pool.stats()
    assert counts(scope) == (2, 0, 2, 2) == (stats.gets, stats.hits, stats.misses, stats.puts)


def test_leases_count() -> None:
    pool = new_pool()
    with poolwise.statistics() as scope, pool.lease(), pool.lease():
        pass
    assert counts(scope) == (2, 0, 2, 2)


# ---- whose block


def test_other_threads_are_not_counted() -> None:
    pool, started, go = new_pool(), threading.Barrier(3), threading.Event()
    seen: dict[int, int] = {}

    def work(times: int) -> None:
        with poolwise.statistics() as mine:
            started.wait()
            go.wait()
            turn(pool, times)
        seen[times] = mine.gets

    threads = [threading.Thread(target=work, args=(times,)) for times in (300, 500)]
    for thread in threads:
        thread.start()
    with poolwise.statistics() as scope:
        started.wait()
        go.set()
        turn(pool, 100)
        for thread in threads:
            thread.join()
    assert scope.gets == scope.puts == 100
    assert seen == {300: 300, 500: 500}


def test_a_thread_that_was_given_the_context_is_counted() -> None:
    pool = new_pool()
    with poolwise.statistics() as scope:
        contexts = [contextvars.copy_context() for _ in range(4)]
        threads = [
            threading.Thread(target=context.run, args=(turn, pool, 1000)) for context in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert scope.gets == scope.puts == 4000


def test_tasks_that_take_turns_are_each_counted_alone() -> None:
    pool = new_pool()

    async def task(times: int) -> tuple[int, int]:
        with poolwise.statistics() as mine:
            for _ in range(times):
                turn(pool, 1)
                await asyncio.sleep(0)
        return mine.gets, mine.puts

    async def main() -> list[tuple[int, int]]:
        return await asyncio.gather(*(task(times) for times in (1, 20, 7)))

    with poolwise.statistics() as scope:
        assert asyncio.run(main()) == [(1, 1), (20, 20), (7, 7)]
        turn(pool, 2)
    assert scope.gets == 30  # a task has a copy of the context that started it


def test_a_task_started_before_the_block_is_not_counted() -> None:
    pool = new_pool()

    async def beside(stop: asyncio.Event) -> None:
        while not stop.is_set():
            turn(pool, 1)
            await asyncio.sleep(0)

    async def main() -> int:
        stop = asyncio.Event()
        runs = asyncio.create_task(beside(stop))
        await asyncio.sleep(0)
        with poolwise.statistics() as scope:
            for _ in range(10):
                turn(pool, 1)
                await asyncio.sleep(0)
        stop.set()
        await runs
        return scope.gets

    assert asyncio.run(main()) == 10
    assert pool.stats().gets > 15


def test_a_generator_shares_its_callers_context() -> None:
    """As contextvars do: a scope that a generator holds open counts its caller as well."""
    pool = new_pool()

    def steps() -> Iterator[poolwise.statistics]:
        with poolwise.statistics() as scope:
            while True:
                turn(pool, 1)
                yield scope

    generator = steps()
    scope = next(generator)
    turn(pool, 10)
    next(generator)
    assert scope.gets == 12
    generator.close()
    turn(pool, 10)
    assert scope.gets == 12


# ---- misuse


def test_two_open_doors_of_one_scope() -> None:
    scope = poolwise.statistics()
    with scope, pytest.raises(poolwise.UsageError, match="is open: make another"), scope:
        pass
    with pytest.raises(poolwise.UsageError, match="is not open: use it in a with statement"):
        scope.__exit__(None, None, None)


def test_a_scope_left_in_another_context_counts_no_more() -> None:
    pool = new_pool()
    scope = poolwise.statistics()
    other = contextvars.copy_context()
    other.run(scope.__enter__)
    other.run(turn, pool, 3)
    with pytest.raises(ValueError, match=re.escape("was created in a different Context")):
        scope.__exit__(None, None, None)
    with pytest.raises(poolwise.UsageError, match="is not open"):
        scope.__exit__(None, None, None)
    other.run(turn, pool, 3)
    turn(pool, 3)
    assert scope.gets == 3


def test_an_inner_scope_outlives_its_outer() -> None:
    """Left in the wrong order: each counts what was done while both it and it alone were open."""
    pool = new_pool()
    outer, inner = poolwise.statistics(), poolwise.statistics()
    context = contextvars.copy_context()
    context.run(outer.__enter__)
    context.run(inner.__enter__)
    context.run(turn, pool, 1)
    context.run(outer.__exit__, None, None, None)
    context.run(turn, pool, 1)
    context.run(inner.__exit__, None, None, None)
    context.run(turn, pool, 1)
    assert (outer.gets, inner.gets) == (1, 1)


def test_a_scope_that_is_never_left_ends_with_its_context() -> None:
    pool = new_pool()
    for _ in range(50):
        contextvars.copy_context().run(poolwise.statistics().__enter__)
    gc.collect()
    with poolwise.statistics() as scope:
        turn(pool, 2)
    assert counts(scope) == (2, 1, 1, 2)


def test_the_hot_path_comes_back_when_all_scopes_are_left() -> None:
    """Hits take the short way while no scope is open: what is dropped must count down too."""
    before = poolwise.statistics._open()
    with poolwise.statistics():
        # Entered in a context of its own, of which this one is not part.
        context = contextvars.copy_context()
        context.run(poolwise.statistics().__enter__)
        assert poolwise.statistics._open() == before + 2
    assert poolwise.statistics._open() == before + 1
    del context
    gc.collect()
    assert poolwise.statistics._open() == before


@pytest.mark.parametrize("seed", range(20))
def test_any_nesting_with_failures_counts_as_by_hand(seed: int) -> None:
    chance, pool = random.Random(seed), new_pool()

    class Stop(Exception):
        pass

    def block(depth: int) -> int:
        """How many gets were made inside."""
        made = 0
        with poolwise.statistics() as scope:
            for _ in range(chance.randrange(6)):
                if depth < 5 and chance.random() < 0.5:
                    try:
                        made += block(depth + 1)
                    except Stop as stop:
                        made += stop.args[0]
                else:
                    turn(pool, 1)
                    made += 1
        assert scope.gets == scope.puts == made
        if chance.random() < 0.3:
            raise Stop(made)
        return made

    with poolwise.statistics() as outermost:
        total = 0
        for _ in range(10):
            try:
                total += block(0)
            except Stop as stop:
                total += stop.args[0]
    assert outermost.gets == total == pool.stats().gets
