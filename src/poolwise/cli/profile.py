"""Record a program: which allocations it makes, where, and how long each lives.

Runs the program once, unmodified, under a sampler. Its standard streams, exit code and signals
stay its own; at the end standard error says where the recording is.

examples:
  poolwise profile app.py --its --own args
  poolwise profile --for 30 -o recording -m package.server --port 8000
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from poolwise.advise import session
from poolwise.advise.verdicts import size_text
from poolwise.cli import _program
from poolwise.errors import RecordingError
from poolwise.profile import expressions, meta, recording
from poolwise.profile.child import DEFAULT_MEAN_BYTES, LOG_NAME, check_stack_reader
from poolwise.profile.directory import fresh_name, prepare
from poolwise.program import Outcome, exit_like

TAKES_PROGRAM = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, how closely, where to."""
    _program.add_for(parser)
    parser.add_argument(
        "--rate",
        type=_program.mean_bytes,
        metavar="MEAN_BYTES",
        help=f"bytes between two samples, on average (default: {DEFAULT_MEAN_BYTES:,}); "
        "more costs less and knows less",
    )
    parser.add_argument(
        "--exact", action="store_true", help="every allocation, not a sample: slow, for short runs"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="the recording's directory, new or empty (default: a fresh one, named after program "
        "and time)",
    )
    parser.add_argument(
        "--force", action="store_true", help="an older recording in DIR is removed first"
    )


def run(ns: argparse.Namespace) -> int:
    """Run and record the program; ends as the program ends."""
    check_stack_reader()
    directory = ns.output or fresh_name(ns.program.target)
    path = prepare(directory, force=ns.force)
    outcome, error = session.record(
        ns.program, path, for_seconds=ns.for_seconds, exact=ns.exact, mean_bytes=ns.rate
    )
    with suppress(RecordingError):  # then there is nothing to keep, which is said next
        expressions.keep(recording.code_of(path), meta.read(path).own_code)
    for sentence in _said(path, outcome, error):
        print(sentence, file=sys.stderr)
    if not _program.ended_by_us(outcome, ns.for_seconds):
        exit_like(outcome)
    return 0


def _said(directory: str, outcome: Outcome, error: RecordingError | None) -> list[str]:
    """What became of the recording, and what to type next."""
    try:
        summary = recording.last_summary(directory)
        if summary is None:
            why = "the disk is full" if _is_full(directory) else "it ran too short a time"
            raise RecordingError(
                f"{directory}: nothing was recorded of a program that ended with "
                f"{outcome.ended()}: {why}"
            )
    except RecordingError as refused:
        return [f"poolwise: {refused}"]
    log_bytes = os.path.getsize(os.path.join(directory, LOG_NAME))
    said = [
        f"poolwise: {summary.samples:,} samples of {summary.seconds:.1f} s are in {directory} "
        f"({size_text(log_bytes)})"
    ]
    if error is not None:
        said.append(f"poolwise: {error}")
    elif not summary.finished:
        why = "the disk is full" if _is_full(directory) else f"it ended with {outcome.ended()}"
        said.append(f"poolwise: the recording was cut short: {why}; what is there can be used")
    return [*said, f"next: poolwise advise {directory}"]


def _is_full(directory: str) -> bool:
    return os.statvfs(directory).f_bavail == 0
