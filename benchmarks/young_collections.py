"""What an object costs the garbage collector when young collections get larger.

    python benchmarks/young_collections.py [--runs N]

Each program runs with CPython's thresholds (700 objects in a young collection) and with those of
the `settings` remedy (50,000), in fresh processes in turn. Shown is the CPU time of the young
collections, by the most objects that they can have looked at, and how many times longer one takes
in the large ones. Programs that leave much garbage pay for freeing it, too: that is shown beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

from poolwise.program import settings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = (700, 10, 10)
PROGRAMS = {
    "json trees": """
import json
text = json.dumps([{"id": i, "tags": ["a", str(i)], "at": {"x": i, "y": 1}} for i in range(20_000)])
for _ in range(12):
    kept = [json.loads(text) for _ in range(2)]
""",
    "syntax trees": """
import ast, pathlib
kept = [ast.parse(path.read_text("utf-8", "replace"))
        for path in sorted(pathlib.Path(ast.__file__).parent.glob("*.py"))[:60]]
""",
    "graph": """
import random
class Node:
    def __init__(self):
        self.out, self.seen = [], {}
nodes = [Node() for _ in range(60_000)]
for node in nodes:
    node.out += random.choices(nodes, k=4)
for turn in range(6):
    todo = [nodes[turn]]
    while todo:
        node = todo.pop()
        if turn not in node.seen:
            node.seen[turn] = (turn, node)
            todo += node.out
""",
    "rows": """
import csv, datetime, io
text = "\\n".join(f"{i},2026-01-{i % 28 + 1:02d},{i * 0.37:.2f}" for i in range(150_000))
rows = [(int(i), datetime.date.fromisoformat(day), float(price))
        for i, day, price in csv.reader(io.StringIO(text))]
""",
}


def watched(thresholds: list[int], program: list[str]) -> None:
    """Run a program in this process, and tell standard error what its collections took."""
    seconds, count, found, started = 0.0, 0, 0, 0.0

    def look(phase: str, info: dict[str, int]) -> None:
        nonlocal seconds, count, found, started
        if phase == "start":
            started = time.thread_time()
        elif info["generation"] == 0:
            seconds += time.thread_time() - started
            count += 1
            found += info["collected"]

    gc.set_threshold(*thresholds)
    gc.callbacks.append(look)
    sys.argv = program
    sys.path[0] = os.path.dirname(program[0])
    try:
        runpy.run_path(program[0], run_name="__main__")
    finally:
        gc.callbacks.remove(look)
        print(json.dumps([seconds, count, found]), file=sys.stderr)


def measure(thresholds: tuple[int, ...], program: list[str]) -> tuple[float, int]:
    """Nanoseconds for each object, and how many were garbage."""
    words = [sys.executable, __file__, "--watched", json.dumps([thresholds, program])]
    done = subprocess.run(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    seconds, count, found = json.loads(done.stderr.splitlines()[-1])
    return 1e9 * seconds / (max(count, 1) * (thresholds[0] + 1)), found


def programs(directory: str) -> dict[str, list[str]]:
    with open(EXAMPLES / "subjects.toml", "rb") as file:
        found: dict[str, Any] = tomllib.load(file)
    result = {
        one["name"]: [str(EXAMPLES / one["program"]), *one["short"]] for one in found["subject"]
    }
    for name, text in PROGRAMS.items():
        path = Path(directory, name.replace(" ", "_") + ".py")
        path.write_text(text)
        result[name] = [str(path)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="of each way (default 5)")
    parser.add_argument("--watched", help=argparse.SUPPRESS)
    ns = parser.parse_args()
    if ns.watched:
        watched(*json.loads(ns.watched))
        return
    print("| program | 700, ns | 50,000, ns | times | of these garbage |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name, program in programs(directory).items():
            ways: dict[tuple[int, ...], list[float]] = {SMALL: [], settings.GC: []}
            for _ in range(ns.runs):
                for thresholds, times in ways.items():
                    price, found = measure(thresholds, program)
                    times.append(price)
            small, large = median(ways[SMALL]), median(ways[settings.GC])
            print(f"| {name} | {small:.0f} | {large:.0f} | {large / small:.1f} | {found:,} |")


if __name__ == "__main__":
    main()
