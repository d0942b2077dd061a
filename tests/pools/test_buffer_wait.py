"""BufferPool(when_full=…): what an acquire over max_bytes does."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import poolwise
from poolwise import Buffer, BufferPool

BLOCK = 4096
FOREVER = 60.0  # seconds that no test waits


def pool(when_full: Any, blocks: int = 2, **options: Any) -> BufferPool:
    return BufferPool(
        max_size=BLOCK,
        max_bytes=blocks * BLOCK,
        trim_seconds=None,
        when_full=when_full,
        name="frames",
        **options,
    )


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.001)


def test_raise() -> None:
    buffers = pool("raise")
    out = [buffers.acquire(BLOCK), buffers.acquire(BLOCK)]
    with pytest.raises(
        poolwise.OutOfMemory,
        match=r"acquire\(100\): buffer pool 'frames' is full: 8192 of max_bytes=8192 are out; "
        "release buffers sooner, or raise max_bytes",
    ):
        buffers.acquire(100)
    stats = buffers.stats()
    assert (stats.refused, stats.gets, stats.fallbacks, stats.out) == (1, 2, 0, 2)
    out.pop()
    assert len(buffers.acquire(100)) == 100  # what is idle makes room
    with buffers.acquire(BLOCK + 1):  # is never pooled, and so never full
        assert buffers.stats().fallbacks_too_big == 1


def test_wait_raises_in_the_end() -> None:
    buffers = pool("wait", wait_seconds=0.05)
    out = [buffers.acquire(BLOCK), buffers.acquire(BLOCK)]
    start = time.monotonic()
    with pytest.raises(poolwise.OutOfMemory, match="is full after wait_seconds: 8192 of"):
        buffers.acquire(BLOCK)
    assert time.monotonic() - start >= 0.05
    stats = buffers.stats()
    assert (stats.waits, stats.refused, stats.out) == (1, 1, len(out))


@pytest.mark.parametrize("by", ["release", "last reference", "last view"])
def test_a_release_wakes(by: str) -> None:
    buffers = pool("wait", blocks=1, wait_seconds=FOREVER)
    held: list[Any] = [buffers.acquire(BLOCK)]
    got: list[Buffer] = []
    thread = in_a_thread(lambda: got.append(buffers.acquire(100)))
    until(lambda: buffers.stats().waits == 1)
    if by == "release":
        held[0].release()
    if by == "last view":
        held[0] = memoryview(held[0])
    held.clear()
    thread.join(FOREVER)
    assert len(got[0]) == 100
    assert buffers.stats().refused == 0


def test_many_wait_and_all_are_served() -> None:
    buffers = pool("wait", blocks=2, wait_seconds=FOREVER)
    done: list[int] = []

    def work(mark: int) -> None:
        for step in range(200):
            with buffers.acquire((step * 97 + mark) % BLOCK + 1) as buffer:
                view = memoryview(buffer)
                view[0] = mark
                if step % 10 == 0:
                    time.sleep(0)
                assert view[0] == mark
                view.release()
        done.append(mark)

    threads = [in_a_thread(lambda mark=mark: work(mark)) for mark in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join(FOREVER)
    stats = buffers.stats()
    assert len(done) == 8
    assert (stats.gets, stats.out, stats.refused, stats.fallbacks) == (1600, 0, 0, 0)


def test_nobody_waits_for_long_after_a_wait() -> None:
    """The careful path of releases ends with the last waiter: hits stay hits."""
    buffers = pool("wait", wait_seconds=0.01)
    out = [buffers.acquire(BLOCK), buffers.acquire(BLOCK)]
    with pytest.raises(poolwise.OutOfMemory):
        buffers.acquire(1)
    out.clear()
    for _ in range(100):
        buffers.acquire(BLOCK).release()
    assert buffers.stats().hits == 100


def test_a_close_ends_the_wait() -> None:
    buffers = pool("wait", blocks=1, wait_seconds=FOREVER)
    keep = buffers.acquire(BLOCK)
    errors: list[Exception] = []

    def work() -> None:
        try:
            buffers.acquire(1)
        except Exception as error:
            errors.append(error)

    thread = in_a_thread(work)
    until(lambda: buffers.stats().waits == 1)
    buffers.close()
    thread.join(FOREVER)
    assert isinstance(errors[0], poolwise.PoolClosed)
    keep.release()


def test_a_signal_ends_the_wait() -> None:
    class Enough(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise Enough

    buffers = pool("wait", blocks=1, wait_seconds=FOREVER)
    keep = buffers.acquire(BLOCK)
    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until(lambda: buffers.stats().waits == 1)
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = in_a_thread(interrupt)
    try:
        with pytest.raises(Enough):
            buffers.acquire(1)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    keep.release()
    assert len(buffers.acquire(BLOCK)) == BLOCK


def fill_the_stack(depth: int) -> int:
    return depth and max(map(fill_the_stack, [depth - 1]))


def test_a_child_knows_no_waiter_of_its_parent() -> None:
    buffers = pool("wait", blocks=1, wait_seconds=FOREVER)
    keep = buffers.acquire(BLOCK)
    thread = in_a_thread(lambda: buffers.acquire(1))
    until(lambda: buffers.stats().waits == 1)
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        for _ in range(3):  # on the stacks of the threads that are no more
            in_a_thread(lambda: fill_the_stack(50)).join()
        keep.release()
        again = buffers.acquire(BLOCK)
        other = threading.Timer(0.02, again.release)
        other.start()
        os._exit(0 if len(buffers.acquire(BLOCK)) == BLOCK else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    keep.release()
    thread.join(FOREVER)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"when_full": "panic"}, "when_full='panic' is no policy: give 'fallback', 'raise' or"),
        ({"when_full": "wait"}, "when_full='wait' has no bound: give wait_seconds="),
        ({"wait_seconds": 1}, "wait_seconds= is for when_full='wait'"),
        ({"when_full": "wait", "wait_seconds": 0}, "wait_seconds=0 is no period"),
        ({"when_full": "wait", "wait_seconds": float("nan")}, "wait_seconds=nan is no period"),
    ],
)
def test_bad_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(poolwise.UsageError, match=message):
        BufferPool(max_size=BLOCK, max_bytes=BLOCK, **arguments)
