"""Run a program beside the same with a remedy, and say what the remedy really gains.

Both run again and again in fresh processes, in pairs, after a warm-up: all side effects of the
program happen every time. A program that computes runs at once with its rival on one processor, in
turns of up to 40 ms; one that waits, or uses several processors, runs after it. Counted is the CPU
time of the program and of the descendants that it waited for.

The answer is proven (the 95 % interval of the gain is above 0), disproven (it is below 0, or within
1 % of it: the remedy pays nothing) or undecided. Without --pairs it looks after each pair and stops
when the answer is clear; the intervals allow for that.

Exit status: 0 for a trial that came to its end, whatever the answer; with --check 1 unless it is
proven and the outputs are the same. 2 if something given cannot be used, or a program failed.

examples:
  poolwise try --with settings app.py --its --own args
  poolwise try old.py --against new.py --arguments of both
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from poolwise.advise import trial
from poolwise.advise.sequential import Interval
from poolwise.advise.settings import describe, parse_remedies
from poolwise.advise.trial_patch import apply_patch
from poolwise.advise.trial_predicted import predicted_gain
from poolwise.advise.trial_processes import Arm, ended_by_signals
from poolwise.errors import UsageError
from poolwise.program.launch import Instructions, Program

TAKES_PROGRAM = True
OPTIONS_BEHIND_PROGRAM = ("--against",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The remedy, how long to try, what to write."""
    remedy = parser.add_mutually_exclusive_group(required=True)
    remedy.add_argument(
        "--with",
        dest="remedies",
        metavar="REMEDY",
        help="settings, or a part of it: settings:malloc, settings:gc (several with commas)",
    )
    remedy.add_argument(
        "--against",
        metavar="NEW",
        help="the changed program, or a .patch or .diff of the program and its modules; "
        "may stand directly behind the program",
    )
    parser.add_argument("--pairs", type=_positive, metavar="N", help="so many pairs, and one look")
    parser.add_argument(
        "--max-pairs", type=_positive, metavar="N", help="at most so many (about a minute's)"
    )
    parser.add_argument("--sequential", action="store_true", help="always one after the other")
    parser.add_argument("--no-compare", action="store_true", help="do not compare what they print")
    parser.add_argument(
        "--load",
        metavar="COMMAND",
        help="for a server: started, loaded and interrupted in each run; the load waits until "
        "it answers, and does the same work each time; {port} in it and in the program's "
        "arguments is a free port, each run's own, and lets both servers take turns",
    )
    parser.add_argument("--predicted", type=Path, metavar="FILE", help="advise's --json FILE")
    parser.add_argument(
        "--predicted-sites", metavar="FUNC,…", help="only the predictions for these functions"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless proven")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pairs; give 2 or more")
    return int(text)


def run(ns: argparse.Namespace) -> int:
    """Try, print, and return the exit status."""
    predicted = None
    if ns.predicted is not None:
        functions = ns.predicted_sites.split(",") if ns.predicted_sites else ()
        predicted = predicted_gain(
            ns.predicted, settings=ns.remedies is not None, functions=functions
        )
    elif ns.predicted_sites:
        raise UsageError("--predicted-sites: needs --predicted FILE, the report that they are in")
    if ns.json is not None:
        _check_writable(ns.json)
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="poolwise-try-") as name:
        folder = Path(name)
        old, new = _arms(ns, folder)
        progress = _progress()
        progress("all side effects of the program happen in each run, several times")
        stdin = _standard_input(folder, progress)
        try:
            result = trial.run(
                old,
                new,
                pairs=ns.pairs,
                max_pairs=ns.max_pairs,
                one_after_the_other=True if ns.sequential else None,
                compare=not ns.no_compare,
                stdin=stdin,
                load=ns.load,
                progress=progress,
            )
        except trial.ProgramFailed as failed:
            progress("")
            sys.stderr.write(failed.stderr_tail)
            raise
    progress("")
    print(report(result, predicted))
    if ns.remedies is not None and result.verdict == "proven":
        print(
            "without poolwise: " + describe(parse_remedies(ns.remedies)).replace("\n", "\n  and: ")
        )
        words = shlex.join(ns.program.command())
        print(f"next: poolwise run --with {ns.remedies} {words}")
    if ns.json is not None:
        fields = dataclasses.asdict(result)
        fields |= {"schema": 1, "program": ns.program.command()}
        fields["predicted"] = None if predicted is None else dataclasses.asdict(predicted)
        ns.json.write_text(json.dumps(fields, indent=1) + "\n")
    good = result.verdict == "proven" and result.output in ("same", "not compared")
    return 1 if ns.check and not good else 0


def _arms(ns: argparse.Namespace, folder: Path) -> tuple[Arm, Arm]:
    program: Program = ns.program
    as_it_is = Instructions()
    if ns.remedies is not None:
        settings = Instructions(settings=parse_remedies(ns.remedies))
        return Arm("as it is", program, as_it_is), Arm(f"with {ns.remedies}", program, settings)
    name = os.path.basename(ns.against)
    if ns.against.endswith((".patch", ".diff")):
        beside = Path(program.target)
        folders = [beside if beside.is_dir() else beside.parent, Path()]
        overlay = apply_patch(Path(ns.against), folders, folder)
        unchanged = Instructions(overlay={path: path for path in overlay})
        changed = Instructions(overlay=overlay)
        return Arm("as it is", program, unchanged), Arm(f"with {name}", program, changed)
    as_module = program.as_module and not os.path.exists(ns.against)
    other = dataclasses.replace(program, target=ns.against, as_module=as_module)
    other.check()
    names = (os.path.basename(program.target), name)
    if names[0] == names[1]:
        names = (program.target, ns.against)
    return Arm(names[0], program, as_it_is), Arm(names[1], other, as_it_is)


def _standard_input(folder: Path, progress: Callable[[str], None]) -> Path | None:
    """Standard input in a file that each run reads from its start; None: nothing."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None  # closed
    if os.isatty(descriptor) or stat.S_ISCHR(os.fstat(descriptor).st_mode):
        return None  # a terminal cannot be read twice: each run finds the end at once
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        progress("reading standard input to its end, for each run to read (none: < /dev/null)")
    copy = folder / "stdin"
    with copy.open("wb") as file, open(descriptor, "rb", closefd=False) as source:
        shutil.copyfileobj(source, file)
    return copy


def _check_writable(path: Path) -> None:
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written ({error.strerror})") from None


def _progress() -> Callable[[str], None]:
    """Lines on standard error; on a terminal each in the place of the one before."""
    if not sys.stderr.isatty():
        return lambda line: print(f"try: {line}", file=sys.stderr) if line else None
    return lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def report(result: trial.TrialResult, predicted: Interval | None = None) -> str:
    """The result as text: a table of both arms, the gain, the answer."""
    old, new = result.old, result.new
    rows = [
        ("", result.old_name, result.new_name),
        ("CPU", f"{old.cpu_seconds:.3f} s", f"{new.cpu_seconds:.3f} s"),
        ("wall", f"{old.wall_seconds:.3f} s", f"{new.wall_seconds:.3f} s"),
        ("page faults", f"{old.page_faults:,.0f}", f"{new.page_faults:,.0f}"),
        ("peak memory", _mebibytes(old.peak_bytes), _mebibytes(new.peak_bytes)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {left:>{widths[1]}}  {right:>{widths[2]}}"
        for name, left, right in rows
    ]
    lines += ["", f"{'measured gain, 95 %':<21}{_gain(result.gain)}"]
    if predicted is not None:
        place = "inside" if predicted.low <= result.gain.value <= predicted.high else "outside"
        lines.append(f"{'predicted':<21}{_gain(predicted)}  (measured lies {place})")
    lines += [
        f"{result.pairs} pairs {result.order}, looked at {result.looks}",
        _output_sentence(result),
        f"{result.verdict}: {_verdict_sentence(result)}",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _mebibytes(count: float) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def _gain(gain: Interval) -> str:
    return f"{gain.value:7.1%}  [{gain.low:.1%}, {gain.high:.1%}]".replace("%", " %")


def _output_sentence(result: trial.TrialResult) -> str:
    if result.output == "same":
        return f"output: the same, {result.output_bytes:,} bytes"
    if result.output == "differs":
        return f"output: differs, {result.first_difference}"
    if result.output == "unsteady":
        return "output: its output differs from run to run, so it cannot be compared"
    return "output: not compared"


def _verdict_sentence(result: trial.TrialResult) -> str:
    if result.verdict == "proven":
        return f"{result.new_name} saves CPU time"
    if result.verdict == "disproven":
        return f"{result.new_name} pays nothing"
    return "the interval still holds both a gain and none; give it more pairs with --max-pairs"
