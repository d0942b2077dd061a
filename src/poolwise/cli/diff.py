"""Compare two recordings: which sites churn more, hold more, live longer.

OLD and NEW are directories that `poolwise profile -o` wrote. A site is told by its function, the
text of its expression and the kind of memory, so lines may have moved. What is compared:

  objects, churn        allocations and bytes allocated (in total, or --per-cpu-second)
  held, peak, left      bytes alive: on average (over all that is allocated, so that the machine's
                        speed does not matter), at most, and still at the end
  lifetime, lifetime_bytes
                        the time that half of the allocations outlive (Kaplan-Meier), and how
                        much is allocated meanwhile, which does not depend on the machine's speed

Each with an interval for what the sampling leaves open; how else two runs of a program differ is
not in it. Many sites are compared, so those listed are chosen by Benjamini and Hochberg's rule: of
all that are listed, one in twenty on average differs by chance. Their intervals allow for that.
held and lifetime_bytes, which move with what else is allocated, are listed from a quarter on,
lifetime, which moves with the machine, from a factor of four.

A budget says how much something may grow: [FUNCTION:]QUANTITY=LIMIT, several with commas. LIMIT is
a share of what it was (10%) or an amount (500, 5MiB, 20ms). Without FUNCTION it is about the whole
program; with it, about each function of that name, where * stands for anything. A budget is
exceeded if the whole interval is beyond it; the intervals of all budgets together are wrong in at
most one of twenty comparisons. What is new exceeds any share of what it was.

Exit status: 0; 1 if a budget is exceeded; 2 if something given cannot be used.

examples:
  poolwise diff base.rec head.rec
  poolwise diff base.rec head.rec --budget churn=10%,held=5MiB,*:left=1MiB --json diff.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from poolwise.cli import _diff_table
from poolwise.errors import UsageError
from poolwise.profile import budgets, diff, meta, recording
from poolwise.profile.estimates import Interval, difference, ratio

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to compare, and what may have grown."""
    parser.add_argument("old", type=Path, metavar="OLD", help="the recording to compare with")
    parser.add_argument("new", type=Path, metavar="NEW", help="the recording that is judged")
    parser.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="BUDGETS",
        help="exit with 1 if something grew by more, as in churn=10%%,held=5MiB (see above)",
    )
    parser.add_argument(
        "--per-cpu-second",
        action="store_true",
        help="objects and churn by second of CPU time, for servers and other endless programs",
    )
    parser.add_argument(
        "--top", type=_number, default=10, metavar="N", help="list at most N sites a part (10)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to FILE")


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of sites; give 0 or more")
    return int(text)


def run(ns: argparse.Namespace) -> int:
    """Compare, print, and return the exit status."""
    wanted = [budget for text in ns.budget for budget in budgets.parse(text)]
    old, new = (
        diff.read_side(recording.read(path), meta.read(path).own_code) for path in (ns.old, ns.new)
    )
    comparison = diff.compare(old, new, per_cpu_second=ns.per_cpu_second)
    spent = budgets.check(comparison, wanted)
    if ns.json is not None:
        _write_json(ns.json, to_json(comparison, spent))
    _diff_table.show(comparison, wanted, spent, ns.top)
    return 1 if any(one.exceeded for one in spent) else 0


def to_json(comparison: diff.Comparison, spent: list[budgets.Spent]) -> dict[str, Any]:
    """The comparison as plain values; infinite limits are null."""
    return {
        "schema": SCHEMA,
        "old": _side_json(comparison.old),
        "new": _side_json(comparison.new),
        "per_cpu_second": comparison.per_cpu_second,
        "error": comparison.error,
        "program": _row_json(comparison.program, diff.ERROR),
        "sites": [_row_json(row, comparison.error) for row in comparison.rows],
        "budgets": [
            {
                "budget": one.budget.text,
                "site": _site_json(one.row),
                "exceeded": one.exceeded,
                "old": _interval_json(one.old),
                "new": _interval_json(one.new),
                "beyond": _interval_json(one.beyond),
            }
            for one in spent
        ],
    }


def _side_json(side: diff.Side) -> dict[str, Any]:
    return {
        "directory": side.directory,
        "cpu_seconds": side.cpu_seconds,
        "cut_short": side.cut_short,
    }


def _row_json(row: diff.Row, error: float) -> dict[str, Any]:
    quantities = {}
    for name, pair in row.pairs.items():
        old, new = pair.old.interval(error), pair.new.interval(error)
        quantities[name] = {
            "unit": diff.QUANTITIES[name].unit,
            "differs": name in row.differing,
            "old": _interval_json(old),
            "new": _interval_json(new),
            "difference": _interval_json(difference(new, old)),
            "ratio": _interval_json(ratio(new, old)),
        }
    return {"site": _site_json(row), "quantities": quantities}


def _site_json(row: diff.Row) -> dict[str, Any] | None:
    group = row.groups[0]
    if not group.file:
        return None
    return {
        "function": group.function,
        "file": group.file,
        "line": group.line,
        "expression": group.expression,
        "type": group.type,
        "kind": group.kind,
        "old_line": row.old.line if row.old is not None else None,
        "in": "both" if len(row.groups) == 2 else "new" if row.new is not None else "old",
    }


def _interval_json(interval: Interval) -> dict[str, float | None]:
    return {
        name: value if math.isfinite(value) else None
        for name, value in zip(interval._fields, interval, strict=True)
    }


def _write_json(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written ({error.strerror})") from None
