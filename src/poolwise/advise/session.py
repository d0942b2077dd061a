"""One `poolwise advise`: run the program under the sampler, read the recording, judge it."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from poolwise.advise.calibrate import Calibration
from poolwise.advise.disturbance import Watch
from poolwise.advise.judge import judge
from poolwise.advise.settings import check_libc
from poolwise.advise.verdicts import Advice
from poolwise.errors import RecordingError, UsageError
from poolwise.profile import recording, sites
from poolwise.program import Instructions, Outcome, Program, run_child


def run(
    program: Program,
    prices: Calibration,
    *,
    for_seconds: float | None = None,
    exact: bool = False,
    cool_down: float | None = None,
) -> tuple[Outcome, Advice | RecordingError]:
    """Run `program` to its end (or for so long) and judge what it did.

    Where nothing was recorded, the second value is the error that says why: the program has run
    all the same, and its outcome stands.
    """
    with tempfile.TemporaryDirectory(prefix="poolwise-") as directory:
        profile = {"dir": directory, "exact": exact}
        watch = Watch()
        outcome = run_child(
            program, Instructions(profile=profile), for_seconds=for_seconds, meanwhile=watch
        )
        try:
            return outcome, advice_on(
                program, watch.adjusted(prices), directory, outcome, cool_down
            )
        except RecordingError as error:
            # The path in it is of a directory of ours, which is gone when this is read.
            why = str(error).rpartition(": ")[2]
            words = " ".join(program.command())
            return outcome, RecordingError(f"{words}: {outcome.ended()}: {why}")


def advice_on(
    program: Program, prices: Calibration, directory: str, outcome: Outcome, cool_down: float | None
) -> Advice:
    """The advice on the recording in `directory` of a program that ended with `outcome`.

    `prices` are as they were while it ran.
    """
    recorded = recording.read(directory)
    assert recorded.summary is not None
    own_faults = recorded.summary.own_faults
    return judge(
        recorded,
        sites.find(recorded, own_code(program)),
        prices,
        cpu_seconds=max(outcome.cpu_seconds - recorded.summary.overhead_seconds, 1e-6),
        page_faults=max(outcome.minor_faults - own_faults, 0),
        program=program.command(),
        glibc=_is_glibc(),
        cool_down=cool_down,
    )


def own_code(program: Program) -> str | None:
    """The directory of the code that counts as the user's own, wherever it is installed."""
    if not program.as_module:
        target = Path(program.target).resolve()
        return str(target if target.is_dir() else target.parent) + os.sep
    try:
        spec = find_spec(program.target.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    return str(origin.parent) + os.sep if spec.submodule_search_locations else str(origin)


def _is_glibc() -> bool:
    try:
        check_libc()
    except UsageError:
        return False
    return True
