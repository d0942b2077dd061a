"""How pools scale over threads, beside a loop that shares nothing, a deque and a list.

    python3.13t benchmarks/scaling.py
    python3.13t benchmarks/scaling.py --threads 4 --rounds 9 --json scaling.json

Each round runs every subject in a fresh process of its own: once with one thread, once with
--threads. Scaling is the rate of all threads together by that of one; shown are the median and the
range of the middle half of the rounds, and the median by the control's. 1.0 times the threads is
perfect; with the GIL all come to 1.

    control   a loop that increments a local variable: what this machine gives at best
    pool      get + put of one Pool that all threads share; methods bound once in each thread
    attribute the same, methods looked up at each call: from 3.14 on the pool's reference count is
              not shared, before that it is
    buffers   acquire + release of one BufferPool that all threads share
    deque     pop + append of one deque, list: likewise
    handover  a producer thread gets and a consumer thread puts, through a SimpleQueue in batches:
              pool, and made anew; not scaling but the rate by that of a plain hand-over, and RSS
"""

from __future__ import annotations

import argparse
import json
import platform
import queue
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import poolwise

PAIRS = 400_000
BATCH = 100
BATCHES = 3_000


class Thing:
    __slots__ = ("value",)


def control() -> Callable[[int], None]:
    def loop(pairs: int) -> None:
        value = 0
        for _ in range(pairs):
            value += 1
            value -= 1
            value += 1
            value -= 1

    return loop


def pool() -> Callable[[int], None]:
    shared = poolwise.Pool(Thing)

    def loop(pairs: int) -> None:
        get, put = shared.get, shared.put
        for _ in range(pairs):
            thing = get()
            put(thing)

    return loop


def attribute() -> Callable[[int], None]:
    shared = poolwise.Pool(Thing)

    def loop(pairs: int) -> None:
        for _ in range(pairs):
            thing = shared.get()
            shared.put(thing)

    return loop


def buffers() -> Callable[[int], None]:
    shared = poolwise.BufferPool(max_size=1 << 16, max_bytes=1 << 24)

    def loop(pairs: int) -> None:
        acquire = shared.acquire
        for _ in range(pairs):
            buffer = acquire(1000)
            buffer.release()

    return loop


def container(kind: type[deque[Thing]] | type[list[Thing]]) -> Callable[[int], None]:
    shared = kind(Thing() for _ in range(64))

    def loop(pairs: int) -> None:
        pop, append = shared.pop, shared.append
        for _ in range(pairs):
            thing = pop()
            append(thing)

    return loop


SUBJECTS: dict[str, Callable[[], Callable[[int], None]]] = {
    "control": control,
    "pool": pool,
    "attribute": attribute,
    "buffers": buffers,
    "deque": lambda: container(deque),
    "list": lambda: container(list),
}


def rate(loop: Callable[[int], None], threads: int) -> float:
    """Pairs a second of all threads together, the best of three runs."""
    best = 0.0
    for _ in range(3):
        ready = threading.Barrier(threads + 1)

        def work(ready: threading.Barrier = ready) -> None:
            loop(1000)
            ready.wait()
            loop(PAIRS)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        ready.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
        best = max(best, threads * PAIRS / (time.perf_counter() - start))
    return best


def handover(kind: str) -> dict[str, float]:
    """Things a second from one thread to another, and the process's peak memory."""
    things = poolwise.Pool(Thing)
    spare: deque[Thing] = deque()
    between: queue.SimpleQueue[list[Thing] | None] = queue.SimpleQueue()

    def take() -> Thing:
        try:
            return spare.pop()
        except IndexError:
            return Thing()

    get = {"pool": things.get, "deque": take, "anew": Thing}[kind]
    put = {"pool": things.put, "deque": spare.append, "anew": lambda thing: None}[kind]

    def consume() -> None:
        while (batch := between.get()) is not None:
            while batch:
                put(batch.pop())

    consumer = threading.Thread(target=consume)
    consumer.start()
    start = time.perf_counter()
    for _ in range(BATCHES):
        between.put([get() for _ in range(BATCH)])
        while between.qsize() > 4:
            time.sleep(0)
    between.put(None)
    consumer.join()
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {"rate": BATCH * BATCHES / seconds, "peak_mib": int(peak.split()[1]) / 1024}


def in_process(*words: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--subject", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def middle(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes a subject")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    parser.add_argument("--subject", nargs="+", help=argparse.SUPPRESS)
    ns = parser.parse_args()
    if ns.subject:
        name, what = ns.subject
        if name == "handover":
            print(json.dumps(handover(what)))
        else:
            print(json.dumps({"rate": rate(SUBJECTS[name](), int(what))}))
        return
    scaling: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    handed: dict[str, list[dict[str, float]]] = {"pool": [], "deque": [], "anew": []}
    for turn in range(ns.rounds):
        print(f"scaling: round {turn + 1} of {ns.rounds} …", file=sys.stderr)
        for name, values in scaling.items():
            one, many = (in_process(name, str(threads))["rate"] for threads in (1, ns.threads))
            values.append(many / one)
        for kind, results in handed.items():
            results.append(in_process("handover", kind))
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    build = "free-threaded" if free else "with the GIL"
    print(f"CPython {platform.python_version()} {build}, poolwise {poolwise.__version__}")
    print(f"{'subject':10} scaling over {ns.threads} threads     by the control's")
    for name, values in scaling.items():
        by_control = [a / b for a, b in zip(values, scaling["control"], strict=True)]
        print(f"{name:10} {middle(values):27} {middle(by_control)}")
    for kind, results in handed.items():
        rates = [a["rate"] / b["rate"] for a, b in zip(results, handed["anew"], strict=True)]
        peak = statistics.median(result["peak_mib"] for result in results)
        print(f"handover {kind:6} {middle(rates)} of made anew, peak memory {peak:.0f} MiB")
    if ns.json:
        ns.json.write_text(json.dumps({"scaling": scaling, "handover": handed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
