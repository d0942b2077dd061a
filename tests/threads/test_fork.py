"""Forks while other threads get, put, trim and clear: the child's pools are whole and its own.

The threads call neither stats() nor print(): without the GIL (3.13) the interpreter's own locks, of
its interned strings for one, may stay locked in a child, as any lock that the fork met.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WORK = """
import os, random, signal, threading, time, poolwise

class Thing:
    owner = None

def work(seed):
    chance = random.Random(seed)
    hand, out = [], []
    while not stop:
        choice = chance.randrange(100)
        if choice < 40:
            thing = pool.get()
            assert thing.owner is None
            thing.owner = seed
            hand.append(thing)
            del thing
        elif choice < 85 and hand:
            thing = hand.pop()
            thing.owner = None
            pool.put(thing)
            del thing
        elif choice < 90:
            pool.trim()
        elif choice < 91:
            pool.clear()
        elif not WITH_BUFFERS:
            out.clear()
        elif choice < 95:
            out.append(buffers.acquire(chance.randrange(20_000)))
        else:
            out.clear()
            buffers.trim()
        del hand[20:]

def prove_the_child():
    signal.alarm(20)  # it would wait for a lock that nobody will release
    mine = [pool.get() for _ in range(300)]
    assert len(set(map(id, mine))) == 300
    assert all(thing.owner is None for thing in mine), "an object of a thread that the fork left"
    for thing in mine:
        thing.owner = "child"
    for _ in range(3):
        pool.trim()
    while mine:
        mine.pop().owner = None
        pool.put(pool.get())
    sizes = range(1, 20_000, 500) if WITH_BUFFERS else []
    lent = [memoryview(buffers.acquire(size)) for size in sizes]
    for number, view in enumerate(lent):
        view[:] = bytes([number]) * len(view)
    assert all(bytes(view) == bytes([number]) * len(view) for number, view in enumerate(lent))
    lent = view = None
    if WITH_BUFFERS:
        buffers.trim()
    for thread in [threading.Thread(target=lambda: pool.put(pool.get())) for _ in range(3)]:
        thread.start()
        thread.join()
    pool.clear()
    stats = pool.stats()
    assert pool._check() and stats.gets == stats.hits + stats.misses

stop = []
pool = poolwise.Pool(Thing, trim=POLICY, trim_seconds=0.002)
buffers = poolwise.BufferPool(max_size=1 << 14, max_bytes=1 << 22, trim_seconds=0.002)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
for thread in threads:
    thread.start()
for _ in range(20):
    time.sleep(0.002)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            prove_the_child()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        print("a child of fork ended with", status, flush=True)
        os._exit(1)
    pool.put(pool.get())
stop.append(True)
for thread in threads:
    thread.join()
stats = pool.stats()
assert pool._check() and stats.gets == stats.hits + stats.misses
"""


@pytest.mark.parametrize("policy", ["demand", "victim", "aged", "clear"])
def test_fork_while_other_threads_hold_put_and_trim(run_python: Run, policy: str) -> None:
    run_python(
        f"POLICY, WITH_BUFFERS = {policy!r}, False\n{WORK}", "-W", "ignore::DeprecationWarning"
    )


def test_fork_while_other_threads_use_buffers(run_python: Run) -> None:
    run_python(f"POLICY, WITH_BUFFERS = 'demand', True\n{WORK}", "-W", "ignore::DeprecationWarning")


def test_a_child_of_a_thread_that_is_not_the_first(run_python: Run) -> None:
    """The forking thread keeps its own part of the pool; the first thread's is the dead's."""
    run_python(
        """
        import os, threading, poolwise

        class Thing: pass

        pool = poolwise.Pool(Thing, trim=None)
        things = [pool.get() for _ in range(10)]
        while things:
            pool.put(things.pop())

        def forks():
            pool.put(Thing())
            child = os.fork()
            if child == 0:
                things = [pool.get() for _ in range(11)]
                stats = pool.stats()
                os._exit(0 if (stats.misses, stats.hits, stats.idle) == (10, 11, 0) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

        thread = threading.Thread(target=forks)
        thread.start()
        thread.join()
        """,
        "-W",
        "ignore::DeprecationWarning",
    )
