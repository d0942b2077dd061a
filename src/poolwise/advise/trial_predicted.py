"""What an advise report predicted, to stand beside what a trial measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poolwise.advise.sequential import Interval
from poolwise.errors import UsageError


def predicted_gain(path: Path, *, settings: bool, functions: Sequence[str] = ()) -> Interval:
    """The gain that a report of `poolwise advise --json` predicts for what is tried.

    settings: of the `settings` verdicts; otherwise of all remedies that change code, or, with
    `functions`, of those at the sites in these functions. Several add up, and so do the ends of
    their intervals: they come from one recording, so their errors need not cancel out.
    Raises UsageError if the file is no such report or holds no such verdict.
    """
    try:
        report = json.loads(path.read_bytes())
        verdicts = [v for v in report["verdicts"] if v["verdict"] != "don't"]
        gains = [_interval(v["gain"]) for v in verdicts if _wanted(v, settings, functions)]
    except OSError as error:
        raise UsageError(f"--predicted {path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"--predicted {path}: is no report of poolwise advise; make one with --json {path}"
        ) from None
    if not gains:
        what = "settings" if settings else "a remedy" + "".join(f" at {f}" for f in functions)
        raise UsageError(f"--predicted {path}: predicts no gain of {what}; try what it does name")
    return Interval(
        sum(gain.value for gain in gains),
        sum(gain.low for gain in gains),
        sum(gain.high for gain in gains),
    )


def _interval(gain: dict[str, Any]) -> Interval:
    return Interval(float(gain["value"]), float(gain["low"]), float(gain["high"]))


def _wanted(verdict: dict[str, Any], settings: bool, functions: Sequence[str]) -> bool:
    if settings or verdict["verdict"] == "settings":
        return settings and verdict["verdict"] == "settings"
    if not functions:
        return True
    names = str((verdict["site"] or {}).get("function", ""))
    return any(names == name or names.endswith("." + name) for name in functions)
