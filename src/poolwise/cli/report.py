"""Make one HTML page of a recording: who allocates, how long it lives, what to do.

The page is one file that needs no network: a flame graph, the table of sites with their lifetimes
on three clocks, a heat map, what is alive over time, and the verdicts.

examples:
  poolwise report poolwise-app-20260131-235959 --open
  poolwise report recording -o report.html --json report.json
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from poolwise.advise import calibrate, session
from poolwise.cli._page import page_data
from poolwise.errors import UsageError
from poolwise.profile.report.page import compact, page

NO_PRICES = (
    "No verdicts: what memory costs on this machine has not been measured yet. "
    "“poolwise calibrate” measures it; then make this page again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recording, and where to write."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="a directory")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: RECORDING.html, beside the recording)",
    )
    parser.add_argument("--open", action="store_true", help="show it in the web browser")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the page's data, too")


def run(ns: argparse.Namespace) -> int:
    """Read, fold, write."""
    path = ns.output or Path(os.path.abspath(ns.recording) + ".html")
    for target in filter(None, (path, ns.json)):
        check_writable(target)  # before the work, which takes a while for a long recording
    opened = session.read(ns.recording)
    prices = calibrate.cached()
    advice = None if prices is None else session.advise(opened, prices)
    shown = page_data(opened, advice, "" if advice else NO_PRICES)
    write(path, page(shown))
    if ns.json is not None:
        write(ns.json, compact(shown))
    print(f"{path} ({path.stat().st_size:,} bytes)")
    if ns.open:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            print("poolwise: no web browser was found here; open the file in one", file=sys.stderr)
    return 0


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written to.

    Raises:
        UsageError: it is a directory, or in a directory that is not there or not to be written to.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise UsageError(f"{path}: this is a directory; name a file in it")
    if not folder.is_dir():
        raise UsageError(f"{path}: there is no directory {folder}; make it, or name another place")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{path}: cannot be written (no permission); name another place with -o")


def write(path: Path, text: str) -> None:
    """Write a whole file.

    Raises:
        UsageError: it cannot be written; what was written of it is removed.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        if path.is_file():  # and no device, of which nothing is half written
            path.unlink()
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); make room, or name another place"
        ) from None
