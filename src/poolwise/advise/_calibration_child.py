"""What memory costs on this machine: run as a script by `calibrate`, one part a process.

    python _calibration_child.py PART SECONDS

A part is measured in sweeps until SECONDS are over (one sweep at least); each sweep gives one
value for each price. All arms of a difference take turns inside a sweep, a few milliseconds each,
so that a neighbour's noise hits them alike, and all times are CPU seconds of this thread. The
arms may share a process because nothing in it is history: the thresholds are set outright before
each arm, and the page faults of each arm are counted and checked.

The samples go to standard output as JSON: {price: {block bytes, or "": [seconds, ...]}}.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import repeat
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
PAGE = resource.getpagesize()

BLOCKS = (32 * KIB, 64 * KIB, 128 * KIB, 512 * KIB, 2 * MIB, 8 * MIB, 32 * MIB)
HUGE_BLOCKS = (2 * MIB, 8 * MIB, 64 * MIB)
THREAD_BLOCKS = (32 * KIB, 64 * KIB, 128 * KIB, 512 * KIB, 4 * MIB)
SPANS = tuple(1 << bits for bits in range(14, 25, 2))  # below: in proportion
SIZES = (16, 64, 256, 512, 1 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 8 * MIB)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEEP_ALL = 2**31 - 1
GLIBC_THRESHOLD = 128 * KIB  # where glibc starts, before a large free moves it
MADV_HUGEPAGE = 14
HUGE_PAGE = 2 * MIB

# The working set of a ring of blocks: past a private cache, inside a shared one. Blocks that are
# reused in a real program are rarely hot in the first cache and rarely out of the last.
RING_BYTES = 4 * MIB
WRITTEN_BYTES = 4 * MIB  # what one arm writes in one turn

Add = Callable[[str, "int | None", float], None]
Sweep = Callable[[Add], None]


class Unmeasurable(Exception):
    """This process cannot be put into the state that a price is about; the message says why."""


class Libc:
    """malloc and its neighbours without a wrapper in between."""

    def __init__(self) -> None:
        lib = ctypes.CDLL(None, use_errno=True)
        if not hasattr(lib, "mallopt"):
            raise Unmeasurable("this C library has no mallopt, so its thresholds cannot be set")
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.malloc = self._function(lib, "malloc", pointer, size)
        self.free = self._function(lib, "free", None, pointer)
        self.memset = self._function(lib, "memset", None, pointer, ctypes.c_int, size)
        self.memcpy = self._function(lib, "memcpy", None, pointer, pointer, size)
        self.madvise = self._function(lib, "madvise", ctypes.c_int, pointer, size, ctypes.c_int)
        self._malloc_trim = self._function(lib, "malloc_trim", ctypes.c_int, size)
        self._mallopt = self._function(lib, "mallopt", ctypes.c_int, ctypes.c_int, ctypes.c_int)

    @staticmethod
    def _function(lib: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
        return function

    def keep(self) -> None:
        """Freed blocks stay resident."""
        self._set(M_MMAP_MAX, 0)
        self._set(M_TRIM_THRESHOLD, KEEP_ALL)

    def trim(self) -> None:
        """Blocks come from the top of the heap, and go back to the kernel when freed."""
        self._set(M_MMAP_MAX, 0)
        self._set(M_TRIM_THRESHOLD, GLIBC_THRESHOLD)

    def mmap(self) -> None:
        """Each block is a mapping of its own, once the heap has nothing left to give."""
        self._malloc_trim(0)
        self._set(M_MMAP_MAX, 65536)
        self._set(M_MMAP_THRESHOLD, BLOCKS[0])

    def _set(self, parameter: int, value: int) -> None:
        if not self._mallopt(parameter, value):
            raise Unmeasurable(f"mallopt({parameter}, {value}) was refused")


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def difference(more: Callable[[], object], less: Callable[[], object], turns: int = 5) -> float:
    """CPU seconds of `more` over `less`, each at its least disturbed of `turns` turns.

    The least, not the mean: a few nanoseconds are sought below half a microsecond of ctypes, and
    whatever interferes only ever adds.
    """
    pairs = [(cpu_seconds(more), cpu_seconds(less)) for _ in range(turns)]
    return min(pair[0] for pair in pairs) - min(pair[1] for pair in pairs)


# ---- pages ---------------------------------------------------------------------------------


def fault_sweep(libc: Libc, prefix: str, blocks: tuple[int, ...], *, huge: bool = False) -> Sweep:
    """Seconds a page: what a block that is fresh in each round costs over the same block kept.

    With `huge`, only the huge pages in the block are advised and written, so that the price is
    theirs alone: how many small ones a real block has at its ends is arithmetic.
    """
    spare = HUGE_PAGE if huge else 0

    def rounds(count: int, size: int, alive: int) -> None:
        malloc, memset, free, madvise = libc.malloc, libc.memset, libc.free, libc.madvise
        for _ in repeat(None, count):
            taken = [malloc(size + spare) for _ in range(alive)]
            for block in taken:
                if huge:
                    start = -(-block // HUGE_PAGE) * HUGE_PAGE
                    madvise(start, size, MADV_HUGEPAGE)
                    memset(start, 1, size)
                else:
                    memset(block, 1, size)
            for block in reversed(taken):
                free(block)

    def turn(arm: Callable[[], None], count: int, size: int, alive: int) -> tuple[float, float]:
        arm()
        rounds(1, size, alive)
        before = faults()
        seconds = cpu_seconds(lambda: rounds(count, size, alive))
        return seconds / count, (faults() - before) / count

    def sweep(add: Add) -> None:
        for size in blocks:
            alive = max(1, 512 * KIB // size)
            count = max(1, WRITTEN_BYTES // (size * alive))
            kept, kept_faults = turn(libc.keep, count, size, alive)
            for regime, arm in (("mmap", libc.mmap), ("trim", libc.trim)):
                fresh, fresh_faults = turn(arm, count, size, alive)
                newly = fresh_faults - kept_faults
                pages = size * alive / PAGE
                if huge and fresh_faults > kept_faults:
                    add(f"{prefix}_{regime}", size, (fresh - kept) / pages)
                elif 0.5 * pages < newly < 1.5 * pages:
                    add(f"{prefix}_{regime}", size, (fresh - kept) / newly)
                # else something sits above the blocks, and they were not fresh: no sample

    return sweep


@contextmanager
def busy_thread() -> Iterator[None]:
    """A second thread that runs outside the interpreter lock nearly all the time."""
    stop = threading.Event()
    text = bytes(4 * MIB)

    def run() -> None:
        while not stop.is_set():
            hashlib.sha256(text)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# ---- bytes ---------------------------------------------------------------------------------


def memory_sweep(libc: Libc) -> Sweep:
    """Zeroing, copying, and a warm malloc with its free."""
    size_t, pointer = ctypes.c_size_t, ctypes.c_void_p
    take = Libc._function(ctypes.pythonapi, "PyMem_Malloc", pointer, size_t)
    give = Libc._function(ctypes.pythonapi, "PyMem_Free", None, pointer)
    # The same two calls with nothing behind them.
    take_none = Libc._function(ctypes.PyDLL(None), "labs", pointer, size_t)
    give_none = Libc._function(ctypes.PyDLL(None), "labs", None, pointer)

    def zero(blocks: list[int], first: int, size: int) -> None:
        # What zeroing costs a program that then writes: the zeroing also pulls the block into
        # the cache, and the write after it is the cheaper for it.
        memset = libc.memset
        for block in blocks:
            memset(block, 0, first)
            memset(block, 1, size)

    def copy(blocks: list[int], size: int) -> None:
        memcpy = libc.memcpy
        for source, target in zip(blocks, blocks[1:] + blocks[:1], strict=True):
            memcpy(target, source, size)

    def pairs(take: Any, give: Any, size: int) -> None:
        for _ in repeat(None, 1000):
            give(take(size))

    def sweep(add: Add) -> None:
        libc.keep()
        for size in SPANS:
            ring = [libc.malloc(size) for _ in range(max(2, RING_BYTES // size))]
            zero(ring, size, size)
            seconds = difference(partial(zero, ring, size, size), partial(zero, ring, 0, size))
            add("zero_written", size, seconds / len(ring))
            seconds = difference(partial(zero, ring, size, 0), partial(zero, ring, 0, 0))
            add("zero_alone", size, seconds / len(ring))
            seconds = difference(partial(copy, ring, size), partial(copy, ring, 0))
            add("copy", size, seconds / len(ring))
            for block in ring:
                libc.free(block)
        for size in SIZES:
            warm, none = (
                partial(pairs, take, give, size),
                partial(pairs, take_none, give_none, size),
            )
            add("allocate", size, difference(warm, none) / 1000)

    return sweep


# ---- objects -------------------------------------------------------------------------------


class Slotted:
    """The cheapest class that can be written."""

    __slots__ = ("value",)


class Plain:
    """An instance as most programs have them."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.items: tuple[Any, ...] = (value,)


def mixed_objects(count: int) -> list[Any]:
    """COUNT objects that the collector tracks: tuples, dicts, lists and instances, in turn."""
    made: list[Any] = []
    for index in range(count // 5):
        text = str(index)
        plain = Plain(index)  # two objects: its own tuple is one
        made += [(text, [index]), {text: made[-1:]}, plain]
    return made


def cycles(count: int) -> None:
    """COUNT trees whose leaves know their root, so that only the collector can free them."""
    for index in range(count):
        parent = Plain(index)
        children = [Plain(index) for _ in range(3)]
        for child in children:
            child.items = (parent, str(index))
        parent.items = tuple(children)


def python_sweep() -> Sweep:
    """Making and dropping an object, and what the collector pays for each, alive or garbage."""
    count = 2000
    old = mixed_objects(100_000)
    gc.collect()

    def calls(function: Callable[[], object]) -> None:
        for _ in repeat(None, count):
            function()

    def loop() -> None:
        for _ in repeat(None, count):
            pass

    def sweep(add: Add) -> None:
        add("construct", None, difference(partial(calls, Slotted), loop) / count)
        # bytearray() makes the object alone; the block and its zeroing have prices of their own.
        add("object", None, difference(partial(calls, bytearray), loop) / count)
        tracked = len(gc.get_objects(generation=0))
        young = mixed_objects(50_000)
        tracked = len(gc.get_objects(generation=0)) - tracked
        add("gc_young", None, cpu_seconds(partial(gc.collect, 0)) / tracked)
        del young
        gc.collect()
        cycles(12_000)
        started = time.thread_time()
        found = gc.collect(0)
        add("gc_garbage", None, (time.thread_time() - started) / found)
        add("gc_full", None, cpu_seconds(gc.collect) / len(gc.get_objects()))

    gc.disable()
    assert old
    return sweep


# ---- pools ---------------------------------------------------------------------------------


def pools_sweep() -> Sweep:
    """What the pools themselves cost a program that calls them in the natural loop."""
    from poolwise import BufferPool, Pool

    count = 2000
    plain: Pool[Slotted] = Pool(Slotted)
    resetting: Pool[Slotted] = Pool(Slotted, reset=lambda thing: None)
    buffers = BufferPool(max_size=64 * KIB, max_bytes=1 * MIB)

    def loop() -> None:
        for _ in repeat(None, count):
            pass

    def pair(pool: Pool[Slotted]) -> None:
        for _ in repeat(None, count):
            thing = pool.get()
            pool.put(thing)

    def lease() -> None:
        for _ in repeat(None, count):
            with plain.lease():
                pass

    def buffer() -> None:
        for _ in repeat(None, count):
            block = buffers.acquire(64 * KIB)
            del block

    def sweep(add: Add) -> None:
        add("pool_pair", None, difference(partial(pair, plain), loop) / count)
        reset = difference(partial(pair, resetting), partial(pair, plain))
        add("pool_reset", None, reset / count)
        add("pool_lease", None, difference(lease, loop) / count)
        add("buffer_pair", None, difference(buffer, loop) / count)

    return sweep


# ---- the parts -----------------------------------------------------------------------------


def measure(part: str, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Sweep `part` until `seconds` are over. Raises Unmeasurable."""
    samples: dict[str, dict[str, list[float]]] = {}

    def add(name: str, size: int | None, value: float) -> None:
        samples.setdefault(name, {}).setdefault("" if size is None else str(size), []).append(value)

    deadline = time.monotonic() + seconds
    libc = Libc()
    with busy_thread() if part == "threads" else nullcontext():
        sweep = {
            "fault": lambda: fault_sweep(libc, "fault", BLOCKS),
            "huge": lambda: fault_sweep(libc, "huge", HUGE_BLOCKS, huge=True),
            "threads": lambda: fault_sweep(libc, "threads", THREAD_BLOCKS),
            "memory": lambda: memory_sweep(libc),
            "python": python_sweep,
            "pools": pools_sweep,
        }[part]()
        sweep(lambda name, size, value: None)  # the first one warms up
        while True:
            sweep(add)
            if time.monotonic() >= deadline:
                return samples


if __name__ == "__main__":
    try:
        json.dump(measure(sys.argv[1], float(sys.argv[2])), sys.stdout)
    except Unmeasurable as reason:
        sys.exit(str(reason))
