"""Python code that runs inside an operation of the pool uses the same pool, at every place."""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

import poolwise
from poolwise import BufferPool, Pool

POLICIES = ("demand", "victim", "aged", "clear")


class Meddler:
    """Does something to its pool whenever one of these runs: birth, reset, death."""

    pool: Pool[Any]
    buffers: BufferPool
    chance: random.Random
    depth = 0
    owned: set[int]

    def __init__(self) -> None:
        meddle()

    def __del__(self) -> None:
        meddle()


def reset(thing: Meddler) -> bool:
    meddle()
    return Meddler.chance.random() < 0.9


def get_and_put() -> None:
    thing = Meddler.pool.get()
    assert id(thing) not in Meddler.owned, "a second owner"
    Meddler.owned.add(id(thing))
    meddle()
    Meddler.owned.remove(id(thing))
    Meddler.pool.put(thing)


def lend() -> None:
    with Meddler.pool.lease():
        meddle()


def abandon() -> None:
    Meddler.pool.lease().__enter__()


def count() -> None:
    with poolwise.statistics():
        Meddler.pool.put(Meddler.pool.get())


def meddle() -> None:
    if Meddler.depth > 6:
        return
    Meddler.depth += 1
    doings: list[Callable[[], object]] = [
        get_and_put,
        get_and_put,
        lend,
        abandon,
        count,
        Meddler.pool.trim,
        Meddler.pool.clear,
        Meddler.pool.stats,
        Meddler.pool.locals,
        Meddler.pool._check,
        lambda: Meddler.buffers.acquire(1000),
        Meddler.buffers.trim,
        gc.collect if Meddler.chance.random() < 0.03 else Meddler.pool.get,
    ]
    Meddler.chance.choice(doings)()
    Meddler.depth -= 1


@pytest.mark.parametrize(("policy", "seed"), list(itertools.product(POLICIES, range(2))))
def test_births_resets_and_deaths_that_use_the_pool(policy: Any, seed: int) -> None:
    Meddler.chance, Meddler.depth, Meddler.owned = random.Random(seed), 0, set()
    Meddler.buffers = BufferPool(max_size=1 << 12, max_bytes=1 << 16, trim_seconds=None)
    pool = Meddler.pool = Pool(Meddler, reset=reset, trim=policy, trim_seconds=None, checks="off")
    for _ in range(20):
        out = [pool.get() for _ in range(Meddler.chance.randrange(12))]
        while out:
            pool.put(out.pop())
        pool.trim()
        assert pool._check()
    stats = pool.stats()
    assert stats.gets == stats.hits + stats.misses
    Meddler.depth = 99  # the rest dies in peace
    pool.clear()
    stats = pool.stats()
    assert (stats.idle, stats.held) == (0, 0)
    gc.collect()
    assert sum(type(each) is Meddler for each in gc.get_objects()) == 0


def test_a_factory_and_a_reset_that_end_the_pools_names() -> None:
    """The pool is dropped by the code that it calls."""

    class Thing:
        pass

    def factory() -> Thing:
        box.clear()
        gc.collect()
        return Thing()

    def forget(thing: Thing) -> None:
        box.clear()
        gc.collect()

    box: list[Pool[Thing]] = [Pool(factory, trim=None, checks="off")]
    assert type(box[0].get()) is Thing
    box = [Pool(Thing, reset=forget, trim=None, checks="off")]
    box[0].put(Thing())
    assert box == []


@pytest.mark.parametrize("policy", POLICIES)
def test_pools_in_cycles_with_their_objects_die(policy: Any) -> None:
    class Node:
        def __init__(self) -> None:
            self.pool: Any = None
            self.lease: Any = None

        def __del__(self) -> None:
            dead.append(1)
            if self.pool is None:
                return
            with contextlib.suppress(poolwise.PoolClosed):
                self.pool.put(self.pool.get())

    dead: list[int] = []

    def build() -> None:
        pools = [Pool(Node, trim=policy, trim_seconds=None, checks="off") for _ in range(3)]
        for number, pool in enumerate(pools):
            nodes = [pool.get() for _ in range(10)]
            for node in nodes:
                node.pool = pools[(number + 1) % 3]
            lease = pool.lease()
            held = lease.__enter__()
            held.pool, held.lease = pool, lease
            while nodes:
                pool.put(nodes.pop())
            pool.trim()

    for _ in range(5):
        build()
    for _ in range(4):
        gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Node]
    assert len(dead) >= 5 * 3 * 11
