"""The command line: one module a command, imported when it is the one that is asked for.

A command's module holds its help as docstring, `add_arguments(parser)`, and `run(ns) -> int`, the
exit status. One that runs a user's program says `TAKES_PROGRAM = True` and finds it, checked, in
`ns.program` (a `poolwise.program.Program`); what stands behind the program is the program's own.
With `TAKES_RECORDING = True` a recording may stand in the program's place: `ns.recording`, or None.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from poolwise.cli import _program
from poolwise.errors import PoolwiseError

COMMANDS = (
    *("advise", "try", "run"),
    *("profile", "report", "diff", "export", "attach"),
    *("calibrate", "bench"),
)


def _module_of(command: str) -> ModuleType | None:
    """The command's module (`try_` for `try`, a keyword), or None if it is not part of this."""
    for name in (command, command + "_"):
        if importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f"{__name__}.{name}")
    return None


def _top_parser() -> argparse.ArgumentParser:
    from poolwise import __version__

    lines = []
    for command in COMMANDS:
        module = _module_of(command)
        if module is not None:
            lines.append(f"  {command:<11}{_title(module)}")
    parser = argparse.ArgumentParser(
        prog="poolwise",
        usage="poolwise COMMAND [options] …",
        description="Measured memory reuse for Python.\n\ncommands:\n" + "\n".join(lines),
        epilog="poolwise COMMAND --help explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"poolwise {__version__}")
    return parser


def _title(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0].rstrip(".")


def parse(arguments: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The command's module and its parsed arguments; ends the process on --help or an error."""
    command = arguments[0] if arguments else ""
    module = _module_of(command) if command in COMMANDS else None
    if module is None:
        top = _top_parser()
        if command and not command.startswith("-"):
            known = ", ".join(name for name in COMMANDS if _module_of(name))
            top.error(f"there is no command {command!r}; use one of {known}")
        top.parse_args(arguments)
        top.print_help(sys.stderr)
        raise SystemExit(2)
    takes_program: bool = getattr(module, "TAKES_PROGRAM", False)
    takes_recording: bool = getattr(module, "TAKES_RECORDING", False)
    program_words = " [-m] PROGRAM [its own arguments]" if takes_program else ""
    if takes_recording:
        program_words += f"\n       poolwise {command} [options] RECORDING"
    parser = argparse.ArgumentParser(
        prog=f"poolwise {command}",
        usage=f"poolwise {command} [options]{program_words}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    rest = list(arguments[1:])
    if not takes_program:
        return module, parser.parse_args(rest)
    _program.add_arguments(parser)
    behind: tuple[str, ...] = getattr(module, "OPTIONS_BEHIND_PROGRAM", ())
    own, program = _program.split(rest, parser, behind)
    namespace = parser.parse_args(own)
    if takes_recording:
        namespace.recording = _program.recording(program, namespace.as_module)
        if namespace.recording is not None:
            return module, namespace
    namespace.program = _program.make(program, namespace.as_module, parser)
    return module, namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for what cannot be used, with one sentence."""
    try:
        module, namespace = parse(sys.argv[1:] if arguments is None else arguments)
        status: int = module.run(namespace)
        sys.stdout.flush()
        return status
    except PoolwiseError as error:
        print(f"poolwise: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # nobody reads: nothing to flush at exit
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)  # so that a shell's loop around us ends, too
        return 130
