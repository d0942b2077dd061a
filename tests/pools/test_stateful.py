"""Pool against a twin that is a plain list: every operation, in any order."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from poolwise import Pool


class Thing:
    """What the pool holds; `marks` says who has it."""

    def __init__(self) -> None:
        self.marks: list[int] = []


class OneOwner(RuleBasedStateMachine):
    """Each object has one owner, counters add up, and the structure stays whole."""

    out = Bundle("out")
    kept = Bundle("kept")

    @initialize(limit=st.sampled_from([None, 0, 1, 2, 5, 40]), clears=st.booleans())
    def start(self, limit: int | None, clears: bool) -> None:
        reset = self.reset if clears else None
        self.pool: Pool[Thing] = Pool(Thing, max_idle=limit, reset=reset, trim=None)
        self.limit = limit
        self.gets = self.puts = self.owned = self.resets = 0
        self.clears = clears

    def reset(self, thing: Thing) -> bool:
        self.resets += 1
        return self.resets % 5 != 0

    @rule(target=out)
    def get(self) -> list[Thing]:
        thing = self.pool.get()
        assert not thing.marks, "a second owner"
        thing.marks.append(1)
        self.gets += 1
        self.owned += 1
        return [thing]  # a box, so that the bundle's own reference can be taken away

    @rule(boxes=st.lists(consumes(out), max_size=12))
    def put(self, boxes: list[list[Thing]]) -> None:
        while boxes:
            thing = boxes.pop().pop()
            thing.marks.clear()
            self.pool.put(thing)
            self.puts += 1
            self.owned -= 1

    @rule(target=kept, box=consumes(out))
    def put_and_keep(self, box: list[Thing]) -> list[Thing]:
        """A late reader: while it holds the object, nobody else may get it."""
        thing = box.pop()
        self.pool.put(thing)
        self.puts += 1
        self.owned -= 1
        return [thing]

    @rule(box=consumes(kept))
    def let_go(self, box: list[Thing]) -> None:
        box.pop().marks.clear()

    @rule(box=kept)
    def put_again(self, box: list[Thing]) -> None:
        if box:
            self.pool.put(box[0])
            self.puts += 1

    @rule(box=consumes(out))
    def lose(self, box: list[Thing]) -> None:
        box.clear()
        self.owned -= 1

    @rule()
    def trim(self) -> None:
        before = self.pool.stats().idle
        dropped = self.pool.trim()
        assert 0 <= dropped <= before + self.pool.stats().held + 32

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        stats = self.pool.stats()
        assert stats.idle == stats.held == 0

    @rule()
    def lease(self) -> None:
        with self.pool.lease() as thing:
            assert not thing.marks, "a second owner"
        self.gets += 1
        self.puts += 1

    @invariant()
    def counters_add_up(self) -> None:
        stats = self.pool.stats()
        assert self.pool._check()
        assert (stats.gets, stats.puts) == (self.gets, self.puts)
        assert stats.gets == stats.hits + stats.misses
        dropped = (
            stats.dropped_trimmed
            + stats.dropped_cleared
            + stats.dropped_full
            + stats.dropped_rejected
            + stats.dropped_pinned
        )
        assert stats.idle + stats.held == stats.puts - stats.hits - dropped
        assert stats.high_water >= stats.out
        if self.limit is not None:
            assert stats.idle <= self.limit + stats.held + 32
        assert self.clears or stats.dropped_rejected == 0


TestOneOwner = OneOwner.TestCase
