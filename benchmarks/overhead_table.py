"""What benchmarks/overhead.py has measured: kept in a file, turn by turn, and made into tables."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from poolwise.bench.ratios import median_interval

SCHEMA = 2
START_UP = "start-up"  # of an empty program: no benchmark, and in no mean
BARE = "bare"


@dataclass(frozen=True, slots=True)
class Run:
    """What one process used."""

    cpu_seconds: float
    peak_bytes: int
    page_faults: int


Turn = dict[str, Run]  # by arm; bare is always there


class Unusable(Exception):
    """A file of results cannot be gone on with; the message says why."""


@dataclass(slots=True)
class Results:
    """All that was measured. `conditions` must be the same for turns that stand together."""

    conditions: dict[str, Any]
    loops: dict[str, int] = field(default_factory=dict)
    turns: dict[str, list[Turn]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)  # benchmark, arm: reason

    def runs(self, name: str) -> list[str]:
        """The arms that could run a benchmark, bare first."""
        turns = self.turns.get(name, [])
        out = self.failed.get(name, {})
        return [] if BARE in out or not turns else [arm for arm in turns[0] if arm not in out]


def load(path: Path, conditions: dict[str, Any]) -> Results:
    """What is in a file, to be gone on with; nothing if there is none.

    Raises:
        Unusable: it was measured under other conditions, or is something else.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return Results(conditions)
    except (OSError, ValueError) as error:
        raise Unusable(
            f"{path}: cannot be read as results ({error}); remove it or name another"
        ) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise Unusable(f"{path}: these are no results of this version; remove it or name another")
    for name, value in conditions.items():
        if found["conditions"].get(name) != value:
            raise Unusable(
                f"{path}: measured with {name} {found['conditions'].get(name)}, now {value}; "
                "remove it or name another"
            )
    turns = {
        name: [{arm: Run(**run) for arm, run in turn.items()} for turn in of_one]
        for name, of_one in found["turns"].items()
    }
    return Results(conditions, found["loops"], turns, found["failed"])


def save(path: Path, results: Results, groups: dict[str, tuple[str, ...]]) -> None:
    """Write all of it, in one step: an interrupted run leaves the file as it was before."""
    turns = {
        name: [{arm: asdict(run) for arm, run in turn.items()} for turn in of_one]
        for name, of_one in results.turns.items()
    }
    text = json.dumps(
        {
            "schema": SCHEMA,
            "conditions": results.conditions,
            "loops": results.loops,
            "failed": results.failed,
            "turns": turns,
            "summary": {name: summary(results, names) for name, names in groups.items()},
        },
        indent=1,
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n")
    os.replace(partial, path)


def geometric_mean(values: list[float]) -> float:
    """0 if one of them is not positive: a run that took less than another's start-up."""
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))


def cell(values: list[float]) -> dict[str, float]:
    found = median_interval(values)
    return {"value": found.value, "low": found.low, "high": found.high}


def summary(results: Results, names: tuple[str, ...]) -> dict[str, Any]:
    """Rows of ratios and differences to the bare run of the same turn, and their means by arm."""
    measured = [name for name in names if results.runs(name)]
    rows = {name: row(results, name) for name in measured}
    arms = [arm for arm in results.conditions["arms"] if arm != BARE]
    means = {}
    for arm in arms:
        able = [name for name in measured if arm in results.runs(name)]
        if able:
            means[arm] = mean(results, rows, able, arm)
    return {"rows": rows, "arms": means}


def row(results: Results, name: str) -> dict[str, Any]:
    turns = results.turns[name]

    def median_more(arm: str, what: str) -> float:
        return median(getattr(turn[arm], what) - getattr(turn[BARE], what) for turn in turns)

    return {
        "bare_seconds": median(turn[BARE].cpu_seconds for turn in turns),
        "bare_peak_bytes": median(turn[BARE].peak_bytes for turn in turns),
        "bare_page_faults": median(turn[BARE].page_faults for turn in turns),
        "turns": len(turns),
        "arms": {
            arm: {
                "ratio": cell([turn[arm].cpu_seconds / turn[BARE].cpu_seconds for turn in turns]),
                "more_peak_bytes": median_more(arm, "peak_bytes"),
                "more_page_faults": median_more(arm, "page_faults"),
            }
            for arm in results.runs(name)
            if arm != BARE
        },
    }


def mean(results: Results, rows: dict[str, Any], names: list[str], arm: str) -> dict[str, Any]:
    """One arm over the benchmarks that it could run.

    The geometric mean is taken within each turn, so that its spread is that of repeating it.
    """
    turns = min(len(results.turns[name]) for name in names)
    start_up = {one: start_up_seconds(results, one) for one in (arm, BARE)}

    def ratio(turn: Turn, base: dict[str, float]) -> float:
        return (turn[arm].cpu_seconds - base[arm]) / (turn[BARE].cpu_seconds - base[BARE])

    def means(base: dict[str, float]) -> dict[str, float]:
        return cell(
            [
                geometric_mean([ratio(results.turns[name][n], base) for name in names])
                for n in range(turns)
            ]
        )

    of_arm = {name: rows[name]["arms"][arm] for name in names}
    worst = max(names, key=lambda name: of_arm[name]["ratio"]["value"])
    largest = max(names, key=lambda name: of_arm[name]["more_peak_bytes"])
    known = {one: seconds for one, seconds in start_up.items() if seconds is not None}
    return {
        "benchmarks": len(names),
        "turns": turns,
        "geometric_mean": means(dict.fromkeys((arm, BARE), 0.0)),
        "without_start_up": means(known) if len(known) == 2 else None,
        "worst": {"benchmark": worst, **of_arm[worst]["ratio"]},
        "more_peak_bytes": {
            "median": median(one["more_peak_bytes"] for one in of_arm.values()),
            "most": of_arm[largest]["more_peak_bytes"],
            "benchmark": largest,
        },
        "more_page_faults": {
            "median": median(one["more_page_faults"] for one in of_arm.values()),
            "most": max(one["more_page_faults"] for one in of_arm.values()),
        },
    }


def start_up_seconds(results: Results, arm: str) -> float | None:
    if arm not in results.runs(START_UP):
        return None
    return median(turn[arm].cpu_seconds for turn in results.turns[START_UP])


def tables(results: Results, groups: dict[str, tuple[str, ...]]) -> str:
    """As Markdown, for docs/benchmarks.md."""
    arms = [arm for arm in results.conditions["arms"] if arm != BARE]
    lines: list[str] = []
    for title, names in groups.items():
        found = summary(results, names)
        if found["rows"]:
            lines += [*_ratios(title, found, arms), "", *_others(found, arms), ""]
    start_ups = [
        f"{arm} {seconds:.2f} s"
        for arm in (BARE, *arms)
        if (seconds := start_up_seconds(results, arm)) is not None
    ]
    if start_ups:
        lines += ["CPU time of an empty program: " + ", ".join(start_ups) + ".", ""]
    for name, reasons in results.failed.items():
        lines += [f"{arm} cannot run {name}: {reason}" for arm, reason in reasons.items()]
    turns = [len(of_one) for of_one in results.turns.values()] or [0]
    count = f"{min(turns)}" if min(turns) == max(turns) else f"{min(turns)} to {max(turns)}"
    about = {**results.conditions["machine"], **results.conditions["versions"]}
    lines.append(
        f"{count} turns, median and its interval; "
        + "; ".join(f"{name} {' '.join(value.split())}" for name, value in about.items())
    )
    return "\n".join(lines)


def _ratios(title: str, found: dict[str, Any], arms: list[str]) -> list[str]:
    def text(one: dict[str, float] | None, format: str = "{}") -> str:
        if one is None:
            return "-"
        return format.format(f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]")

    def line(name: str, bare: str, cells: list[str]) -> str:
        return f"| {name} | {bare} | " + " | ".join(cells) + " |"

    lines = [
        line(f"{title}: CPU time / bare", "bare, s", arms),
        line("---", "---", ["---"] * len(arms)),
    ]
    for name, row in found["rows"].items():
        ratios = [row["arms"].get(arm, {}).get("ratio") for arm in arms]
        lines.append(line(name, f"{row['bare_seconds']:.2f}", [text(one) for one in ratios]))
    means = [found["arms"].get(arm, {}) for arm in arms]
    for words, key in (
        ("**geometric mean**", "geometric_mean"),
        ("geometric mean without start-up", "without_start_up"),
    ):
        lines.append(line(words, "", [text(one.get(key), "**{}**") for one in means]))
    worst = [f"{one['worst']['value']:.2f}" if one else "-" for one in means]
    able = [str(one.get("benchmarks", 0)) for one in means]
    return [*lines, line("worst", "", worst), line("benchmarks run", "", able)]


def _others(found: dict[str, Any], arms: list[str]) -> list[str]:
    lines = [
        "| more than bare | peak memory, MiB: median | most | page faults: median | most |",
        "|---|---|---|---|---|",
    ]
    for arm in arms:
        one = found["arms"].get(arm)
        if one is None:
            continue
        peak, faults = one["more_peak_bytes"], one["more_page_faults"]
        lines.append(
            f"| {arm} | {peak['median'] / 2**20:+.1f} | {peak['most'] / 2**20:+.1f} "
            f"({peak['benchmark']}) | {faults['median']:+,.0f} | {faults['most']:+,.0f} |"
        )
    return lines
