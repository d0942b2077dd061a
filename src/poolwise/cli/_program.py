"""Where poolwise's own options end and the user's program begins.

The line is split before argparse sees it: argparse would take options out of the program's
arguments, and eat their first `--`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from poolwise.errors import UsageError
from poolwise.profile import LEAST_MEAN_BYTES, MOST_MEAN_BYTES
from poolwise.profile.child import LOG_NAME
from poolwise.profile.directory import is_recording
from poolwise.program.launch import Outcome, Program, has_main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`-m`, a flag: the module is the first word that is no option, as a file would be."""
    parser.add_argument(
        "-m", dest="as_module", action="store_true", help="PROGRAM is a module, as in python -m"
    )


def add_for(parser: argparse.ArgumentParser) -> None:
    """`--for`, how long a program may run."""
    parser.add_argument(
        "--for",
        dest="for_seconds",
        type=seconds,
        metavar="SECONDS",
        help="end the program after so long (SIGINT, then SIGTERM), for a server that never ends",
    )


def seconds(text: str) -> float:
    """A number of seconds above 0, as argparse takes it."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; give more than 0")
    return number


def mean_bytes(text: str) -> float:
    """The bytes between two samples, as argparse takes them."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not LEAST_MEAN_BYTES <= number <= MOST_MEAN_BYTES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of bytes from {LEAST_MEAN_BYTES} to {MOST_MEAN_BYTES:,}"
        )
    return number


def ended_by_us(outcome: Outcome, for_seconds: float | None) -> bool:
    """Whether it was `--for` that ended the program, which is as it should be."""
    return (
        for_seconds is not None
        and outcome.signal is not None
        and outcome.wall_seconds >= for_seconds
    )


def split(
    words: Sequence[str], parser: argparse.ArgumentParser, behind: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """poolwise's own words, and the program with its arguments, exactly as they stand.

    The program is the first word that is neither an option nor an option's value. The options in
    `behind` may also stand directly behind it, unless they stood before it.
    """
    options = parser._option_string_actions
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if words[at] == "--":
            return list(words[:at]), list(words[at + 1 :])
        action = options.get(words[at])  # `--name=value` is no key: one word
        at += 2 if action is not None and action.nargs != 0 else 1
    own, program = list(words[:at]), list(words[at:])
    free = [name for name in behind if not any(w.split("=")[0] == name for w in own)]
    while len(program) > 1 and program[1].split("=")[0] in free:
        count = 1 if "=" in program[1] else 2
        own += program[1 : 1 + count]
        free.remove(program[1].split("=")[0])
        del program[1 : 1 + count]
    return own, program


def recording(words: Sequence[str], as_module: bool) -> str | None:
    """The directory that these words name, if it is a recording and not a program."""
    if as_module or not words:
        return None
    if not is_recording(words[0]):
        if os.path.isdir(words[0]) and not has_main(words[0]):
            raise UsageError(
                f"{words[0]}: this directory holds neither a program (__main__.py) nor a recording "
                f"({LOG_NAME}); name one that does"
            )
        return None
    if len(words) > 1:
        raise UsageError(
            f"{words[0]}: this is a recording, and takes no arguments ({' '.join(words[1:])})"
        )
    return words[0]


def make(words: Sequence[str], as_module: bool, parser: argparse.ArgumentParser) -> Program:
    """The checked program of these words."""
    if not words:
        parser.error("no program is named; write the program and its arguments at the end")
    program = Program(words[0], tuple(words[1:]), as_module)
    program.check()
    return program
