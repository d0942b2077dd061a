"""A comparison of two recordings, as a table for people."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

from poolwise.profile import budgets, diff
from poolwise.profile.estimates import Interval, difference, ratio

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 110
PARTS = (  # what differs, in words for one site and for several, more and less
    (("objects", "churn"), ("churns more", "churn more"), ("churns less", "churn less")),
    (("held", "peak", "left"), ("holds more", "hold more"), ("holds less", "hold less")),
    (
        ("lifetime", "lifetime_bytes"),
        ("lives longer", "live longer"),
        ("lives shorter", "live shorter"),
    ),
)


def show(
    comparison: diff.Comparison,
    wanted: list[budgets.Budget],
    spent: list[budgets.Spent],
    top: int,
) -> None:
    """Print the comparison, at most `top` sites a part, the budgets, and what to type next."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(
        width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False
    )
    old, new = comparison.old, comparison.new
    console.print(
        f"[bold]poolwise diff[/bold] {escape(old.directory)} {escape(new.directory)}: "
        f"{old.cpu_seconds:.2f} → {new.cpu_seconds:.2f} s of CPU"
    )
    _print_rows(console, "the whole program", [(comparison.program, list(diff.QUANTITIES))],
                comparison, diff.ERROR)  # fmt: skip
    listed = False
    for names, *words in PARTS:
        for more, (singular, plural) in zip((True, False), words, strict=True):
            rows = _listed(comparison, names, more)
            if rows:
                listed = True
                title = f"1 site {singular}" if len(rows) == 1 else f"{len(rows)} sites {plural}"
                if top < len(rows):
                    title += f", the first {top}"
                _print_rows(console, title, rows[:top], comparison, comparison.error)
    if not listed:
        console.print("\nno site differs by more than the sampling explains")
    for side, name in ((old, "OLD"), (new, "NEW")):
        if side.cut_short:
            console.print(f"note: {name} was cut short: what it lost counts as alive")
    _print_budgets(console, wanted, spent)
    console.print(f"next: {_next(comparison, spent)}", soft_wrap=True, markup=False)


def _listed(
    comparison: diff.Comparison, names: tuple[str, ...], more: bool
) -> list[tuple[diff.Row, list[str]]]:
    """The sites that differ in one of these, those that differ most first."""
    listed: list[tuple[float, diff.Row, list[str]]] = []
    for row in comparison.rows:
        found = [
            name
            for name in names
            if name in row.differing and (_change(row, name).value > 0) == more
        ]
        if found:
            # Bytes are comparable between sites, lifetimes only as ratios.
            by = _share if "lifetime" in names else _change
            size = max(abs(by(row, name).value) for name in names if name != "objects")
            listed.append((size, row, found))
    listed.sort(key=lambda entry: -entry[0])
    return [(row, found) for _, row, found in listed]


def _change(row: diff.Row, name: str) -> Interval:
    pair = row.pairs[name]
    return difference(pair.new.interval(diff.ERROR), pair.old.interval(diff.ERROR))


def _share(row: diff.Row, name: str) -> Interval:
    pair = row.pairs[name]
    share = ratio(pair.new.interval(diff.ERROR), pair.old.interval(diff.ERROR))
    return share if share.value >= 1 else Interval(*(1 / max(part, 1e-9) for part in share))


def _print_rows(
    console: Console,
    title: str,
    rows: list[tuple[diff.Row, list[str]]],
    comparison: diff.Comparison,
    error: float,
) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(title, style="bold"), overflow="fold")
    for heading in ("", "old", "new", "change, 95 %"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for row, names in rows:
        first = True
        for name in names:
            if name not in row.pairs:
                continue
            pair = row.pairs[name]
            old, new = pair.old.interval(error), pair.new.interval(error)
            rate = comparison.per_cpu_second and name in ("objects", "churn")
            suffix = "/s" if rate else ""
            style = "" if name not in row.differing else (
                "red" if new.value > old.value else "green")  # fmt: skip
            table.add_row(
                Text(where(row) if first else "", style="cyan"),
                name,
                _amount(old.value, name) + suffix,
                _amount(new.value, name) + suffix,
                Text(_change_text(old, new, name), style=style),
            )
            first = False
    console.print(table)


def where(row: diff.Row) -> str:
    """A site in words: function, file and line, expression and type; or a whole function."""
    group = row.groups[0]
    if not group.file:
        return ""
    if group.line is None and not group.kind:
        return f"{group.function} {os.path.basename(group.file)}"
    text = group.expression
    if len(text) > 60:
        text = text[:57] + "…"
    state = "" if len(row.groups) == 2 else " (new)" if row.new is not None else " (gone)"
    types = [g.type for g in reversed(row.groups) if g.type]
    made = f" ({' → '.join(dict.fromkeys(types))})" if types else ""
    return f"{group.function} {os.path.basename(group.file)}:{group.line}: {text}{made}{state}"


def _amount(value: float, name: str) -> str:
    """A value in words, to three digits."""
    if math.isinf(value):
        return "longer"
    unit = diff.QUANTITIES[name].unit
    if unit == "objects":
        return f"{value:,.0f}"
    step, units = (1024, ("B", "KiB", "MiB")) if unit == "bytes" else (1000, ("ns", "µs", "ms"))
    for word in units:
        if value < step:
            return f"{value:.{_digits(value)}f} {word}"
        value /= step
    return f"{value:.{_digits(value)}f} {'GiB' if unit == 'bytes' else 's'}"


def _digits(value: float) -> int:
    """How many digits behind the point make three in all."""
    return 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2


def _change_text(old: Interval, new: Interval, name: str) -> str:
    share = ratio(new, old)
    if math.isfinite(share.value) and share.value > 0 and old.value > 0:
        if share.value > 10:
            high = f"{share.high:,.0f}" if math.isfinite(share.high) else "…"
            return f"{share.value:,.0f} times [{share.low:,.0f}, {high}]"
        high = f"{100 * (share.high - 1):+.1f}" if math.isfinite(share.high) else "…"
        return f"{100 * (share.value - 1):+.1f} % [{100 * (share.low - 1):+.1f}, {high}]"
    change = difference(new, old)
    low, value, high = (_signed(part, name) for part in (change.low, change.value, change.high))
    return f"{value} [{low}, {high}]"


def _signed(value: float, name: str) -> str:
    if math.isinf(value):
        return "…"
    return ("-" if value < 0 else "+") + _amount(abs(value), name)


def _print_budgets(
    console: Console, wanted: list[budgets.Budget], spent: list[budgets.Spent]
) -> None:
    from rich.text import Text

    if wanted:
        console.print()
    for budget in wanted:
        places = [one for one in spent if one.budget is budget]
        exceeded = [one for one in places if one.exceeded]
        for one in exceeded:
            place = where(one.row) or "the whole program"
            name = budget.quantity.name
            console.print(
                Text.assemble(
                    ("exceeded", "bold red"),
                    f": budget {budget.text}: {budget.quantity.meaning} "
                    f"{_amount(one.old.value, name)} → {_amount(one.new.value, name)}, "
                    f"{_change_text(one.old, one.new, name)}: {place}",
                ),
                soft_wrap=True,
            )
        if not places:
            console.print(Text(f"kept: budget {budget.text}: no site in such a function"))
        elif not exceeded:
            console.print(Text(f"kept: budget {budget.text}"))


def _next(comparison: diff.Comparison, spent: list[budgets.Spent]) -> str:
    if any(one.exceeded for one in spent) or any(row.differing for row in comparison.rows):
        return f"poolwise report {comparison.new.directory}"
    return "nothing: they are as alike as their samples can tell"
