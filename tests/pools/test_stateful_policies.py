"""`Pool` beside a model of plain lists, in all its policies: each get and each trim is foretold.

The model says which object the next get gives, whatever somebody holds, weakly or not; what each
put and trim drops, and for which reason; and how each trim is graded.
"""

from __future__ import annotations

import sysconfig
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pool_model import Model

from poolwise import Pool

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Thing:
    born = 0

    def __init__(self) -> None:
        Thing.born += 1
        self.number = Thing.born
        self.answer: bool | None = None  # of reset


class Broken(Exception):
    pass


def reset(thing: Thing) -> bool | None:
    if thing.answer is None:
        raise Broken
    return thing.answer


class Foretold(RuleBasedStateMachine):
    """One pool in one thread; `mine` is what somebody has, `theirs` what he has put and kept."""

    POLICY = "demand"

    @initialize(
        max_idle=st.sampled_from([None, None, 0, 1, 2, 3, 10]),
        max_age=st.integers(1, 4),
        resets=st.booleans(),
    )
    def start(self, max_idle: int | None, max_age: int, resets: bool) -> None:
        self.pool: Pool[Thing] = Pool(
            Thing,
            reset=reset if resets else None,
            max_idle=max_idle,
            trim=self.POLICY,  # type: ignore[arg-type]
            max_age=max_age,
            trim_seconds=None,
            checks="off",
        )
        self.mine: list[Thing] = []
        self.theirs: list[Thing] = []
        self.watches: list[tuple[int, weakref.ref[Thing]]] = []
        tiny = max_idle is not None and max_idle < 2
        self.model = Model(
            self.held_by_others,
            policy=self.POLICY,
            max_age=max_age,
            max_idle=max_idle,
            strict_limit=resets or tiny,
            narrow=FREE and tiny,
        )
        self.resets = resets
        self.out = self.high_water = self.puts = 0

    def held_by_others(self, number: int) -> bool:
        return (
            any(thing.number == number for thing in self.mine)
            or any(thing.number == number for thing in self.theirs)
            or any(watched == number for watched, _ in self.watches)
        )

    def got(self, thing: Thing) -> Thing:
        expected = self.model.get()
        assert thing.number == (Thing.born if expected is None else expected)
        self.out += 1
        thing.answer = True
        if expected is None:
            self.high_water = max(self.high_water, self.out + self.model.idle() + self.aside)
        return thing

    @property
    def aside(self) -> int:
        return len(self.model.aside)

    @rule(count=st.integers(1, 12))
    def get(self, count: int) -> None:
        for _ in range(count):
            self.mine.append(self.got(self.pool.get()))

    def put_one(self, thing: Thing, answer: bool | None = True) -> None:
        thing.answer = answer
        self.puts += 1
        self.out -= 1
        if not self.resets or answer is True:
            self.pool.put(thing)
            self.model.put(thing.number)
        elif answer is None:
            with pytest.raises(Broken):
                self.pool.put(thing)
            self.model.count["dropped_failed"] += 1
        else:
            self.pool.put(thing)
            self.model.count["dropped_rejected"] += 1

    @rule(count=st.integers(1, 12), answer=st.sampled_from([True, True, True, False, None]))
    def put(self, count: int, answer: bool | None) -> None:
        for _ in range(min(count, len(self.mine))):
            self.put_one(self.mine[0], answer)
            del self.mine[0]

    @rule(count=st.integers(1, 40))
    def natural_loop(self, count: int) -> None:
        """The variable still holds the newest at the next get."""
        bound = len(self.theirs)
        for _ in range(count):
            thing = self.got(self.pool.get())
            self.theirs[bound:] = [thing]
            self.put_one(thing)
        del self.theirs[bound:]

    @precondition(lambda self: self.mine)
    @rule(count=st.integers(1, 40))
    def put_and_keep(self, count: int) -> None:
        for _ in range(min(count, len(self.mine))):
            self.theirs.append(self.mine[0])
            self.put_one(self.mine.pop(0))

    @precondition(lambda self: self.theirs)
    @rule(at=st.integers(0))
    def put_again(self, at: int) -> None:
        self.put_one(self.theirs[at % len(self.theirs)])

    @precondition(lambda self: self.theirs)
    @rule(at=st.integers(0), count=st.integers(1, 40))
    def let_go(self, at: int, count: int) -> None:
        at %= len(self.theirs)
        del self.theirs[at : at + count]

    @precondition(lambda self: self.mine)
    @rule(at=st.integers(0))
    def watch(self, at: int) -> None:
        thing = self.mine[at % len(self.mine)]
        self.watches.append((thing.number, weakref.ref(thing)))

    @rule()
    def watch_no_more(self) -> None:
        self.watches.clear()

    @precondition(lambda self: self.mine)
    @rule(at=st.integers(0))
    def lose(self, at: int) -> None:
        del self.mine[at % len(self.mine)]

    @rule(raises=st.booleans())
    def lease(self, raises: bool) -> None:
        lease = self.pool.lease()
        thing = self.got(lease.__enter__())
        self.puts += 1
        self.out -= 1
        if self.resets and raises:
            thing.answer = None
            with pytest.raises(Broken):
                lease.__exit__(None, None, None)
            self.model.count["dropped_failed"] += 1
        else:
            lease.__exit__(None, None, None)
            self.model.put(thing.number)

    @rule()
    def abandon_a_lease(self) -> None:
        lease = self.pool.lease()
        self.got(lease.__enter__())
        del lease
        self.out -= 1
        self.model.count["dropped_abandoned"] += 1

    @rule()
    def trim(self) -> None:
        assert self.pool.trim() == self.model.trim()

    @rule(count=st.integers(2, 6))
    def rest(self, count: int) -> None:
        for _ in range(count):
            assert self.pool.trim() == self.model.trim()

    @rule()
    def clear(self) -> None:
        gone = self.model.clear()
        assert self.pool.clear() == gone
        self.model.count["dropped_cleared"] += gone

    @invariant()
    def levels_and_counters_are_the_models(self) -> None:
        model, stats = self.model, self.pool.stats()
        assert self.pool._check()
        assert (stats.idle_private, stats.idle_shared) == (
            len(model.private),
            len(model.shared.items),
        )
        assert (stats.idle_depot, stats.idle_victim, stats.held) == (
            len(model.depot.items),
            len(model.victim.items),
            self.aside,
        )
        assert (stats.gets, stats.puts, stats.out) == (model.gets, self.puts, self.out)
        assert stats.gets == stats.hits + stats.misses
        for name in (
            "hits_private",
            "hits_shared",
            "hits_depot",
            "hits_held",
            "hits_victim",
            "misses_empty",
            "misses_held",
            "pinned",
            "regret",
            "waste",
            "dropped_cleared",
            "dropped_full",
            "dropped_rejected",
            "dropped_failed",
            "dropped_abandoned",
            "dropped_pinned",
        ):
            assert getattr(stats, name) == model.count[name], name
        assert stats.high_water == self.high_water
        assert (stats.hits_stolen, stats.dropped_unlucky) == (0, 0)
        assert sum(stats.pinned_types.values()) == stats.dropped_pinned
        if model.max_idle is not None:  # two may come round it by the private part, some from aside
            assert stats.idle <= model.max_idle + 2 + 32


class Victim(Foretold):
    POLICY = "victim"


class Aged(Foretold):
    POLICY = "aged"


class Clear(Foretold):
    POLICY = "clear"


for machine in Foretold, Victim, Aged, Clear:
    machine.TestCase.settings = settings(
        max_examples=60, stateful_step_count=60, report_multiple_bugs=False
    )

TestDemand = Foretold.TestCase
TestVictim = Victim.TestCase
TestAged = Aged.TestCase
TestClear = Clear.TestCase
