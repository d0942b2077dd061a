"""Measure again what memory costs on this machine, and show the prices.

All verdicts are differences of these prices. They are measured once, in fresh child processes,
and kept in the user's cache; do it again after a change of hardware settings that poolwise cannot
see, or when the machine was busy the first time.

examples:
  poolwise calibrate
  poolwise calibrate --json prices.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from poolwise.advise import calibrate
from poolwise.advise.calibrate import Calibration, Price
from poolwise.errors import UsageError

_SIZES = (32 << 10, 512 << 10, 8 << 20, 64 << 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write the prices as JSON instead of a table, to FILE or to standard output",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=calibrate.SECONDS,
        help="about how long to measure (default %(default)g); less gives wider ranges",
    )


def run(ns: argparse.Namespace) -> int:
    calibration = calibrate.load(refresh=True, seconds=ns.seconds)
    if ns.json is None:
        show(calibration)
        return 0
    text = json.dumps(calibration.to_json(), indent=1)
    if ns.json == "-":
        print(text)
        return 0
    try:
        Path(ns.json).write_text(text + "\n")
    except OSError as error:
        raise UsageError(
            f"cannot write {ns.json} ({error.strerror}): name another file with --json"
        ) from None
    return 0


def show(calibration: Calibration) -> None:
    """Print the prices as two tables."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    by_size = Table(
        title="by size of the block; a page is 4 KiB", box=box.SIMPLE_HEAD, title_justify="left"
    )
    by_size.add_column("")
    for size in _SIZES:
        by_size.add_column(size_text(size), justify="right")
    sized: list[tuple[str, Callable[[int], Price]]] = [
        ("fresh page", calibration.fault),
        ("  threads run", lambda size: calibration.fault(size, threads=True)),
        ("  huge pages", lambda size: calibration.fault(size, huge=True)),
        ("zero", calibration.zero),
        ("copy", calibration.copy),
        ("malloc, free", calibration.allocate),
    ]
    for title, price_of in sized:
        by_size.add_row(title, *(price_text(price_of(size)) for size in _SIZES))
    console.print(by_size)

    single = Table(title="by itself", show_header=False, box=box.SIMPLE_HEAD, title_justify="left")
    single.add_column("")
    single.add_column("", justify="right")
    for title, price in [
        ("a bytearray without its block", calibration.prices["object"]),
        ("an object of a slotted class", calibration.construct_overhead),
        ("Pool get, put", calibration.pool_pair),
        ("  a reset in Python adds", calibration.pool_reset),
        ("  with lease()", calibration.pool_lease),
        ("BufferPool acquire, drop", calibration.buffer_pair),
        ("young collection, an object", calibration.gc_object()),
        ("full collection, an object", calibration.gc_object(full=True)),
    ]:
        single.add_row(title, price_text(price).replace("\n", "  "))
    console.print(single)
    for name, value in calibration.machine.items():
        console.print(f"{name:>10}  {' '.join(value.split())}", markup=False)
    console.print("next: poolwise advise my_program.py")


def size_text(size: int) -> str:
    """1536 as "1.5 KiB"."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def price_text(price: Price) -> str:
    """A price with its range below it, in the unit that its value reads best in."""
    unit, factor = next(
        (unit, factor)
        for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 0.0))
        if price.value >= factor
    )
    value, low, high = (
        _three_digits(x / (factor or 1e-9)) for x in (price.value, price.low, price.high)
    )
    return f"{value} {unit}\n[{low}, {high}]"


def _three_digits(number: float) -> str:
    return (
        f"{number:#.3g}"
        if 1 <= number < 99.95
        else f"{number:.0f}"
        if number > 1
        else f"{number:.3g}"
    )
