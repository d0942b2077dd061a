"""Allocation against pool: where reuse pays on this machine, and where it loses.

Every case is measured in pairs of fresh processes, one that allocates and one that pools, and the
pairs of one case lie far apart. What is compared is CPU time a thing made, written and dropped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from poolwise.advise.calibrate import machine
from poolwise.bench.fresh import Progress, pyplot, run_fresh, save
from poolwise.bench.ratios import Ratio, median_interval

KIB, MIB = 1 << 10, 1 << 20
BUFFERS = ("bytearray", "numpy.empty")
OBJECTS = ("slotted class", "dataclass, list, dict")
SIZES = (16, KIB, 16 * KIB, 128 * KIB, MIB, 8 * MIB)
QUICK_SIZES = (16, MIB)
SETTINGS_FROM = 128 * KIB  # below, glibc's thresholds are not reached by four blocks
ALIVE = (1, 4)
PAIRS = 9  # the fewest whose 95 % interval leaves out the most disturbed pair at each end


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What both arms of a pair do. `size` is in bytes, None for objects."""

    kind: str
    size: int | None
    alive: int
    settings: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case, untouched or written: pool over allocation, seconds and page faults a thing."""

    kind: str
    size: int | None
    alive: int
    settings: bool
    write: str
    ratio: Ratio
    allocation_seconds: float
    pool_seconds: float
    allocation_faults: float
    pool_faults: float

    @property
    def outcome(self) -> str:
        """Whether the pool "wins" or "loses", or "no difference" where the interval holds 1."""
        if self.ratio.undecided:
            return "no difference"
        return "wins" if self.ratio.value < 1 else "loses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paradox:
    """The whole table, with the machine that it was measured on."""

    machine: dict[str, str]
    pairs: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json`."""
        rows = [{**asdict(row), "outcome": row.outcome} for row in self.rows]
        return {"schema": 1, "machine": self.machine, "pairs": self.pairs, "rows": rows}


def cases(*, quick: bool = False, numpy: bool = True) -> list[Case]:
    """All cases; `quick` leaves those that show the paradox best."""
    chosen = []
    for kind in BUFFERS[: 1 if quick or not numpy else 2]:
        for size in QUICK_SIZES if quick else SIZES:
            for alive in ALIVE:
                for settings in (False, True) if size >= SETTINGS_FROM else (False,):
                    chosen.append(Case(kind=kind, size=size, alive=alive, settings=settings))
    for kind in OBJECTS:
        for alive in ALIVE[: 1 if quick else 2]:
            chosen.append(Case(kind=kind, size=None, alive=alive, settings=False))
    return chosen


def measure(chosen: list[Case], *, pairs: int = PAIRS, progress: Progress) -> Paradox:
    """Run every case `pairs` times in two fresh processes. Raises BenchError."""
    taken: dict[Case, list[tuple[Any, Any]]] = {case: [] for case in chosen}
    done, total = 0, pairs * len(chosen)
    for turn in range(pairs):
        for case in chosen:
            progress(done, total)
            arms: dict[bool, Any] = {}
            for pooled in (False, True) if turn % 2 == 0 else (True, False):
                arms[pooled] = run_child(case, pooled)
            taken[case].append((arms[False], arms[True]))
            done += 1
    progress(total, total)
    rows = [
        _row(case, write, [(a[write], b[write]) for a, b in taken[case]])
        for case in chosen
        for write in taken[case][0][0]
    ]
    return Paradox(machine=machine(), pairs=pairs, rows=tuple(rows))


def run_child(case: Case, pooled: bool) -> dict[str, list[float]]:
    """One arm in a fresh process: {"untouched" | "written": [seconds, page faults]}."""
    spec = find_spec("poolwise.bench._paradox_child")
    assert spec is not None
    assert spec.origin is not None
    arm = "pool" if pooled else "allocation"
    arguments = json.dumps({**asdict(case), "pooled": pooled})
    result: dict[str, list[float]] = run_fresh(
        spec.origin, arguments, what=f"the {arm} arm of {case}"
    )
    return result


def _row(case: Case, write: str, pairs: list[tuple[list[float], list[float]]]) -> Row:
    return Row(
        **asdict(case),
        write=write,
        ratio=median_interval([pool[0] / plain[0] for plain, pool in pairs]),
        allocation_seconds=median(plain[0] for plain, _ in pairs),
        pool_seconds=median(pool[0] for _, pool in pairs),
        allocation_faults=median(plain[1] for plain, _ in pairs),
        pool_faults=median(pool[1] for _, pool in pairs),
    )


def plot(paradox: Paradox, path: Path) -> None:
    """Draw the buffers' ratios over the size, to `path`, in the format that its ending names.

    Raises UsageError if matplotlib is not there or `path` cannot be written.
    """
    kinds = [kind for kind in BUFFERS if any(row.kind == kind for row in paradox.rows)]
    figure, axes = pyplot().subplots(
        len(kinds), len(ALIVE), squeeze=False, sharex=True, sharey=True,
        figsize=(9, 0.5 + 3.2 * len(kinds)), layout="constrained",
    )  # fmt: skip
    styles = {
        ("written", False): ("glibc as it comes, written", "#c0392b", "-"),
        ("written", True): ("thresholds set, written", "#2471a3", "-"),
        ("untouched", False): ("glibc as it comes, untouched", "#c0392b", ":"),
        ("untouched", True): ("thresholds set, untouched", "#2471a3", ":"),
    }
    for kind, line in zip(kinds, axes, strict=True):
        for alive, axis in zip(ALIVE, line, strict=True):
            for (write, settings), (label, colour, style) in styles.items():
                rows = [
                    row for row in paradox.rows
                    if (row.kind, row.alive, row.write, row.settings)
                    == (kind, alive, write, settings) and row.size is not None
                ]  # fmt: skip
                sizes = [row.size or 0 for row in rows]
                axis.plot(
                    sizes, [row.ratio.value for row in rows],
                    color=colour, linestyle=style, marker=".", label=label,
                )  # fmt: skip
                axis.fill_between(
                    sizes, [row.ratio.low for row in rows], [row.ratio.high for row in rows],
                    color=colour, alpha=0.15, linewidth=0,
                )  # fmt: skip
            axis.axhline(1, color="black", linewidth=0.8)
            axis.set(xscale="log", yscale="log", title=f"{kind}, {alive} alive")
            axis.set_xticks([1 << bits for bits in range(4, 24, 4)])
            axis.set_xticklabels(["16 B", "256 B", "4 KiB", "64 KiB", "1 MiB"])
            axis.minorticks_off()
    for line in axes:
        line[0].set_ylabel("pool / allocation, CPU time")
    axes[0][0].legend(fontsize="small")
    about = paradox.machine
    figure.suptitle(
        f"above 1 the pool loses ({about['cpu']}, {about['libc']}, "
        f"Python {about['python'].split()[0]}, {about['build']})",
        fontsize="medium",
    )
    save(figure, path)
