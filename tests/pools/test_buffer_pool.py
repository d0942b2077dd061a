"""BufferPool: blocks go back with the last view, and stay inside their budget."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import sys
import sysconfig
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import poolwise
from poolwise import Buffer, BufferPool

KIB, MIB = 1 << 10, 1 << 20


def untimed(max_size: int = MIB, max_bytes: int = 16 * MIB, **options: Any) -> BufferPool:
    return BufferPool(max_size=max_size, max_bytes=max_bytes, trim_seconds=None, **options)


def address(buffer: Buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


# ---- buffers


@pytest.mark.parametrize("size", [0, 1, 16, 63, 64, 65, 1000, 4096, 4097, 65536, 65600, MIB])
def test_a_buffer_has_exactly_its_size_and_is_writable(size: int) -> None:
    pool = untimed()
    buffer = pool.acquire(size)
    assert len(buffer) == size
    view = memoryview(buffer)
    assert (view.nbytes, view.readonly, view.format, view.ndim) == (size, False, "B", 1)
    view[:] = b"\xa5" * size
    assert bytes(buffer) == b"\xa5" * size


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("size", [1, 100, 1088, 4096, 5000, 70_000])
def test_alignment(size: int, outside: bool) -> None:
    pool = untimed(max_size=1) if outside else untimed()
    out = [pool.acquire(size) for _ in range(40)]
    boundary = 64 if size < 4096 else 4096
    addresses = sorted(address(buffer) for buffer in out)
    assert all(at % boundary == 0 for at in addresses)
    assert all(high - low >= size for low, high in itertools.pairwise(addresses))


def test_a_block_comes_back_with_the_last_reference() -> None:
    pool = untimed()
    buffer = pool.acquire(1000)
    at = address(buffer)
    again = buffer
    del buffer
    assert pool.stats().out == 1
    del again
    assert pool.stats().out == 0
    assert address(pool.acquire(900)) == at


def test_a_block_comes_back_at_release() -> None:
    pool = untimed()
    buffer = pool.acquire(1000)
    at = address(buffer)
    buffer.release()
    assert buffer.released
    assert address(pool.acquire(1000)) == at


@pytest.mark.parametrize(
    "use",
    [len, bytes, memoryview, lambda b: b.__enter__(), lambda b: np.frombuffer(b, np.uint8)],
)
def test_use_after_release(use: Any) -> None:
    buffer = untimed().acquire(10)
    buffer.release()
    with pytest.raises(poolwise.BufferReleased, match="has been released") as caught:
        use(buffer)
    assert isinstance(caught.value, ValueError)
    buffer.release()  # again is no harm


def test_release_with_views_raises_and_changes_nothing() -> None:
    pool = untimed()
    buffer = pool.acquire(10)
    view = memoryview(buffer)
    part = view[2:4]
    with pytest.raises(poolwise.ViewsAlive, match="still has 1 view;") as caught:
        buffer.release()
    assert isinstance(caught.value, BufferError)
    part[0] = 7
    view.release()
    part.release()
    assert buffer.released is False
    assert bytes(buffer)[2] == 7
    buffer.release()
    assert pool.stats().out == 0


def test_views_keep_the_block() -> None:
    pool = untimed()
    array = np.frombuffer(pool.acquire(80), dtype=np.int64)
    array[:] = 5
    part = array[3:6]
    del array
    others = [np.frombuffer(pool.acquire(80), dtype=np.int64) for _ in range(20)]
    for other in others:
        other[:] = 9
    assert part.tolist() == [5, 5, 5]
    assert pool.stats().out == 21
    del part
    assert pool.stats().out == 20


def mapped_at(at: int) -> bool:
    with open("/proc/self/maps") as file:
        spans = [line.split()[0].split("-") for line in file]
    return any(int(low, 16) <= at < int(high, 16) for low, high in spans)


def test_views_outlive_the_pool() -> None:
    pool = untimed()
    view, idle = memoryview(pool.acquire(100)), pool.acquire(100_000)
    released = pool.acquire(5000)
    released.release()
    at, idle_at = address(view.obj), address(idle)
    del idle
    watcher = weakref.ref(pool)
    del pool
    assert watcher() is None
    assert not mapped_at(idle_at)
    view[:] = b"x" * 100
    assert bytes(view) == b"x" * 100
    assert repr(view.obj) == "<poolwise.Buffer, 100 bytes of 'buffers'>"
    view.obj.__exit__(KeyError)  # nothing happens: it has a view
    del view
    assert not mapped_at(at)
    released.release()  # its pool has no other buffer left
    assert released.released


@pytest.mark.parametrize("outside", [False, True])
def test_buffers_outlive_the_pool(outside: bool) -> None:
    pool = untimed(max_size=1 if outside else MIB)
    out = [pool.acquire(5000) for _ in range(20)]
    at = address(out[0])
    del pool
    for buffer in out[::2]:
        buffer.release()
    assert mapped_at(at) is not outside
    out.clear()
    del buffer
    assert not mapped_at(at)


@pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED") == 1, reason="types count otherwise"
)
@pytest.mark.parametrize("end", ["release", "drop"])
def test_an_orphan_goes_with_its_last_buffer(end: str) -> None:
    before = sys.getrefcount(BufferPool), sys.getrefcount(Buffer)
    for _ in range(50):
        out = [untimed().acquire(100) for _ in range(3)]
        if end == "release":
            for buffer in out:
                buffer.release()
            del buffer
        del out
    assert (sys.getrefcount(BufferPool), sys.getrefcount(Buffer)) == before


def test_the_context_manager_releases() -> None:
    pool = untimed()
    with pool.acquire(10) as buffer:
        assert pool.stats().out == 1
    assert buffer.released
    with pytest.raises(poolwise.ViewsAlive), pool.acquire(10) as buffer:
        view = memoryview(buffer)
    view.release()


def test_an_error_under_way_is_not_hidden_by_a_view() -> None:
    pool = untimed()
    views = []
    with pytest.raises(KeyError), pool.acquire(10) as buffer:
        raise KeyError(views.append(memoryview(buffer)))
    del buffer
    views.clear()
    assert pool.stats().out == 0


def test_readinto_and_friends(tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    with untimed().acquire(4) as buffer, path.open("rb", buffering=0) as file:
        assert file.readinto(buffer) == 4
        assert bytes(buffer) == b"0123"


def test_clear_at_acquire_and_release() -> None:
    for policy in ("acquire", "release"):
        pool = untimed(clear=policy)
        for _ in range(3):
            with pool.acquire(5000) as buffer:
                assert bytes(buffer) == bytes(5000)
                memoryview(buffer)[:] = b"s" * 5000
    pool = untimed()
    with pool.acquire(50) as buffer:
        memoryview(buffer)[:] = b"s" * 50
    assert bytes(pool.acquire(50)) == b"s" * 50


@pytest.mark.parametrize("size", [1, 60, 1000, 4096, 5000])
def test_fallbacks_are_cleared_too(size: int) -> None:
    for policy in ("acquire", "release"):
        pool = untimed(max_size=1, clear=policy)
        for _ in range(3):
            dirty = [untimed(max_size=1).acquire(size) for _ in range(20)]
            for buffer in dirty:
                memoryview(buffer)[:] = b"s" * size
            dirty.clear()
            del buffer
            with pool.acquire(size) as clean:
                assert bytes(clean) == bytes(size)


# ---- the pool


def test_size_classes_waste_little() -> None:
    pool = untimed(max_size=8 * MIB, max_bytes=64 * MIB)
    for power in range(10, 23):
        for size in {1 << power, (1 << power) + 40, (5 << power) // 4, (7 << power) // 4}:
            before = pool.stats().out_bytes
            buffer = pool.acquire(size)
            capacity = pool.stats().out_bytes - before
            page_rounding = 0 if size <= 4096 else 4095
            assert size <= capacity <= size * 1.25 + page_rounding
            if size == (1 << power) + 40 and (size < 4096 or size > 65536):
                assert capacity <= (1 << power) * 1.0626
            del buffer


def test_too_big_is_a_counted_fallback() -> None:
    pool = untimed(max_size=1000)
    with pool.acquire(1001) as buffer:
        memoryview(buffer)[1000] = 1
        stats = pool.stats()
        assert (stats.fallbacks_too_big, stats.out) == (1, 1)
        assert stats.fallback_bytes >= 1001
        assert stats.out_bytes == 0
    assert pool.stats().fallback_bytes == 0
    assert pool.stats().idle == 0


def test_over_budget_trims_other_classes_first() -> None:
    pool = untimed(max_size=64 * KIB, max_bytes=256 * KIB)
    small = [pool.acquire(4 * KIB) for _ in range(64)]
    assert pool.stats().out_bytes == 256 * KIB
    small.clear()
    big = [pool.acquire(64 * KIB) for _ in range(4)]
    stats = pool.stats()
    assert stats.fallbacks == 0
    assert (stats.idle_bytes, stats.out_bytes) == (0, 256 * KIB)
    assert stats.trimmed == 64
    big.append(pool.acquire(64 * KIB))
    stats = pool.stats()
    assert stats.fallbacks_over_budget == 1
    assert stats.out == 5
    assert stats.fallback_bytes == 64 * KIB


def test_the_budget_is_never_exceeded() -> None:
    pool = untimed(max_size=128 * KIB, max_bytes=MIB)
    out = []
    for step in range(2000):
        out.append(pool.acquire((step * 7919) % (128 * KIB)))
        if step % 3 == 0:
            out.pop(step % len(out))
        if len(out) > 60:
            del out[:30]
        stats = pool.stats()
        assert stats.idle_bytes + stats.out_bytes <= stats.max_bytes
        assert stats.out == len(out)


def resident(at: int, size: int) -> int:
    """Pages of [at, at + size) that are in memory."""
    pages = (ctypes.c_ubyte * (size // 4096))()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(size), pages) == 0
    return sum(page & 1 for page in pages)


def test_idle_blocks_stay_resident_until_trimmed() -> None:
    pool = untimed()
    keeper = pool.acquire(MIB)  # the slab stays mapped, so that mincore can be asked
    buffer = pool.acquire(MIB)
    memoryview(buffer)[:] = b"x" * MIB
    at = address(buffer)
    del buffer
    assert resident(at, MIB) == 256
    pool.trim()  # it was out since the last trim
    assert resident(at, MIB) == 256
    assert pool.trim() == MIB
    assert resident(at, MIB) == 0
    again = pool.acquire(MIB)
    assert address(again) == at
    assert bytes(again) == bytes(MIB)
    assert pool.stats().misses == 3
    del keeper


def test_demand_drops_half_of_what_nobody_missed() -> None:
    pool = untimed()
    out = [pool.acquire(4096) for _ in range(100)]
    out.clear()
    assert pool.trim() == 0
    out = [pool.acquire(4096) for _ in range(20)]
    out.clear()
    assert pool.trim() == 40 * 4096
    assert pool.stats().idle == 60


def test_clear_and_close_give_everything_back() -> None:
    pool = untimed()
    out = [pool.acquire(size) for size in (10, 5000, 100_000)]
    idle = pool.acquire(5000)
    idle.release()
    assert pool.clear() == 8192
    with pool:
        pass
    with pytest.raises(poolwise.PoolClosed, match="is closed"):
        pool.acquire(10)
    for buffer in out:
        memoryview(buffer)[0] = 1
    out.clear()
    del buffer
    stats = pool.stats()
    assert (stats.out, stats.idle, stats.out_bytes) == (0, 0, 0)
    pool.close()


def maps() -> int:
    with open("/proc/self/maps") as file:
        return len(file.readlines())


def test_many_blocks_take_few_mappings() -> None:
    before = maps()
    pool = untimed(max_bytes=1 << 30)
    out = [pool.acquire(4096) for _ in range(50_000)]
    assert maps() - before < 300
    out.clear()
    pool.clear()
    assert maps() - before < 10


def test_the_timer_trims() -> None:
    pool = BufferPool(max_size=MIB, max_bytes=4 * MIB, trim_seconds=0.001)
    pool.acquire(MIB).release()
    for _ in range(60_000):
        if pool.stats().trimmed:
            break
        threading.Event().wait(0.001)
    assert pool.stats().idle == 0


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_size": 0}, poolwise.UsageError, "max_size=0 is out of range"),
        ({"max_size": -5}, poolwise.UsageError, "max_size=-5 is out of range"),
        ({"max_size": 1 << 100}, poolwise.UsageError, "is out of range"),
        ({"max_size": (1 << 46) + 1}, poolwise.UsageError, "give 1 to 2**46 bytes"),
        ({"max_size": 1.5}, poolwise.UsageTypeError, "max_size=1.5 is not an int"),
        ({"max_bytes": 0}, poolwise.UsageError, "max_bytes=0 is out of range"),
        (
            {"max_size": 65536, "max_bytes": 4096},
            poolwise.UsageError,
            "max_bytes=4096 cannot hold one block of max_size=65536: raise max_bytes to 65536",
        ),
        ({"clear": "sometimes"}, poolwise.UsageError, "clear='sometimes' is no policy"),
        ({"clear": None}, poolwise.UsageError, "clear=None is no policy"),
        ({"name": b"x"}, poolwise.UsageTypeError, "name=b'x' is not a str"),
        ({"trim_seconds": 0}, poolwise.UsageError, "trim_seconds=0 is no period"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        BufferPool(**{"max_size": 4096, "max_bytes": 65536, **arguments})


def test_a_pool_without_bounds() -> None:
    with pytest.raises(TypeError, match="has no bound"):
        BufferPool()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (-1, poolwise.UsageError, "acquire(-1): a size cannot be negative"),
        (-(1 << 100), poolwise.UsageError, "no block has this size"),
        (1 << 100, poolwise.UsageError, "no block has this size"),
        ((1 << 63) - 1, poolwise.OutOfMemory, "the system has no memory"),
        (1 << 60, MemoryError, "the system has no memory"),
        (1.0, poolwise.UsageTypeError, "acquire(1.0): a size is an int"),
        ("7", TypeError, "acquire('7'): a size is an int"),
        (None, TypeError, "a size is an int"),
    ],
)
def test_bad_sizes(size: Any, error: type[Exception], message: str) -> None:
    pool = untimed()
    with pytest.raises(error, match=re.escape(message)):
        pool.acquire(size)
    assert pool.stats().gets == pool.stats().out == 0


def test_sizes_with_index_and_its_errors() -> None:
    class Size:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __index__(self) -> int:
            if isinstance(self.value, int):
                return self.value
            raise self.value

    pool = untimed()
    assert len(pool.acquire(Size(12))) == 12
    assert len(pool.acquire(np.int64(12))) == 12
    with pytest.raises(ZeroDivisionError):
        pool.acquire(Size(ZeroDivisionError()))


def test_no_other_way_to_a_buffer() -> None:
    with pytest.raises(TypeError, match="cannot create"):
        Buffer()
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (BufferPool,), {})


def test_repr() -> None:
    pool = untimed(name="frames")
    buffer = pool.acquire(1000)
    assert repr(buffer) == "<poolwise.Buffer, 1000 bytes of 'frames'>"
    assert repr(pool) == "<poolwise.BufferPool 'frames', 1024 of 16777216 bytes>"
    buffer.release()
    assert repr(buffer) == "<poolwise.Buffer, released>"


# ---- threads


def test_threads_never_share_a_block() -> None:
    pool = BufferPool(max_size=8192, max_bytes=MIB, trim_seconds=0.002)
    wrong = []

    def work(mark: int) -> None:
        for step in range(3000):
            size = (step * 37 + mark) % 8192 + 1
            buffer = pool.acquire(size)
            view = memoryview(buffer)
            view[0] = view[-1] = mark
            other = pool.acquire(size)
            memoryview(other)[:] = bytes(size)
            if (view[0], view[-1]) != (mark, mark):
                wrong.append(step)
            view.release()
            buffer.release()

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = pool.stats()
    assert not wrong
    assert (stats.gets, stats.out) == (4 * 3000 * 2, 0)


def test_threads_release_one_buffer_at_once() -> None:
    """Its block goes back once, whoever is first."""
    pool = untimed()
    rounds, count = 300, 4
    barrier = threading.Barrier(count)
    shared: list[Buffer] = []

    def work(first: bool) -> None:
        for step in range(rounds):
            if first:
                shared[:] = [pool.acquire(1000 + step)]
            barrier.wait()
            buffer = shared[0]
            try:
                with memoryview(buffer) as view:
                    assert len(view) == 1000 + step
            except poolwise.BufferReleased:
                pass
            with contextlib.suppress(poolwise.BufferReleased):
                buffer.used = 7
            while not buffer.released:
                with contextlib.suppress(poolwise.ViewsAlive):
                    buffer.release()
            del buffer
            barrier.wait()

    threads = [threading.Thread(target=work, args=(mark == 0,)) for mark in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.clear()
    stats = pool.stats()
    assert (stats.gets, stats.out, stats.idle) == (rounds, 0, len(stats.classes))


def holds(at: int, mark: bytes) -> bool:
    """Whether the memory there is mapped, and has what was written to it."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        try:
            return os.pread(memory.fileno(), len(mark), at) == mark
        except OSError:
            return False


def test_threads_drop_an_orphaned_pool() -> None:
    """The last reference and the buffers go in any order, from any thread."""
    for turn in range(200):
        pool = untimed()
        hands = [[pool.acquire(5000) for _ in range(3)] for _ in range(3)]
        at, mark = address(hands[0][0]), f"of turn {turn}, and no other".encode()
        memoryview(hands[0][0])[: len(mark)] = mark
        assert holds(at, mark)
        barrier = threading.Barrier(4)

        def drop(hand: list[Any], barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            hand.clear()

        pools = [pool]
        del pool
        threads = [threading.Thread(target=drop, args=(hand,)) for hand in [*hands, pools]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not holds(at, mark)  # a new thread's stack may lie there now
