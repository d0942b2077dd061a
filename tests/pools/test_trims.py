"""What each trim policy drops, who called for it, and how it is graded."""

from __future__ import annotations

import re
from typing import Any

import pytest

import poolwise
from poolwise import Pool


class Thing:
    pass


def filled(idle: int, **options: Any) -> Pool[Thing]:
    pool: Pool[Thing] = Pool(Thing, trim_seconds=None, **options)
    things = [pool.get() for _ in range(idle)]
    while things:
        pool.put(things.pop())
    return pool


def use(pool: Pool[Thing], at_once: int) -> None:
    things = [pool.get() for _ in range(at_once)]
    while things:
        pool.put(things.pop())


def test_demand_drops_half_of_what_nobody_needed() -> None:
    pool = filled(100)
    pool.trim()
    use(pool, 20)
    before = pool.stats().idle
    assert pool.trim() == (before - 20 + 1) // 2
    use(pool, 20)
    assert pool.stats().regret == 0


def test_aged_drops_what_was_idle_for_max_age_trims() -> None:
    pool = filled(50, trim="aged", max_age=3)
    use(pool, 50)
    pool.trim()  # all were out in the period that ends here
    for _ in range(2):
        use(pool, 10)
        assert pool.trim() == 0
    use(pool, 10)
    assert pool.trim() == 40
    use(pool, 10)
    assert pool.trim() == 0
    assert pool.stats().idle == 10


def test_a_use_makes_aged_wait_anew() -> None:
    pool = filled(50, trim="aged", max_age=3)
    use(pool, 50)
    pool.trim()
    for _ in range(10):
        for _ in range(2):
            use(pool, 1)
            assert pool.trim() == 0
        use(pool, 50)
        assert pool.trim() == 0
    assert pool.stats().idle == 50


def test_victim_drops_at_the_second_trim_and_serves_in_between() -> None:
    pool = filled(20, trim="victim")
    assert pool.trim() == 0
    assert pool.stats().idle_victim == 20
    use(pool, 5)
    assert pool.stats().hits_victim == 5
    assert pool.stats().misses == 20
    assert pool.trim() == 15
    assert pool.stats().idle == 5


def test_clear_drops_all() -> None:
    pool = filled(20, trim="clear")
    assert pool.trim() == 20
    assert pool.stats().idle == 0
    assert pool.stats().dropped_trimmed == 20


@pytest.mark.parametrize("policy", ["demand", "victim", "aged", "clear"])
def test_trims_count_their_reason(policy: Any) -> None:
    pool = filled(10, trim=policy, max_age=1)
    dropped = {reason: pool.trim(reason) for reason in ("timer", "collection", "pressure", "call")}
    stats = pool.stats()
    assert stats.trims_by_reason == {"timer": 1, "collection": 1, "pressure": 1, "call": 1}
    assert stats.evictions_by_reason == dropped
    assert stats.trims == 4
    assert stats.dropped_trimmed == sum(dropped.values()) > 0


def test_what_is_made_anew_after_a_trim_is_regretted() -> None:
    pool = filled(10, trim="clear")
    pool.trim()
    use(pool, 4)
    assert pool.stats().regret == 4
    use(pool, 30)
    assert pool.stats().regret == 10  # no more than the trim had dropped
    pool.trim()
    pool.trim()  # the next period: nothing was dropped in it
    use(pool, 5)
    assert pool.stats().regret == 10


def test_what_lies_idle_from_trim_to_trim_is_waste() -> None:
    pool = filled(10, trim="aged", max_age=100)
    pool.trim()
    before = pool.stats().waste
    pool.trim()
    assert pool.stats().waste - before == 10
    use(pool, 7)
    pool.trim()
    assert pool.stats().waste - before == 13  # three lay there all the time


def test_the_newest_comes_first_after_a_trim_too() -> None:
    pool = filled(0, trim="aged", max_age=100)
    things = [pool.get() for _ in range(30)]
    order = [id(thing) for thing in things]
    while things:
        pool.put(things.pop(0))
    pool.trim()
    pool.trim()
    again = [pool.get() for _ in range(30)]
    assert [id(thing) for thing in again] == order[::-1]


def test_levels_add_up_over_private_shared_and_depot() -> None:
    pool = filled(30)
    use(pool, 30)
    pool.trim()
    use(pool, 8)
    stats = pool.stats()
    assert stats.idle == stats.idle_private + stats.idle_shared + stats.idle_depot
    assert stats.idle_depot > 0
    assert sum(local.idle for local in pool.locals()) == stats.idle_private + stats.idle_shared
    assert stats.hits == stats.gets - stats.misses
    assert pool._check()


def test_one_local_with_the_gil() -> None:
    pool = filled(3)
    (local,) = pool.locals()
    assert (local.owned, local.idle_private, local.idle_shared) == (True, 2, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"trim": "sometimes"}, "trim='sometimes' is no policy"),
        ({"trim": 3}, "trim=3 is no policy"),
        ({"max_age": 0}, "max_age=0 is no age"),
        ({"max_age": 10**30}, "is no age"),
        ({"max_age": "old"}, "max_age='old' is no age"),
    ],
)
def test_settings_that_do_not_exist(options: Any, sentence: str) -> None:
    with pytest.raises(poolwise.UsageError, match=re.escape(sentence)):
        Pool(Thing, **options)


@pytest.mark.parametrize("arguments", [("noon",), (3,), ("call", "call")])
def test_reasons_that_do_not_exist(arguments: Any) -> None:
    pool = filled(1)
    with pytest.raises(poolwise.UsageError, match="no such reason"):
        pool.trim(*arguments)
    assert pool.stats().trims == 0
