"""Where poolwise's own options end and the user's program begins.

The line is split before argparse sees it: argparse would take options out of the program's
arguments, and eat their first `--`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from poolwise.program.launch import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`-m`, a flag: the module is the first word that is no option, as a file would be."""
    parser.add_argument(
        "-m", dest="as_module", action="store_true", help="PROGRAM is a module, as in python -m"
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


def make(words: Sequence[str], as_module: bool, parser: argparse.ArgumentParser) -> Program:
    """The checked program of these words."""
    if not words:
        parser.error("no program is named; write the program and its arguments at the end")
    program = Program(words[0], tuple(words[1:]), as_module)
    program.check()
    return program
