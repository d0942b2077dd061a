"""BufferPool against a twin that is a plain dict: every operation and setting, in any order."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

import poolwise
from poolwise import Buffer, BufferPool

MAX_SIZE, MAX_BYTES, LARGEST_CLASS = 20_000, 100_000, 20_480
CLASSES = [None, [64, 3000, 3001, 4160, 9000], [1], list(range(4096, 20_000, 4096))]


class OneView(RuleBasedStateMachine):
    """Each block has one buffer; contents survive as long as a view; the budget holds."""

    buffers = Bundle("buffers")

    @initialize(
        clear=st.sampled_from(["never", "acquire", "release"]),
        checks=st.sampled_from(["off", "sample", "strict"]),
        when_full=st.sampled_from(["fallback", "raise", "wait"]),
        classes=st.sampled_from(CLASSES),
        huge_pages=st.booleans(),
    )
    def start(self, when_full: Any, **options: Any) -> None:
        self.pool = BufferPool(
            max_size=MAX_SIZE,
            max_bytes=MAX_BYTES,
            trim_seconds=None,
            when_full=when_full,
            wait_seconds=1e-6 if when_full == "wait" else None,
            **options,
        )
        self.when_full = when_full
        self.cleared = options["clear"] != "never"
        self.live: dict[int, tuple[memoryview, int]] = {}
        self.next_mark = 0
        self.uses_known = True
        self.gets = self.refused = self.told = self.asked = self.used = 0

    def adopt(self, size: int) -> int | None:
        out = self.pool.stats().out_bytes
        try:
            buffer = self.pool.acquire(size)
        except poolwise.OutOfMemory:
            assert self.when_full != "fallback"
            assert out + LARGEST_CLASS > MAX_BYTES, "there was room"
            self.refused += 1
            return None
        self.gets += 1
        self.next_mark += 1
        view = memoryview(buffer)
        assert len(view) == len(buffer) == buffer.used == size
        if self.cleared:
            assert bytes(view) == bytes(size)
        view[:] = bytes([self.next_mark % 251]) * size
        self.live[self.next_mark] = (view, self.next_mark % 251)
        return self.next_mark

    @rule(
        target=buffers,
        sizes=st.lists(
            st.one_of(st.integers(0, 30_000), st.sampled_from([64, 4096, 4097])), max_size=6
        ),
    )
    def acquire(self, sizes: list[int]):  # type: ignore[no-untyped-def]
        marks = [self.adopt(size) for size in sizes]
        return multiple(*[mark for mark in marks if mark is not None])

    @rule(mark=consumes(buffers))
    def drop(self, mark: int) -> None:
        self.check(mark)
        del self.live[mark]

    def release_one(self, mark: int) -> None:
        view, _ = self.live.pop(mark)
        buffer = view.obj
        view.release()
        buffer.release()
        assert buffer.released

    @rule(mark=consumes(buffers))
    def release(self, mark: int) -> None:
        self.release_one(mark)

    @rule(mark=consumes(buffers), part=st.floats(0, 1))
    def release_used(self, mark: int, part: float) -> None:
        buffer: Buffer = self.live[mark][0].obj
        pooled = len(buffer) <= MAX_SIZE and self.pool.stats().fallback_bytes == 0
        buffer.used = int(part * len(buffer))
        if pooled:
            self.told += 1
            self.asked += len(buffer)
            self.used += buffer.used
        else:
            self.uses_known = False  # whether it counts depends on where it came from
        self.release_one(mark)

    @rule(size=st.integers(0, 6000), times=st.sampled_from([1, 130]))
    def many_pairs(self, size: int, times: int) -> None:
        for _ in range(times):
            mark = self.adopt(size)
            if mark is not None:
                self.release_one(mark)

    @rule(mark=buffers)
    def check(self, mark: int) -> None:
        view, byte = self.live[mark]
        assert bytes(view) == bytes([byte]) * len(view)

    @rule()
    def trim(self) -> None:
        assert self.pool.trim() >= 0

    @rule()
    def clear_idle(self) -> None:
        self.pool.clear()
        assert self.pool.stats().idle == 0

    @invariant()
    def counters_add_up(self) -> None:
        stats = self.pool.stats()
        assert stats.gets == stats.hits + stats.misses == self.gets
        assert stats.refused == self.refused
        assert stats.corrupted == 0
        assert stats.out == len(self.live)
        assert stats.idle_bytes + stats.out_bytes <= MAX_BYTES
        assert stats.out_bytes + stats.fallback_bytes >= sum(
            len(view) for view, _ in self.live.values()
        )
        assert stats.high_water >= stats.out
        assert stats.idle_bytes == sum(one.idle * one.capacity for one in stats.classes)
        assert stats.out_bytes == sum(one.out * one.capacity for one in stats.classes)
        assert all(low.capacity < high.capacity for low, high in itertools.pairwise(stats.classes))
        if self.when_full != "fallback":
            assert stats.fallbacks_over_budget == 0
        if self.uses_known:
            told = [(one.leases_told, one.asked_bytes, one.used_bytes) for one in stats.classes]
            assert [sum(column) for column in zip(*told, strict=True)] in (
                [self.told, self.asked, self.used],
                [],
            )


TestOneView = OneView.TestCase
