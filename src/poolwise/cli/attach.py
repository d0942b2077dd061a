"""Sample a Python process that is running already (CPython 3.14 and newer).

The process goes on as it is. Its allocations from now on are sampled into a recording until
Ctrl-C, the end of the time, or its own end; what it allocated before is not seen.

examples:
  poolwise attach 4711
  poolwise attach 4711 --for 60 -o recording
"""

from __future__ import annotations

import argparse
import sys

from poolwise.cli import _program
from poolwise.profile import recording
from poolwise.profile.attach import WAIT_SECONDS, attach
from poolwise.profile.child import DEFAULT_MEAN_BYTES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which process, where to, how long, how closely."""
    parser.add_argument("pid", type=_pid, metavar="PID", help="the process to sample")
    parser.add_argument(
        "-o", dest="directory", metavar="DIR", help="write the recording to DIR (poolwise-PID)"
    )
    parser.add_argument(
        "--for",
        dest="for_seconds",
        type=_program.seconds,
        metavar="SECONDS",
        help="stop sampling after so long; without it, at Ctrl-C or when the process ends",
    )
    parser.add_argument(
        "--rate",
        type=_program.mean_bytes,
        metavar="MEAN_BYTES",
        help=f"bytes between two samples, on average (default: {DEFAULT_MEAN_BYTES:,})",
    )
    parser.add_argument(
        "--wait",
        dest="wait_seconds",
        type=_program.seconds,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help="how long to wait until its main thread runs Python (default %(default)g)",
    )


def run(ns: argparse.Namespace) -> int:
    """Sample until told to stop; the process is left as it was, but for the hooks."""
    directory: str = ns.directory or f"poolwise-{ns.pid}"
    over = False
    with attach(ns.pid, directory, mean_bytes=ns.rate, wait_seconds=ns.wait_seconds) as attached:
        try:
            until = "Ctrl-C" if ns.for_seconds is None else f"{ns.for_seconds:g} s are over"
            _say(
                f"sampling process {ns.pid} into {directory} until {until}; "
                "what it allocated before is not seen"
            )
            over = attached.wait(ns.for_seconds)
        except KeyboardInterrupt:
            _say("stopping …")
    if over:
        _say(f"process {ns.pid} has ended, or runs another program now")
    count = len(recording.read(directory).births)
    _say(f"{count} sampled allocations in {directory}")
    print(f"next: poolwise advise {directory}", file=sys.stderr)
    return 0


def _say(sentence: str) -> None:
    print(f"poolwise: {sentence}", file=sys.stderr, flush=True)


def _pid(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no process id; give its number")
    return int(text)
