"""Find out which allocations of a program are worth reusing, and say what to do.

Runs the program once, unmodified, under a sampler. Its standard streams, exit code and signals
stay its own; the verdicts come on standard error when it ends, is interrupted, or its time is over.

examples:
  poolwise advise app.py --its --own args
  poolwise advise --for 30 --json report.json -m package.server --port 8000
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from poolwise.advise import calibrate, report, session
from poolwise.advise.verdicts import Advice
from poolwise.errors import UsageError
from poolwise.profile.child import check_stack_reader
from poolwise.program import Outcome, exit_like

TAKES_PROGRAM = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, how closely, what to write."""
    parser.add_argument(
        "--for",
        dest="for_seconds",
        type=_seconds,
        metavar="SECONDS",
        help="end the program after so long (SIGINT, then SIGTERM), for a server that never ends",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument(
        "--patch", type=Path, metavar="FILE", help="write the changes as a diff, for try --against"
    )
    parser.add_argument(
        "--exact", action="store_true", help="every allocation, not a sample: slow, for short runs"
    )
    parser.add_argument(
        "--cool-down",
        type=_seconds,
        metavar="SECONDS",
        help="for the reuse bound: how long getting, putting and resetting one takes",
    )


def run(ns: argparse.Namespace) -> int:
    """Run the program and report; ends as the program ends."""
    ns.program.check()
    check_stack_reader()
    with ExitStack() as files:
        json_file = _opened(files, ns.json)
        patch_file = _opened(files, ns.patch)
        prices = calibrate.load()
        outcome, advice = session.run(
            ns.program, prices, for_seconds=ns.for_seconds, exact=ns.exact, cool_down=ns.cool_down
        )
        if isinstance(advice, Advice):
            words = ns.program.command()
            if json_file is not None:
                report.write_json(json_file, advice, words)
            if patch_file is not None:
                from poolwise.advise import patch

                patch_file.write(patch.diff(advice, os.path.dirname(ns.program.target)))
            report.print_table(advice, words)
        else:
            print(f"poolwise: {advice}", file=sys.stderr)
    if not _ended_by_us(outcome, ns.for_seconds):
        exit_like(outcome)
    return 0


def _ended_by_us(outcome: Outcome, for_seconds: float | None) -> bool:
    return (
        for_seconds is not None
        and outcome.signal is not None
        and outcome.wall_seconds >= for_seconds
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; give more than 0")
    return seconds


def _opened(files: ExitStack, path: Path | None) -> IO[str] | None:
    """Opened before the program runs: a path that cannot be written must not cost its run."""
    if path is None:
        return None
    try:
        return files.enter_context(open(path, "w", encoding="utf-8"))
    except OSError as error:
        where = os.path.dirname(os.path.abspath(path))
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); name a file in a directory that can, "
            f"not {where}"
        ) from None
