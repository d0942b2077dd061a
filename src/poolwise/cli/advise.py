"""Find out which allocations of a program are worth reusing, and say what to do.

Runs the program once, unmodified, under a sampler. Its standard streams, exit code and signals
stay its own; the verdicts come on standard error when it ends, is interrupted, or its time is over.
A directory that `poolwise profile` wrote, in the program's place, is judged as it is.

examples:
  poolwise advise app.py --its --own args
  poolwise advise --for 30 --json report.json -m package.server --port 8000
  poolwise advise poolwise-app-20260131-235959
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from poolwise.advise import calibrate, report, session
from poolwise.advise.verdicts import Advice
from poolwise.cli import _program
from poolwise.errors import UsageError
from poolwise.profile.child import check_stack_reader
from poolwise.program import exit_like

TAKES_PROGRAM = True
TAKES_RECORDING = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long, how closely, what to write."""
    _program.add_for(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with the recording and the verdicts"
    )
    parser.add_argument(
        "--patch", type=Path, metavar="FILE", help="write the changes as a diff, for try --against"
    )
    parser.add_argument(
        "--exact", action="store_true", help="every allocation, not a sample: slow, for short runs"
    )
    parser.add_argument(
        "--cool-down",
        type=_program.seconds,
        metavar="SECONDS",
        help="for the reuse bound: how long getting, putting and resetting one takes",
    )


def run(ns: argparse.Namespace) -> int:
    """Run the program and report; ends as the program ends. A recording is only reported on."""
    if ns.recording is not None:
        return _judge(ns)
    check_stack_reader()
    with ExitStack() as files:
        json_file = _opened(files, ns.json)
        patch_file = _opened(files, ns.patch)
        seen = _page_into(_opened(files, ns.html))
        prices = calibrate.load()
        outcome, advice = session.run(
            ns.program,
            prices,
            for_seconds=ns.for_seconds,
            exact=ns.exact,
            cool_down=ns.cool_down,
            seen=seen,
        )
        if isinstance(advice, Advice):
            root = os.path.dirname(ns.program.target)
            _write(advice, ns.program.command(), root, json_file, patch_file)
        else:
            print(f"poolwise: {advice}", file=sys.stderr)
    if not _program.ended_by_us(outcome, ns.for_seconds):
        exit_like(outcome)
    return 0


def _judge(ns: argparse.Namespace) -> int:
    for option, given in (("--for", ns.for_seconds is not None), ("--exact", ns.exact)):
        if given:
            raise UsageError(f"{option}: {ns.recording} is a recording, made already; leave it out")
    with ExitStack() as files:
        json_file = _opened(files, ns.json)
        patch_file = _opened(files, ns.patch)
        seen = _page_into(_opened(files, ns.html))
        about, advice = session.advice_on(ns.recording, calibrate.load(), ns.cool_down, seen)
        _write(advice, about.program, os.path.dirname(about.own_code or ""), json_file, patch_file)
    return 0


def _write(
    advice: Advice,
    words: Sequence[str],
    root: str,
    json_file: IO[str] | None,
    patch_file: IO[str] | None,
) -> None:
    if json_file is not None:
        report.write_json(json_file, advice, words)
    if patch_file is not None:
        from poolwise.advise import patch

        patch_file.write(patch.diff(advice, root))
    report.print_table(advice, words)


def _page_into(file: IO[str] | None) -> session.Seen | None:
    if file is None:
        return None

    def write(opened: session.Read, advice: Advice) -> None:
        from poolwise.cli._page import page_data
        from poolwise.profile.report.page import page

        file.write(page(page_data(opened, advice)))

    return write


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
