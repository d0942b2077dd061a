"""Measure on this machine where pooling beats allocation, and where it loses.

examples:
  poolwise bench paradox --quick
  poolwise bench paradox --json paradox.json --plot paradox.svg
  poolwise bench paths
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from poolwise.bench.paradox import Case, Paradox, Row
from poolwise.bench.ratios import Ratio
from poolwise.cli.calibrate import size_text
from poolwise.errors import UsageError

if TYPE_CHECKING:
    from poolwise.bench.fresh import Progress
    from poolwise.bench.tables import Result

TABLE_WIDTH = 140  # of a table that is not shown on a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_subparsers(
        dest="bench", metavar="BENCH", required=True, prog="poolwise bench"
    )
    paradox = which.add_parser(
        "paradox",
        help="allocation against pool, by kind, size and number alive at once",
        description="Allocation against pool, in pairs of fresh processes: about two minutes.",
        allow_abbrev=False,
    )
    _add_outputs(paradox, "two sizes only, about 20 seconds")
    for name, (what, minutes) in TABLES.items():
        table = which.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}: fresh processes in turn, {minutes}.",
            allow_abbrev=False,
        )
        _add_outputs(table, "a few cases, two rounds")


TABLES = {
    "sizes": ("hit rate, mean and P99 latency from 16 B to 1 MiB", "about two minutes"),
    "paths": ("what each path of get and put costs", "about a minute"),
    "trims": ("what each trim policy keeps and costs", "about a minute"),
    "sharing": ("atomics and false sharing, with plain C threads", "about four minutes"),
}


def _add_outputs(parser: argparse.ArgumentParser, quick: str) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw them to FILE (.svg, .png; extra 'plot')"
    )
    parser.add_argument("--quick", action="store_true", help=quick)


def run(ns: argparse.Namespace) -> int:
    if ns.plot is not None and ns.plot.suffix not in (".svg", ".png", ".pdf"):
        raise UsageError(f"--plot {ns.plot}: use a name that ends in .svg, .png or .pdf")
    for path in (ns.json, ns.plot):
        _check_writable(path)
    if ns.plot is not None and find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: install it with pip install 'poolwise[plot]'")
    return _run_paradox(ns) if ns.bench == "paradox" else _run_table(ns)


def _run_table(ns: argparse.Namespace) -> int:
    from poolwise.bench import tables

    with _progress(f"bench {ns.bench}, fresh processes in turn …") as progress:
        result = tables.measure(ns.bench, quick=ns.quick, progress=progress)
    show_table(result)
    if ns.json is not None:
        ns.json.write_text(json.dumps(result.to_json(), indent=1) + "\n")
    if ns.plot is not None:
        tables.plot(result, ns.plot)
    return 0


@contextmanager
def _progress(sentence: str) -> Iterator[Progress]:
    """A bar on standard error; where that is no terminal, the sentence."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"poolwise: {sentence}", file=sys.stderr)
    columns = TextColumn("fresh processes"), BarColumn(), TimeRemainingColumn()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_table(result: Result) -> None:
    """Print a row a case: medians over the rounds, with their intervals."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from poolwise.bench import tables

    bench = tables.load(result.bench)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=TABLE_WIDTH)
    table = Table(title=bench.TITLE, title_justify="left", box=box.SIMPLE_HEAD)
    for title in result.rows[0].case:
        table.add_column(title, no_wrap=True)
    for title in bench.FIGURES.values():
        table.add_column(title, justify="right")
    for row in result.rows:
        named = [
            size_text(value) if name == "size" and isinstance(value, int) else str(value)
            for name, value in row.case.items()
        ]
        table.add_row(*named, *(escape(_figure(row.figures[name])) for name in bench.FIGURES))
    console.print(table)
    console.print(
        f"Median of {result.rounds} rounds of fresh processes, with its interval where it is not "
        f"the same to three digits. {bench.NOTE}"
    )
    for name, value in result.machine.items():
        console.print(f"{name:>10}  {' '.join(value.split())}", markup=False)


def _figure(figure: Ratio | None) -> str:
    if figure is None:
        return "-"
    low, value, high = (f"{x:.3g}" for x in (figure.low, figure.value, figure.high))
    return value if low == high else f"{value} [{low}, {high}]"


def _run_paradox(ns: argparse.Namespace) -> int:
    from poolwise.bench import paradox

    numpy = find_spec("numpy") is not None
    if not numpy and not ns.quick:
        print(
            "poolwise: numpy is not here, so numpy.empty is left out; "
            "pip install 'poolwise[numpy]' brings it",
            file=sys.stderr,
        )
    result = _measured(paradox.cases(quick=ns.quick, numpy=numpy))
    show(result)
    if ns.json is not None:
        ns.json.write_text(json.dumps(result.to_json(), indent=1) + "\n")
    if ns.plot is not None:
        paradox.plot(result, ns.plot)
    return 0


def _check_writable(path: Path | None) -> None:
    """Before minutes of measuring, not after. Raises UsageError; leaves no file behind."""
    if path is None:
        return
    is_new = not path.exists()
    try:
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}): name another file") from None


def _measured(chosen: list[Case]) -> Paradox:
    from poolwise.bench import paradox

    with _progress(f"{paradox.PAIRS} pairs of each of {len(chosen)} cases …") as progress:
        return paradox.measure(chosen, progress=progress)


def show(result: Paradox) -> None:
    """Print the table: a row a case, the two regimes of malloc side by side."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=TABLE_WIDTH)
    table = Table(
        title="pool / allocation, CPU time; below 1 the pool wins",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for title in ("kind", "size", "alive", "pages"):
        justify: Literal["right", "left"] = "right" if title in ("size", "alive") else "left"
        table.add_column(title, justify=justify, no_wrap=True)
    for title in ("glibc as it comes", "thresholds set"):
        table.add_column(title, no_wrap=True)
        table.add_column("faults", no_wrap=True)
    by_case: dict[tuple[str, int | None, int, str], dict[bool, Row]] = {}
    for row in result.rows:
        by_case.setdefault((row.kind, row.size, row.alive, row.write), {})[row.settings] = row
    for (kind, size, alive, write), rows in by_case.items():
        cells = []
        for settings in (False, True):
            cells += _cells(rows[settings]) if settings in rows else ["", ""]
        named = "" if size is None else size_text(size)
        table.add_row(kind, named, str(alive), write, *cells)
    console.print(table)
    losing = sum(row.outcome == "loses" for row in result.rows)
    even = sum(row.outcome == "no difference" for row in result.rows)
    console.print(
        f"pooling loses in {losing} of {len(result.rows)} cases, and makes no difference in "
        f"{even}. Median of {result.pairs} pairs of fresh processes, with its interval (95 % or "
        "more); page faults a thing, allocation → pool."
    )
    for name, value in result.machine.items():
        console.print(f"{name:>10}  {' '.join(value.split())}", markup=False)
    console.print("next: poolwise advise my_program.py")


def _cells(row: Row) -> list[str]:
    from rich.markup import escape

    style, mark = {
        "loses": ("bold red", "  LOSES"),
        "no difference": ("dim", "  ="),
        "wins": ("green", ""),
    }[row.outcome]
    before, after = (f"{faults:.0f}" for faults in (row.allocation_faults, row.pool_faults))
    ratio = escape(f"{row.ratio}{mark}")
    return [f"[{style}]{ratio}[/]", f"{before} → {after}" if before != after else before]
