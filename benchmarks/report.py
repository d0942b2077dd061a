"""How large the page of a long recording is, and how long it takes to make and to open.

    python benchmarks/report.py
    python benchmarks/report.py --samples 200000 --opens 3 --json report.json

The recording is made up: an hour at the sampler's ceiling of 1,500 samples a second by default, of
a program with 40,000 stacks, 3,000 functions and 300 types, allocations of all sizes and lifetimes,
a part of them alive at the end. Making is CPU time, from the recording in memory. Opening is from
the request to the last part of the page drawn, in Debian's Chromium through playwright, in a fresh
process each time; shown is the median and the range. Without these two the page is only made.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from poolwise.profile.recording import (
    ALIVE,
    CONSTRUCTION,
    FREED,
    MEMORY,
    NUMPY,
    OBJECT,
    Birth,
    Code,
    Construction,
    Death,
    Node,
    Recording,
    Summary,
    Type,
)
from poolwise.profile.report import data, page

HOUR_SAMPLES = 5_400_000  # 3,600 s at 1,500 a second
STACKS, CODES, TYPES = 40_000, 3_000, 300
LINES = compile("\n".join(f"x{n} = [{n}]" for n in range(50)), "lines.py", "exec")


def synthetic(samples: int, seconds: float = 3600.0, seed: int = 1) -> Recording:
    """A recording with so many samples, as a program of many parts would leave it."""
    draw = random.Random(seed)
    recording = Recording("synthetic")
    recording.codes = [
        Code(f"/srv/app/part{n % 90}/module{n % 400}.py", f"Handler{n % 70}.method{n}",
             1 + n % 900, LINES.co_linetable)
        for n in range(CODES)
    ]  # fmt: skip
    # Callers are drawn from the first nodes, so that depths are those of real programs.
    recording.nodes = [
        Node(draw.randrange(max(1, n // 4)) if n else 0, 1 + draw.randrange(CODES), 2 * (n % 2))
        for n in range(STACKS)
    ]
    recording.types = [Type(f"package.Type{n}", 1 << 14) for n in range(TYPES)]
    # Few stacks take most: the chance of the n-th falls as 1/n.
    stacks = draw.choices(range(1, STACKS + 1), [1 / n for n in range(1, STACKS + 1)], k=samples)
    start_ns, step_ns = 10**15, int(seconds * 1e9 / samples)
    end_ns = start_ns + samples * step_ns
    for number, stack in enumerate(stacks):
        birth_ns = start_ns + number * step_ns
        size = int(2 ** draw.uniform(5, 20))
        domain = (OBJECT, OBJECT, OBJECT, MEMORY, NUMPY, CONSTRUCTION)[stack % 6]
        volume = number * 60_000
        thread = 1 + stack % 4
        recording.births.append(
            Birth(birth_ns, volume, volume, size, max(1.0, 66_000 / size), stack, thread, 0,
                  domain, number // 1000, 0)
        )  # fmt: skip
        # Each stack has a lifetime of its own, from microseconds to hours.
        death_ns = birth_ns + int(10 ** (3 + stack % 10 + draw.random()))
        kind = FREED if death_ns < end_ns else ALIVE
        death_ns = min(death_ns, end_ns)
        ended = (death_ns - start_ns) // step_ns
        recording.deaths[number] = Death(
            number, death_ns, ended * 60_000, ended * 60_000, size, stack,
            thread if stack % 7 else 5, 1 + stack % TYPES, 0, ended // 1000, kind, 0,
        )  # fmt: skip
        if domain == CONSTRUCTION:
            recording.constructions[number] = Construction(number, 7, 1 + stack % TYPES, 5_000)
    recording.summary = _summary(samples, seconds)
    return recording


def _summary(samples: int, seconds: float) -> Summary:
    return Summary(
        seconds=seconds, user_seconds=0.8 * seconds, system_seconds=0.1 * seconds,
        minor_faults=10**7, major_faults=0, peak_bytes=2 << 30, samples=samples, constructions=0,
        thinned=0, lost=0, truncated_stacks=0, unknown_stacks=0, overhead_seconds=seconds / 100,
        own_faults=0, hook_removals=0, forks=0, volume=samples * 60_000,
        collections=(samples // 1000, samples // 10_000, 50), collection_seconds=(9.0, 9.0, 9.0),
        collected=(0, 0, 0), rate=65536.0, heap_bytes=0, heap_free_bytes=0, heap_mapped_bytes=0,
        finished=True,
    )  # fmt: skip


def open_seconds(file: Path, times: int) -> list[float]:
    """Each from the request to the page drawn; empty where there is no browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    chromium = shutil.which("chromium")
    if chromium is None or times == 0:
        return []
    taken = []
    with sync_playwright() as playwright:
        for _ in range(times):
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            shown = browser.new_page(viewport={"width": 1280, "height": 900})
            shown.goto(file.as_uri())
            # The second frame begins when the first is on the screen.
            taken.append(
                shown.evaluate(
                    "() => new Promise((resolve) => requestAnimationFrame(() => "
                    "requestAnimationFrame(() => resolve(performance.now() / 1000))))"
                )
            )
            browser.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=HOUR_SAMPLES)
    parser.add_argument("--opens", type=int, default=9, help="how often the page is opened")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    parser.add_argument("--page", metavar="FILE", type=Path, help="keep the page in FILE")
    ns = parser.parse_args()
    gc.disable()  # as the command does: millions of records, and no cycle among them
    recording = synthetic(ns.samples)
    start = time.process_time()
    text = page.page(data.of(recording))
    made_seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        file = ns.page or Path(folder, "page.html")
        file.write_text(text, encoding="utf-8")
        opened = open_seconds(file, ns.opens)
    figures = {
        "samples": ns.samples,
        "made_seconds": made_seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "page_bytes": len(text.encode()),
        "opened_seconds": sorted(opened),
    }
    print(f"samples         {ns.samples:,}")
    print(f"made in         {made_seconds:.1f} s of CPU, at most {figures['peak_mib']:,.0f} MiB")
    print(f"page            {figures['page_bytes'] / 1e6:.2f} MB")
    if opened:
        print(
            f"opened in       {statistics.median(opened):.2f} s "
            f"[{min(opened):.2f}, {max(opened):.2f}], {len(opened)} times"
        )
    else:
        print("opened in       not measured: playwright or chromium is not here")
    if ns.json is not None:
        ns.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
