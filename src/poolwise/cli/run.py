"""Run a program with a remedy that needs no change of its code.

poolwise becomes the program: exit code, signals and standard streams are the program's own.

examples:
  poolwise run --with settings app.py --its --own args
  poolwise run --with settings:malloc -m package.module
"""

from __future__ import annotations

import argparse

from poolwise.advise.settings import parse_remedies
from poolwise.program.launch import Instructions, replace_self

TAKES_PROGRAM = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--with, the remedies."""
    parser.add_argument(
        "--with",
        dest="remedies",
        metavar="REMEDY",
        required=True,
        help="settings, or a part of it: settings:malloc, settings:gc (several with commas)",
    )


def run(ns: argparse.Namespace) -> int:
    """Never returns: the program takes over."""
    replace_self(ns.program, Instructions(settings=parse_remedies(ns.remedies)))
