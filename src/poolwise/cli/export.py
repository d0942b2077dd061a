"""Write a recording in a format of other tools.

Without FILE or DIR the files go into the recording's own directory.

examples:
  poolwise export poolwise-app-20260131-235959 --parquet tables
  poolwise export recording --parquet samples.parquet
  poolwise export recording --pprof
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from poolwise import profile
from poolwise.errors import UsageError
from poolwise.profile.tables import Profile


def _parquet(opened: Profile, path: Path) -> list[str]:
    from poolwise.profile import parquet

    return parquet.write(opened, path)


def _pprof(opened: Profile, path: Path) -> list[str]:
    from poolwise.profile import pprof

    return pprof.write(opened.recording, path)


# option -> what it takes, what it writes, and how: returns the files written
FORMATS = {
    "parquet": (
        "FILE|DIR",
        "Parquet: one FILE.parquet, each sample with its site; or DIR with a file for each table",
        _parquet,
    ),
    "pprof": (
        "FILE|DIR",
        "for pprof, Pyroscope, Parca, speedscope: the heap profile as one FILE.pb.gz; or DIR with "
        "heap.pb.gz and lifetime.pb.gz",
        _pprof,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recording, and an option for each format."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="of poolwise profile")
    for name, (metavar, what, _) in FORMATS.items():
        parser.add_argument(
            f"--{name}",
            type=Path,
            nargs="?",
            default=argparse.SUPPRESS,
            metavar=metavar,
            help=what,
        )


def run(ns: argparse.Namespace) -> int:
    """Write what is asked for, and say which files were."""
    asked = {name: getattr(ns, name) for name in FORMATS if hasattr(ns, name)}
    if not asked:
        options = ", ".join(f"--{name} [{metavar}]" for name, (metavar, _, _) in FORMATS.items())
        raise UsageError(f"no format is asked for; give {options}")
    opened = profile.open(ns.recording)
    for name, path in asked.items():
        _, _, write = FORMATS[name]
        for file in write(opened, path or ns.recording):
            print(f"{file} ({os.path.getsize(file):,} bytes)")
    return 0
