"""Three loads that allocators are judged by, over pools: Larson's, xmalloc's and cache-scratch.

    python benchmarks/loads.py
    python3.13t benchmarks/loads.py --threads 4 --json loads.json

    larson   a server: each thread replaces random things of the many it holds; threads end, and
             new ones inherit what others took ("bleeding"), so most is given back by another
    xmalloc  threads that only take hand batches to threads that only give back
    scratch  after cache-scratch: the main thread takes a thing for each thread, which gives it
             back, and then takes, writes a hundred times and gives back. A pool that deals out
             things side by side makes its threads share cache lines (passive false sharing)

Things are a record (a class that owns a list and a dict, emptied at each return), a block of 64 KiB
(each page written at each use), and for scratch a cell (one slot) and a block of 8 bytes. Ways to
have them: made anew each time, a Pool, a BufferPool (blocks), a deque written out by hand, and the
PyPI packages object-pool and pondpond where they are installed; all with their defaults.

Each round runs every way in a fresh process of its own and divides by made anew of that round;
shown is the median ratio with its interval, of CPU time and of time on the clock, and beside them
the growth of the resident memory: at its peak, and when all is given back. With the GIL one thread
runs at a time: the clock then shows its hand-over, and no two write to a line at once.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import queue
import random
import re
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from textwrap import indent
from typing import Any

from poolwise import BufferPool, Pool
from poolwise.advise.calibrate import child_environment, machine
from poolwise.bench.ratios import median_interval

ROUNDS, QUICK_ROUNDS = 9, 2
TAKES, QUICK_TAKES = 100_000, 4_000  # of all threads together
GENERATIONS = 5  # of threads, in larson
BATCH, QUEUED = 50, 4  # things a batch, and batches that wait for each pair of threads, in xmalloc
THREADS_MAX = 64

PEERS = {"object-pool": "object_pool", "pondpond": "pond"}  # package: its module
Case = tuple[str, str, str]  # load, thing, way
WAYS = ("anew", "Pool", "BufferPool", "deque", *PEERS)


@dataclass
class Record:
    """Dear to make: three objects."""

    names: list[str] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)


class Cell:
    """Cheap to make, and small: a few of them on each pair of cache lines."""

    __slots__ = ("count",)


def empty(record: Record) -> None:
    """What a pool of records has to do at each return."""
    record.names.clear()
    record.values.clear()


@dataclass(frozen=True)
class Kind:
    """A thing, and what its user does with `content`."""

    make: Callable[[], Any]
    use: str
    held: int  # by each thread, in larson
    reset: Callable[[Any], None] | None = None
    size: int | None = None  # of a block


def block(size: int, use: str, held: int) -> Kind:
    return Kind(partial(bytearray, size), use, held, size=size)


KINDS = {
    "record": Kind(Record, "content.names.append('name')", held=1000, reset=empty),
    "64 KiB": block(64 << 10, "memoryview(content)[::4096] = MARKS", held=200),
    "cell": Kind(Cell, "for n in HUNDRED:\n    content.count = n", held=1),
    "8 B": block(8, "view = memoryview(content)\nfor n in HUNDRED:\n    view[0] = n\ndel view", 1),
}
CONSTANTS = {"MARKS": b"x" * 16, "HUNDRED": range(100)}


# Every way is written out in these, so that none pays for a call that its users would not make.
SOURCE = """
def fill(number):
    BIND
    things = []
    for _ in range(number):
        TAKE
        USE
        things.append(thing)
    return things

def drain(things):
    BIND
    while things:
        thing = things.pop()
        GIVE

def replace(slots, order):
    BIND
    for at in order:
        TAKE
        USE
        slots[at], thing = thing, slots[at]
        GIVE

def scratch(things, takes):
    BIND
    drain(things)
    for _ in range(takes):
        TAKE
        USE
        GIVE
"""


@dataclass(frozen=True)
class Way:
    """Statements that bind what the thread needs, take and give back a `thing`; its content.

    Methods are bound in each thread: without the GIL, threads that call one bound method of all
    would share its reference count, whatever it is bound to.
    """

    names: dict[str, Any]
    bind: str
    take: str
    give: str
    content: str = "thing"


@dataclass(frozen=True)
class Loops:
    """SOURCE for one way and one kind."""

    fill: Callable[[int], list[Any]]
    drain: Callable[[list[Any]], None]
    replace: Callable[[list[Any], list[int]], None]
    scratch: Callable[[list[Any], int], None]


def way_of(name: str, kind: Kind, at_once: int) -> Way:
    """`at_once`: the most things that are out or idle at any time."""
    names: dict[str, Any] = {"make": kind.make, "reset": kind.reset, "size": kind.size}
    reset = "" if kind.reset is None else "reset(thing)\n"
    if name == "anew":
        return Way(names, "pass", "thing = make()", "pass")
    if name == "Pool":
        names["pool"] = Pool(kind.make, reset=kind.reset)
        return Way(names, "get, put = pool.get, pool.put", "thing = get()", "put(thing)")
    if name == "BufferPool":
        assert kind.size is not None
        names["pool"] = BufferPool(max_size=kind.size, max_bytes=1 << 30)
        return Way(names, "acquire = pool.acquire", "thing = acquire(size)", "thing.release()")
    if name == "deque":
        names["spare"] = deque()
        bind = "pop, append = spare.pop, spare.append"
        take = "try:\n    thing = pop()\nexcept IndexError:\n    thing = make()"
        return Way(names, bind, take, f"{reset}append(thing)")
    if name == "object-pool":
        import object_pool

        names["pool"] = object_pool.ObjectPool(kind.make)
        return Way(names, "get, put = pool.get, pool.put", "thing = get()", f"{reset}put(thing)")
    names["pool"] = _pond(kind, at_once)
    bind = "borrow, recycle = pool.borrow, pool.recycle"
    take, give = "thing = borrow(name='t')", "recycle(thing, name='t')"
    return Way(names, bind, take, give, content="thing.use()")


def _pond(kind: Kind, at_once: int) -> Any:
    import pond

    class Factory(pond.PooledObjectFactory):
        def createInstance(self) -> Any:
            return pond.PooledObject(kind.make())

        def destroy(self, pooled_object: Any) -> None:
            pass

        def reset(self, pooled_object: Any, **_: Any) -> Any:
            if kind.reset is not None:
                kind.reset(pooled_object.use())
            return pooled_object

        def validate(self, pooled_object: Any) -> bool:
            return True

    made = pond.Pond()
    made.register(Factory(pooled_maxsize=at_once), name="t")
    return made


def loops_of(way: Way, kind: Kind) -> Loops:
    parts = {
        "BIND": way.bind,
        "TAKE": way.take,
        "USE": re.sub(r"\bcontent\b", way.content, kind.use),
        "GIVE": way.give,
    }
    lines = []
    for line in SOURCE.splitlines():
        word = line.strip()
        margin = line[: len(line) - len(line.lstrip())]
        lines.append(indent(parts[word], margin) if word in parts else line)
    names: dict[str, Any] = {**way.names, **CONSTANTS}
    exec("\n".join(lines), names)
    return Loops(names["fill"], names["drain"], names["replace"], names["scratch"])


def together(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def larson(loops: Loops, kind: Kind, threads: int, takes: int) -> None:
    order = random.Random(1).choices(range(kind.held), k=takes // (threads * GENERATIONS))
    held = [loops.fill(kind.held) for _ in range(threads)]
    for _ in range(GENERATIONS):  # each of new threads
        together([partial(loops.replace, slots, order) for slots in held])
    for slots in held:
        loops.drain(slots)


def xmalloc(loops: Loops, kind: Kind, threads: int, takes: int) -> None:
    waiting: queue.Queue[list[Any] | None] = queue.Queue(maxsize=QUEUED * threads)

    def produce() -> None:
        for _ in range(takes // (threads * BATCH)):
            waiting.put(loops.fill(BATCH))
        waiting.put(None)

    def consume() -> None:
        while (things := waiting.get()) is not None:
            loops.drain(things)

    together([produce, consume] * threads)


def scratch(loops: Loops, kind: Kind, threads: int, takes: int) -> None:
    given = [loops.fill(1) for _ in range(threads)]
    together([partial(loops.scratch, things, takes // threads) for things in given])


# What runs a load, the things that it takes, and how many are out at most for each thread.
Load = Callable[[Loops, Kind, int, int], None]
LOADS: dict[str, tuple[Load, tuple[str, ...], Callable[[Kind], int]]] = {
    "larson": (larson, ("record", "64 KiB"), lambda kind: kind.held + 1),
    "xmalloc": (xmalloc, ("record", "64 KiB"), lambda kind: (QUEUED + 2) * BATCH),
    "scratch": (scratch, ("cell", "8 B"), lambda kind: 2),
}


def measure(load: str, thing: str, name: str, threads: int, takes: int) -> dict[str, Any]:
    """One way under one load, in this process, which should be a fresh one."""
    run, _, at_once = LOADS[load]
    kind = KINDS[thing]
    if name in PEERS:
        __import__(PEERS[name])
    with contextlib.suppress(OSError):  # the peak so far was that of the imports
        Path("/proc/self/clear_refs").write_text("5")
    before = memory_mib("VmRSS")
    loops = loops_of(way_of(name, kind, threads * at_once(kind)), kind)
    start, cpu = time.perf_counter(), time.process_time()
    run(loops, kind, threads, takes)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    gc.collect()
    return {
        "cpu_ns": 1e9 * cpu_seconds / takes,
        "clock_ns": 1e9 * seconds / takes,
        "peak_mib": memory_mib("VmHWM") - before,
        "idle_mib": memory_mib("VmRSS") - before,
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    }


def memory_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024
    )


def in_a_fresh_process(case: Case, threads: int, takes: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *case, str(threads), str(takes)]
    ended = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise SystemExit(f"loads: {' '.join(case)} failed:\n{ended.stderr.strip()}")
    measured: dict[str, Any] = json.loads(ended.stdout)
    return measured


def fatal(hook: threading.ExceptHookArgs) -> None:
    """A thread that fails would leave the others waiting for it."""
    traceback.print_exception(hook.exc_value)
    os._exit(1)


def cases(ways: list[str]) -> list[Case]:
    return [
        (load, thing, name)
        for load, (_, things, _) in LOADS.items()
        for thing in things
        for name in ways
        if name != "BufferPool" or KINDS[thing].size is not None
    ]


def summary(
    rounds: list[dict[Case, dict[str, Any]]],
) -> list[dict[str, Any]]:
    rows = []
    for load, thing, name in rounds[0]:
        taken = [one[load, thing, name] for one in rounds]
        anew = [one[load, thing, "anew"] for one in rounds]
        row: dict[str, Any] = {"load": load, "thing": thing, "way": name, "gil": taken[0]["gil"]}
        for clock in ("cpu", "clock"):
            ratios = [
                ours[f"{clock}_ns"] / theirs[f"{clock}_ns"]
                for ours, theirs in zip(taken, anew, strict=True)
            ]
            ratio = median_interval(ratios)
            row[clock] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
        for figure in ("cpu_ns", "clock_ns", "peak_mib", "idle_mib"):
            row[figure] = median(one[figure] for one in taken)
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'load':8} {'thing':7} {'way':12} {'CPU / anew':21} {'clock / anew':21} "
        f"{'CPU, ns':>8} {'peak, MiB':>9} {'idle, MiB':>9}"
    )
    for row in rows:
        ratios = ("{value:.2f} [{low:.2f}, {high:.2f}]".format(**row[n]) for n in ("cpu", "clock"))
        print(
            f"{row['load']:8} {row['thing']:7} {row['way']:12} {next(ratios):21} "
            f"{next(ratios):21} {row['cpu_ns']:8.0f} {row['peak_mib']:9.1f} {row['idle_mib']:9.1f}"
        )


def options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--rounds", type=int, help=f"fresh processes a way (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    ns = parser.parse_args()
    if ns.rounds is None:
        ns.rounds = QUICK_ROUNDS if ns.quick else ROUNDS
    if ns.rounds < 1:
        parser.error(f"--rounds {ns.rounds} measures nothing: give 1 or more")
    if not 1 <= ns.threads <= THREADS_MAX:
        parser.error(f"--threads {ns.threads}: give 1 to {THREADS_MAX}")
    if ns.json is not None:
        try:
            ns.json.open("a").close()
        except OSError as error:
            parser.error(f"cannot write {ns.json} ({error.strerror}): name another file")
    return ns


def main() -> None:
    ns = options()
    if ns.child:
        threading.excepthook = fatal
        load, thing, name, threads, takes = ns.child
        print(json.dumps(measure(load, thing, name, int(threads), int(takes))))
        return
    ways = [name for name in WAYS if name not in PEERS or find_spec(PEERS[name]) is not None]
    for name in PEERS.keys() - ways:
        print(f"loads: {name} is left out: pip install {name} brings it", file=sys.stderr)
    takes = QUICK_TAKES if ns.quick else TAKES
    rounds = []
    for turn in range(ns.rounds):
        print(f"loads: round {turn + 1} of {ns.rounds} …", file=sys.stderr)
        rounds.append({case: in_a_fresh_process(case, ns.threads, takes) for case in cases(ways)})
    rows = summary(rounds)
    peers = {name: version(name) for name in PEERS if name in ways}
    show(rows)
    print(f"{ns.rounds} rounds, {ns.threads} threads, {takes} things a process; 1.0: as made anew.")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        for name in dict.fromkeys(row["way"] for row in rows if row["gil"]):
            print(f"{name} turned the GIL on")
    for name, value in {**machine(), **peers}.items():
        print(f"{name:>12}  {' '.join(value.split())}")
    if ns.json is not None:
        document = {
            "schema": 1,
            "machine": machine(),
            "peers": peers,
            "rounds": ns.rounds,
            "threads": ns.threads,
            "takes": takes,
            "rows": rows,
        }
        ns.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
