"""What a pair costs: get + put and acquire + release beside a deque's pop + append.

    python benchmarks/pairs.py
    python benchmarks/pairs.py --rounds 20 --json pairs.json

Each round runs every subject in a fresh process of its own, one after the other, and divides by
the deque of that round; shown are the median ratio and the range of the middle half of the rounds.
Times are CPU time of the best of several runs. Loops:

    natural   o = pool.get(); pool.put(o)           the variable still holds o at the next get
    del       o = pool.get(); pool.put(o); del o
    last      o = buffers.acquire(n); del o         no release: the last reference gives it back

The pool is measured with each trim policy and with checks="sample" too.

The first two are measured with methods looked up at each call and with bound methods hoisted out
of the loop, on both sides alike. Bodies are unrolled tenfold, so that the `for` is not measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import poolwise

SIZES = [16, 1024, 64 << 10, 1 << 20, 8 << 20]
PAIRS_A_RUN = 200_000
RUNS = 11
UNROLLED = 10
KEPT = 4  # objects that take part

# loop: (take and give back by method, the same by hoisted names)
DEQUE_LOOPS = {
    "natural": "o = pool.pop(); pool.append(o)",
    "del": "o = pool.pop(); pool.append(o); del o",
    "natural, hoisted": "o = take(); give(o)",
    "del, hoisted": "o = take(); give(o); del o",
}
POOL_LOOPS = {
    "natural": "o = pool.get(); pool.put(o)",
    "del": "o = pool.get(); pool.put(o); del o",
    "natural, hoisted": "o = take(); give(o)",
    "del, hoisted": "o = take(); give(o); del o",
}
BUFFER_LOOPS = {
    "natural": "o = pool.acquire(n); o.release()",
    "del": "o = pool.acquire(n); o.release(); del o",
    "natural, hoisted": "o = take(n); o.release()",
    "del, hoisted": "o = take(n); o.release(); del o",
    "last": "o = pool.acquire(n); del o",
}


# Named, and each with its counters: there is no pool without.
POOLS: dict[str, dict[str, Any]] = {
    "pool": {},
    "pool, aged": {"trim": "aged"},
    "pool, victim": {"trim": "victim"},
    "pool, clear": {"trim": "clear"},
    "pool, sample": {"checks": "sample"},
}


class Kept:
    """An ordinary class, as pools hold them."""


def subjects() -> list[str]:
    return ["deque", *POOLS, *(f"buffer {size}" for size in SIZES)]


def compile_loop(body: str) -> Callable[..., None]:
    lines = "\n".join([f"        {body}"] * UNROLLED)
    source = f"def loop(pool, take, give, n, runs):\n    for _ in range(runs):\n{lines}\n"
    names: dict[str, Callable[..., None]] = {}
    exec(source, {}, names)
    return names["loop"]


def best_ns(body: str, *args: object) -> float:
    """Nanoseconds of CPU a pair, the best of RUNS."""
    loop = compile_loop(body)
    runs = PAIRS_A_RUN // UNROLLED
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time_ns()
        loop(*args, runs)
        best = min(best, time.process_time_ns() - start)
    return best / PAIRS_A_RUN


def measure(subject: str) -> dict[str, float]:
    """Nanoseconds a pair by loop; called in a process of its own."""
    kept = [Kept() for _ in range(KEPT)]
    if subject == "deque":
        queue = deque(kept)
        del kept
        args = (queue, queue.pop, queue.append, 0)
        return {name: best_ns(body, *args) for name, body in DEQUE_LOOPS.items()}
    if subject in POOLS:
        pool = poolwise.Pool(Kept, name=subject, **POOLS[subject])
        while kept:
            pool.put(kept.pop())
        return {
            name: best_ns(body, pool, pool.get, pool.put, 0) for name, body in POOL_LOOPS.items()
        }
    size = int(subject.split()[1])
    buffers = poolwise.BufferPool(max_size=max(SIZES), max_bytes=8 * max(SIZES))
    args_of = (buffers, buffers.acquire, None, size)
    return {name: best_ns(body, *args_of) for name, body in BUFFER_LOOPS.items()}


def in_a_fresh_process(subject: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", subject]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def spread(ratios: list[float]) -> dict[str, float]:
    if len(ratios) < 2:
        return {"median": ratios[0], "low": ratios[0], "high": ratios[0]}
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11, help="fresh processes a subject")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        json.dump(measure(options.child), sys.stdout)
        return
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} measures nothing: give 1 or more")
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.rounds):
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {options.rounds}", end="", file=sys.stderr, flush=True)
        rounds.append({subject: in_a_fresh_process(subject) for subject in subjects()})
    if sys.stderr.isatty():
        print(file=sys.stderr)
    rows = []
    for subject in subjects()[1:]:
        for loop in rounds[0][subject]:
            peer = loop if loop in DEQUE_LOOPS else "del"
            ratios = [one[subject][loop] / one["deque"][peer] for one in rounds]
            rows.append({"subject": subject, "loop": loop, **spread(ratios)})
    deque_ns = statistics.median(one["deque"]["natural"] for one in rounds)
    print(f"CPython {platform.python_version()}, poolwise {poolwise.__version__}, ", end="")
    print(f"{options.rounds} rounds; a deque's pair took {deque_ns:.1f} ns")
    print(f"{'subject':<16}{'loop':<18}{'ratio':>6}  middle half")
    for row in rows:
        print(
            f"{row['subject']:<16}{row['loop']:<18}{row['median']:>6.2f}"
            f"  {row['low']:.2f} to {row['high']:.2f}"
        )
    if options.json:
        document = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "poolwise": poolwise.__version__,
            "rounds": options.rounds,
            "deque_ns": deque_ns,
            "rows": rows,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
