"""What the small benches share: cases in fresh processes, in turn, and a table of medians.

A bench is a module of this package with TITLE, NOTE (what to know of the figures), FIGURES (name to
what it is), `cases(quick)` and `run(case)`; `run` is called in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from poolwise.advise.calibrate import machine
from poolwise.bench.fresh import Progress, pyplot, run_fresh, save
from poolwise.bench.ratios import Ratio, median_interval

NAMES = ("sizes", "paths", "trims", "sharing")
ROUNDS, QUICK_ROUNDS = 9, 2

Case = dict[str, str | int]
Figures = dict[str, float | None]


class Bench(Protocol):
    """A module of this package that measures one table."""

    TITLE: str
    NOTE: str
    FIGURES: dict[str, str]

    @staticmethod
    def cases(quick: bool) -> list[Case]:
        """What to measure."""

    @staticmethod
    def run(case: Case) -> Figures:
        """Measure one case in this process; None: not on this build."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case and its figures: median over the rounds, with its interval."""

    case: Case
    figures: dict[str, Ratio | None]


@dataclass(frozen=True, slots=True)
class Result:
    """A whole table, with the machine that it was measured on."""

    bench: str
    machine: dict[str, str]
    rounds: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json`."""
        return {"schema": 1, **asdict(self)}


def load(name: str) -> Bench:
    """The bench of that name."""
    module: Any = importlib.import_module(f"poolwise.bench.{name}")
    bench: Bench = module
    return bench


def measure(name: str, *, quick: bool, progress: Progress) -> Result:
    """Run every case once a round, each time in a fresh process. Raises BenchError."""
    chosen = load(name).cases(quick)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    taken: list[list[Figures]] = [[] for _ in chosen]
    total = rounds * len(chosen)
    for turn in range(rounds):
        for at, case in enumerate(chosen):
            progress(turn * len(chosen) + at, total)
            taken[at].append(_in_process(name, case))
    progress(total, total)
    rows = [Row(case, _summary(figures)) for case, figures in zip(chosen, taken, strict=True)]
    return Result(name, machine(), rounds, tuple(rows))


def _in_process(name: str, case: Case) -> Figures:
    figures: Figures = run_fresh(
        "-m", "poolwise.bench.tables", name, json.dumps(case), what=f"bench {name}: {case}"
    )
    return figures


def _summary(taken: list[Figures]) -> dict[str, Ratio | None]:
    summary: dict[str, Ratio | None] = {}
    for name in taken[0]:
        values = [value for figures in taken if (value := figures[name]) is not None]
        summary[name] = median_interval(values) if values else None
    return summary


def plot(result: Result, path: Path) -> None:
    """Draw the figures as bars to `path`, a panel a figure, in the format its ending names.

    Raises UsageError if matplotlib is not there or `path` cannot be written.
    """
    bench = load(result.bench)
    labels = [" ".join(str(value) for value in row.case.values()) for row in result.rows]
    figure, axes = pyplot().subplots(
        1, len(bench.FIGURES), squeeze=False, sharey=True,
        figsize=(3 + 2.5 * len(bench.FIGURES), 1 + 0.22 * len(labels)), layout="constrained",
    )  # fmt: skip
    for axis, (name, what) in zip(axes[0], bench.FIGURES.items(), strict=True):
        drawn = [(at, row.figures[name]) for at, row in enumerate(result.rows)]
        shown = [(at, figure) for at, figure in drawn if figure is not None]
        axis.barh(
            [at for at, _ in shown], [figure.value for _, figure in shown], color="#2471a3",
            xerr=[
                [figure.value - figure.low for _, figure in shown],
                [figure.high - figure.value for _, figure in shown],
            ],
        )  # fmt: skip
        axis.set_title(what, fontsize="small")
        axis.set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes[0][0].invert_yaxis()
    figure.suptitle(bench.TITLE, fontsize="medium")
    save(figure, path)


if __name__ == "__main__":
    print(json.dumps(load(sys.argv[1]).run(json.loads(sys.argv[2]))))
