"""Other profilers in the same process, and stacks that are not one thread's one stack.

What a site has is counted exactly: nothing lost, nothing twice, no wrong line. (Where a program
imports much, blocks of 20,000 bytes are sampled all the same, and of the import little.)
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from sampled_programs import Record

needs_memray = pytest.mark.skipif(find_spec("memray") is None, reason="memray is not installed")
needs_greenlet = pytest.mark.skipif(
    find_spec("greenlet") is None, reason="greenlet is not installed"
)
own_gil = pytest.mark.skipif(sys.version_info < (3, 12), reason="own GIL from 3.12 on")

# Starts and ends its own recording, in an order of its own.
BY_HAND = """
import os
from poolwise.profile import child
child.stop()
{0}
"""

MEMRAY = """
import memray, os
def tracker(name):
    path = os.path.join(os.environ["RECORDING"], name + ".bin")
    return memray.Tracker(path, trace_python_allocators={python})
"""


@needs_memray
@pytest.mark.parametrize("python", [False, True], ids=["malloc", "with objects"])
def test_memray_after_us(record: Record, python: bool) -> None:
    run = record(
        MEMRAY.format(python=python)
        + """
for i in range(100):
    block = bytes(20_000)  # before
with tracker("one"):
    for i in range(100):
        block = bytes(20_000)  # inside
with tracker("two"):
    kept = [bytes(20_000) for i in range(100)]  # kept
del kept
for i in range(100):
    block = bytes(20_000)  # after
""",
        mean_bytes=10_000,
        per_second=1e12,
    )
    for line in ("before", "inside", "after", "kept"):
        site = run.site(line, least=20_000)
        assert round(site.count) == 100
        assert sum(s.death_ns is not None for s in site.samples) >= 99
    assert run.recording.summary is not None
    assert run.recording.summary.finished
    assert (run.directory / "two.bin").stat().st_size > 1000


@needs_memray
@pytest.mark.parametrize("python", [False, True], ids=["malloc", "with objects"])
def test_memray_before_us_ends_first(record: Record, python: bool) -> None:
    """Its end may take our hooks away: what is lost then is known, and afterwards all is seen."""
    run = record(
        MEMRAY.format(python=python)
        + BY_HAND.format("""
import gc
running = tracker("one")
running.__enter__()
child.start({"dir": os.environ["RECORDING"], "mean_bytes": 10_000, "per_second": 1e12})
for i in range(100):
    block = bytes(20_000)  # inside
running.__exit__(None, None, None)
gc.collect()
for i in range(100):
    block = bytes(20_000)  # after
child.stop()
""")
    )
    for line in ("inside", "after"):
        assert round(run.site(line, least=20_000).count) == 100


@needs_memray
def test_memray_around_us(record: Record) -> None:
    run = record(
        MEMRAY.format(python=True)
        + BY_HAND.format("""
with tracker("one"):
    child.start({"dir": os.environ["RECORDING"], "mean_bytes": 10_000, "per_second": 1e12})
    for i in range(100):
        block = bytes(20_000)  # inside
    child.stop()
for i in range(100):
    block = bytes(20_000)
""")
    )
    assert round(run.site("inside", least=20_000).count) == 100


@pytest.mark.parametrize("frames", [1, 25])
def test_tracemalloc_around_us_and_inside(record: Record, frames: int) -> None:
    run = record(
        "import tracemalloc\n"
        + BY_HAND.format(f"""
tracemalloc.start({frames})
child.start({{"dir": os.environ["RECORDING"], "exact": True}})
for i in range(100):
    block = bytes(3000)  # inside
before = tracemalloc.take_snapshot()
kept = [bytes(3000) for i in range(50)]  # kept
grown = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "lineno"))
print(grown > 150_000)
child.stop()
tracemalloc.stop()
tracemalloc.start()
child.start({{"dir": os.environ["RECORDING"], "exact": True}})
for i in range(100):
    block = bytes(3000)  # again
tracemalloc.stop()
""")
    )
    assert run.stdout == "True\n"
    assert run.site("again", least=3000).count == 100


@needs_greenlet
def test_greenlets(record: Record) -> None:
    """Each switches in the middle of a call; a stack is its own, from its first frame on."""
    run = record(
        """
        import greenlet, threading
        def inner(n):
            block = bytes(3000)  # inner
            main.switch()
            other = bytes(4000)  # other
            return n
        def outer(n):
            for i in range(10):
                inner(n)
        def work():
            global main
            main = greenlet.getcurrent()
            tasks = [greenlet.greenlet(outer) for n in range(20)]
            for turn in range(11):
                for n, task in enumerate(tasks):
                    task.switch(n)
            assert all(task.dead for task in tasks)
        work()
        dropped = greenlet.greenlet(outer)  # never finished: killed when collected
        dropped.switch(0)
        del dropped
        def with_thread():
            work()
        thread = threading.Thread(target=with_thread)
        thread.start(); thread.join()
        """
    )
    inner, other = run.site("inner", least=3000), run.site("other", least=4000)
    assert inner.count == 2 * 200 + 1
    assert other.count == 2 * 200
    read = run.recording
    for sample in (*inner.samples, *other.samples):
        names = [read.code(node).function for node in read.stack(sample.stack)]
        assert names == ["inner", "outer"]


def test_generators_and_async_stacks(record: Record) -> None:
    run = record(
        """
        import asyncio
        def leaf():
            return bytes(3000)  # leaf
        def walk(n):
            yield leaf()
            if n:
                yield from walk(n - 1)
        async def step():
            await asyncio.sleep(0)
            return bytes(4000)  # step
        async def job():
            for i in range(5):
                await step()
        async def main():
            async with asyncio.TaskGroup() as group:
                for i in range(10):
                    group.create_task(job())
            async for block in numbers():
                pass
        async def numbers():
            for i in range(10):
                await asyncio.sleep(0)
                yield bytes(5000)  # numbers
        for block in walk(20):
            pass
        started = walk(3); next(started)
        started.close()
        asyncio.run(main())
        """
    )
    read = run.recording
    leaf = run.site("leaf", least=3000)
    assert leaf.count == 22
    depths = sorted(
        sum(read.code(node).function == "walk" for node in read.stack(sample.stack))
        for sample in leaf.samples
    )
    assert depths == sorted([*range(1, 22), 1])
    step = run.site("step", least=4000)
    assert step.count == 50
    for sample in step.samples:
        names = [read.code(node).function for node in read.stack(sample.stack)]
        assert names[:2] == ["step", "job"]  # then the event loop
        assert "main" not in names
    assert run.site("numbers", least=5000).count == 10


def test_threads_that_end_before_their_blocks(record: Record) -> None:
    run = record(
        """
        import threading
        kept = []
        def work():
            kept.append(bytes(3000))  # work
        for turn in range(20):
            threads = [threading.Thread(target=work) for i in range(10)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            if turn % 2: kept.clear()
        """
    )
    site = run.site("work", least=3000)
    assert site.count == 200
    assert site.threads == 200
    assert site.same_thread_share == 0


def test_interpreter_exit(record: Record) -> None:
    """What runs late is recorded as long as the recording is; nothing crashes after it."""
    run = record(
        """
        import atexit, sys, threading, weakref
        class Late:
            def __del__(self):
                self.block = bytes(3000)
        late = [Late() for i in range(10)]
        late[0].me = late
        sys.late = late
        @atexit.register
        def last():  # registered after our own: runs before it
            for i in range(10):
                block = bytes(3000)  # last
        threading.Thread(target=lambda: [bytes(3000) for i in range(10**9)], daemon=True).start()
        """,
        exact=False,
        mean_bytes=1,
        per_second=1e12,
    )
    assert run.recording.summary is not None
    assert run.recording.summary.finished
    assert run.site("last", least=3000).count == pytest.approx(10)


@own_gil
def test_a_sub_interpreters_stack_is_its_own(record: Record) -> None:
    run = record(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        source = '''
        def within():
            for i in range(100):
                block = bytes(3000)
        within()
        '''
        import textwrap
        made = interpreters.create()
        interpreters.run_string(made, textwrap.dedent(source))
        interpreters.destroy(made)
        for i in range(10):
            block = bytes(3000)  # after
        """
    )
    read = run.recording
    functions = [
        [read.code(node).function for node in read.stack(birth.stack)][:2]
        for birth in read.births
        if 3000 < birth.size < 3100
    ]
    assert functions.count(["within", "<module>"]) == 100
    assert run.site("after", least=3000).count == 10
