"""What sampling costs a program: poolwise beside tracemalloc, memray and a bare run.

    python benchmarks/overhead.py [--quick] [--turns N] [--json FILE]

Ten allocation-heavy benchmarks of pyperformance, named before anything was measured (logging took
the place of pickle_pure_python, which refuses to run where memray has imported pickle). Each run is
one process with a fixed number of loops, the process that is measured is the one that allocates,
and the arms take turns. What is compared is CPU time (user and system) of the whole process,
start-up, imports and writing the recording included, against the bare run of the same turn.

The benchmarks' own packages (docutils, html5lib, sqlglot, sympy, tomli, as pyperformance pins
them) are installed once into build/.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from poolwise.advise.calibrate import child_environment, machine
from poolwise.bench.ratios import Ratio, median_interval
from poolwise.program.launch import Instructions, Program, command_line

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = {  # script and arguments
    "async_tree": ("async_tree", "none"),
    "comprehensions": ("comprehensions",),
    "deepcopy": ("deepcopy",),
    "docutils": ("docutils",),
    "html5lib": ("html5lib",),
    "logging_format": ("logging", "format"),
    "sqlglot_v2_parse": ("sqlglot_v2", "parse"),
    "sympy_expand": ("sympy", "expand"),
    "tomli_loads": ("tomli_loads",),
    "xml_etree_process": ("xml_etree", "process"),
}
QUICK = ("async_tree", "deepcopy", "tomli_loads")
RUN_SECONDS = 0.7  # of a bare run, about
TURNS = 6

# An arm is what stands between the interpreter and the script; DIR is a fresh directory.
Prefix = Callable[[list[str], str], list[str]]


def bare(words: list[str], _: str) -> list[str]:
    return [sys.executable, *words]


def poolwise(words: list[str], directory: str) -> list[str]:
    program = Program(words[0], tuple(words[1:]))
    return command_line(program, Instructions(profile={"dir": directory}))


def tracemalloc(words: list[str], _: str) -> list[str]:
    return [sys.executable, "-X", "tracemalloc=1", *words]


def memray(words: list[str], directory: str, *options: str) -> list[str]:
    recording = os.path.join(directory, "memray.bin")
    return [sys.executable, "-m", "memray", "run", "-q", *options, "-o", recording, *words]


def memray_python(words: list[str], directory: str) -> list[str]:
    return memray(words, directory, "--trace-python-allocators")


ARMS: dict[str, Prefix] = {
    "poolwise": poolwise,
    "tracemalloc": tracemalloc,
    "memray": memray,
    "memray with objects": memray_python,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one process used."""

    cpu_seconds: float
    page_faults: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help="three benchmarks, three turns")
    parser.add_argument("--turns", type=int, help=f"runs of each arm (default {TURNS}; quick 3)")
    parser.add_argument(
        "--arms", default=",".join(ARMS), help="which of %(default)s; bare is always run"
    )
    ns = parser.parse_args()
    names = QUICK if ns.quick else tuple(BENCHMARKS)
    turns = ns.turns or (3 if ns.quick else TURNS)
    arms = [name for name in ARMS if name in ns.arms.split(",")]
    if any(arm.startswith("memray") for arm in arms) and find_spec("memray") is None:
        sys.exit(
            "memray is not here: install the dependency group 'bench', or leave it out: --arms"
        )
    environment = child_environment()
    environment["PYTHONPATH"] = str(packages())

    words = {name: script(name, 1) for name in names}
    say("finding the number of loops of each benchmark …")
    for name in names:
        words[name] = script(name, loops(name, environment))
    taken: dict[str, list[dict[str, Run]]] = {name: [] for name in names}
    try:
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns} …")
            for name in names:
                order = ["bare", *arms]
                order = order[turn % len(order) :] + order[: turn % len(order)]
                taken[name].append(
                    {arm: run(ARMS.get(arm, bare), words[name], environment) for arm in order}
                )
    except KeyboardInterrupt:
        whole = min(len(runs) for runs in taken.values())
        if not whole:
            sys.exit("overhead: interrupted before the first turn was over")
        say(f"interrupted: {whole} whole turns are shown")
        taken = {name: runs[:whole] for name, runs in taken.items()}
    result = summary(taken, arms)
    show(result)
    if ns.json:
        ns.json.write_text(json.dumps(result, indent=1) + "\n")


def packages() -> Path:
    """The directory with the benchmarks' packages, made once for this Python."""
    folder = ROOT / "build" / "overhead-packages-{}.{}".format(*sys.version_info)
    if not folder.is_dir():
        say("installing the packages that the benchmarks use, once …")
        files = sorted(
            {
                path
                for script, *_ in BENCHMARKS.values()
                if (path := benchmark_folder(script) / "requirements.txt").exists()
            }
        )
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            wanted = [word for path in files for word in ("-r", str(path))]
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--target", partial, *wanted],
                check=True,
            )
            os.mkdir(folder)
            os.rename(partial, folder)
            os.mkdir(partial)
    return folder


def benchmark_folder(script: str) -> Path:
    spec = find_spec("pyperformance")
    if spec is None or spec.origin is None:
        sys.exit("pyperformance is not here: install the dependency group 'bench'")
    return Path(spec.origin).parent / "data-files" / "benchmarks" / f"bm_{script}"


def script(name: str, loops: int) -> list[str]:
    """The benchmark as the process that pyperf would start to do the work itself."""
    folder, *arguments = BENCHMARKS[name]
    # --worker: no further processes; one value of a fixed number of loops, nothing to warm up.
    worker = ["--worker", "-l", str(loops), "-n", "1", "-w", "0"]
    return [str(benchmark_folder(folder) / "run_benchmark.py"), *worker, *arguments]


def loops(name: str, environment: dict[str, str]) -> int:
    """So many that a bare run takes about RUN_SECONDS over its start-up."""
    one, count = run(bare, script(name, 1), environment).cpu_seconds, 1
    while True:
        count *= 4
        more = run(bare, script(name, count), environment).cpu_seconds - one
        if more > RUN_SECONDS / 8:
            return max(1, round(RUN_SECONDS / more * (count - 1)))


def run(prefix: Prefix, words: list[str], environment: dict[str, str]) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        command = prefix(words, directory)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            words_last = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = words_last.decode(errors="replace") or f"exit code {process.returncode}"
        sys.exit(f"{' '.join(command)} failed:\n{last}")
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_minflt)


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def summary(taken: dict[str, list[dict[str, Run]]], arms: list[str]) -> dict[str, Any]:
    def ratios(name: str, arm: str) -> list[float]:
        return [turn[arm].cpu_seconds / turn["bare"].cpu_seconds for turn in taken[name]]

    def cell(found: Ratio) -> dict[str, float]:
        return {"value": found.value, "low": found.low, "high": found.high}

    turns = len(next(iter(taken.values())))
    rows = {
        name: {
            "bare_seconds": median(turn["bare"].cpu_seconds for turn in runs),
            "page_faults": median(turn["bare"].page_faults for turn in runs),
            "arms": {
                arm: {
                    "ratio": cell(median_interval(ratios(name, arm))),
                    "more_page_faults": median(
                        turn[arm].page_faults - turn["bare"].page_faults for turn in runs
                    ),
                }
                for arm in arms
            },
        }
        for name, runs in taken.items()
    }
    # The mean over the benchmarks within each turn, so that its spread is that of repeating it.
    means = {
        arm: cell(
            median_interval(
                [
                    geometric_mean([ratios(name, arm)[turn] for name in taken])
                    for turn in range(turns)
                ]
            )
        )
        for arm in arms
    }
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {name: version_of(name) for name in ("pyperformance", "pyperf", "memray")},
        "turns": turns,
        "benchmarks": rows,
        "geometric_mean": means,
    }


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def show(result: dict[str, Any]) -> None:
    """As a Markdown table, for docs/benchmarks.md."""

    def text(cell: dict[str, float]) -> str:
        return f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"

    arms = list(result["geometric_mean"])
    print("| CPU time / bare | bare, s |", " | ".join(arms), "| faults, bare | poolwise |")
    print("|---|---|" + "---|" * len(arms) + "---|---|")
    for name, row in result["benchmarks"].items():
        cells = [text(row["arms"][arm]["ratio"]) for arm in arms]
        more = row["arms"].get("poolwise", {}).get("more_page_faults", math.nan)
        print(
            f"| {name} | {row['bare_seconds']:.2f} |", " | ".join(cells),
            f"| {row['page_faults']:.0f} | {more:+.0f} |",
        )  # fmt: skip
    means = [f"**{text(cell)}**" for cell in result["geometric_mean"].values()]
    print("| **geometric mean** | |", " | ".join(means), "| | |")
    about = {**result["machine"], **result["versions"]}
    print(f"\n{result['turns']} turns, median and its interval;", end=" ")
    print("; ".join(f"{name} {' '.join(value.split())}" for name, value in about.items()))


def say(sentence: str) -> None:
    print(f"overhead: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
