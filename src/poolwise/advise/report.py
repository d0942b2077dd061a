"""The advice, as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

from poolwise.advise.verdicts import (
    DONT,
    RECORD_LONGER,
    SETTINGS,
    Advice,
    Verdict,
    size_text,
    time_text,
)
from poolwise.profile.life import Life
from poolwise.profile.sites import Site

SCHEMA = 1
PIPE_WIDTH = 110
ANOTHER_THREAD = 0.95  # of all blocks: a line says so where fewer are freed by their own
STYLES = {DONT: "dim", RECORD_LONGER: "yellow"}


def to_json(advice: Advice, program: Sequence[str]) -> dict[str, Any]:
    """The report as plain values; the schema is versioned and documented in docs/reports.md."""
    return {
        "schema": SCHEMA,
        "program": list(program),
        "cpu_seconds": advice.cpu_seconds,
        "page_faults": advice.page_faults,
        "verdicts": [_verdict_json(verdict) for verdict in advice.verdicts],
        "notes": advice.notes,
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    site = verdict.site
    return {
        "verdict": verdict.verdict,
        "site": None
        if site is None
        else {
            "function": site.function,
            "file": site.file,
            "line": site.position.line,
            "expression": site.expression,
            "type": site.type,
        },
        "gain": {
            "value": verdict.gain.value,
            "low": verdict.gain.low,
            "high": verdict.gain.high,
            "unit": "cpu_seconds_per_cpu_second",
        },
        "memory_bytes": verdict.memory_bytes,
        "capacity": verdict.capacity,
        "hit_bound": None if verdict.bounds is None else verdict.bounds.hit,
        "reuse_bound": None if verdict.bounds is None else verdict.bounds.reuse,
        "reason": verdict.reason,
        "code": verdict.code,
        **_life_json(verdict.life),
    }


def _life_json(life: Life | None) -> dict[str, Any]:
    if life is None:
        return dict.fromkeys(
            ("lifetimes", "same_thread_share", "collected_share", "captured_by", "freed_by")
        )
    return {
        "lifetimes": {
            clock: {"median": quantiles.median, "p99": quantiles.p99}
            for clock, quantiles in life.clocks.items()
        },
        "same_thread_share": life.same_thread_share,
        "collected_share": life.collected_share,
        "captured_by": None if life.captured_by is None else life.captured_by._asdict(),
        "freed_by": [frame._asdict() for frame in life.freed_by],
    }


def write_json(file: IO[str], advice: Advice, program: Sequence[str]) -> None:
    """Write the report as JSON."""
    json.dump(to_json(advice, program), file, indent=2, ensure_ascii=False)
    file.write("\n")


def print_table(advice: Advice, program: Sequence[str], stream: IO[str] | None = None) -> None:
    """Print the verdicts, what to write, and what to type next."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    stream = stream or sys.stderr
    console = Console(
        file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False
    )
    console.print(
        f"\n[bold]poolwise[/bold]: {escape(' '.join(program))}: {advice.cpu_seconds:.2f} s of CPU, "
        f"{advice.page_faults:,} page faults"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("gain, 95 %", justify="right", no_wrap=True)
    table.add_column("keep", justify="right", no_wrap=True)
    table.add_column("holds", justify="right", no_wrap=True)
    table.add_column("where and why")
    for verdict in advice.verdicts:
        style = (
            "dim" if verdict.verdict == DONT else "yellow" if _is_open(verdict) else "bold green"
        )
        why = Text()
        why.append(_where(verdict), style="cyan")
        why.append(f"\n{verdict.reason}")
        if verdict.site is not None and verdict.life is not None:
            why.append(f"\n{life_text(verdict.site, verdict.life)}", style="dim")
        table.add_row(
            Text(verdict.verdict, style=style),
            str(verdict.gain),
            str(verdict.capacity) if verdict.capacity else "-",
            size_text(verdict.memory_bytes) if verdict.memory_bytes else "-",
            why,
        )
    console.print(table)
    for verdict in advice.verdicts:
        if verdict.code and verdict.site is not None:
            console.print(f"\n[bold]{verdict.verdict}[/bold] {escape(_where(verdict))}")
            for line in verdict.code.splitlines():
                console.print(Text("    " + line))
            if verdict.bounds is not None:
                console.print(
                    f"    hit bound {verdict.bounds.hit:.1%} with {verdict.capacity} kept, "
                    f"reuse bound {verdict.bounds.reuse:.1%}"
                )
    for note in advice.notes:
        console.print(f"note: {escape(note)}")
    console.print(f"next: {escape(next_step(advice, program))}", soft_wrap=True)


def next_step(advice: Advice, program: Sequence[str]) -> str:
    """What to type next."""
    words = " ".join(program)
    for verdict in advice.verdicts:
        if verdict.verdict == SETTINGS:
            remedy = verdict.code.split()[3]
            return f"poolwise try --with {remedy} {words}"
    if any(v.site is not None and v.code for v in advice.verdicts):
        return f"change a copy as shown, then poolwise try --against THE_COPY {words}"
    if any(_is_open(verdict) for verdict in advice.verdicts):
        return "run it for longer, as the lines above say, and advise again"
    return "nothing: reuse would not pay in this program"


def life_text(site: Site, life: Life) -> str:
    """How the blocks of a site live, on the clock that matters, and what is unusual about it."""
    if life.collected_share > 0.5:
        median = life.clocks["collections"].median
        after = "" if median is None else f", half within {median:.0f} collections"
        said = [f"the collector frees {100 * life.collected_share:.0f} %{after}"]
    else:
        time = life.clocks["ns"]
        if time.median is None:
            said = ["most outlive the recording"]
        else:
            most = "" if time.p99 is None else f", 99 % at most {time_text(time.p99)}"
            said = [f"half live {time_text(time.median)}{most}"]
    if life.same_thread_share < ANOTHER_THREAD:
        said.append(f"{100 * (1 - life.same_thread_share):.0f} % are freed by another thread")
    scope = life.captured_by
    if scope is not None and scope.function != site.function:
        said.append(f"freed within {scope.function} {os.path.basename(scope.file)}:{scope.line}")
    return "; ".join(said)


def _is_open(verdict: Verdict) -> bool:
    return verdict.verdict == RECORD_LONGER


def _where(verdict: Verdict) -> str:
    site = verdict.site
    if site is None:
        return "the whole program"
    expression = site.expression
    if len(expression) > 60:
        expression = expression[:57] + "…"
    made = f" ({site.type})" if site.type else ""
    return f"{site.function} {os.path.basename(site.file)}:{site.position.line}: {expression}{made}"
