"""From a program to a recording, and from a recording to the advice on it.

What the advice needs beside the log stands in the recording's `meta.json`, so that a recording can
be judged when and where one likes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from poolwise.advise import calibrate
from poolwise.advise.calibrate import Calibration
from poolwise.advise.disturbance import Probes, Watch
from poolwise.advise.judge import judge
from poolwise.advise.settings import check_libc
from poolwise.advise.verdicts import Advice
from poolwise.errors import RecordingError, UsageError
from poolwise.profile import meta, recording, sites
from poolwise.profile.meta import Meta
from poolwise.profile.recording import Recording, Summary
from poolwise.profile.sites import Site
from poolwise.program import Instructions, Outcome, Program, run_child


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A recording as it is judged: its log, its account, and its sites."""

    recorded: Recording
    about: Meta
    sites: list[Site]


Seen = Callable[[Read, Advice], None]


def run(
    program: Program,
    prices: Calibration,
    *,
    for_seconds: float | None = None,
    exact: bool = False,
    cool_down: float | None = None,
    seen: Seen | None = None,
) -> tuple[Outcome, Advice | RecordingError]:
    """Run `program` to its end (or for so long) and judge what it did; `seen` is shown all of it.

    Where nothing was recorded, the second value is the error that says why: the program has run
    all the same, and its outcome stands.
    """
    with tempfile.TemporaryDirectory(prefix="poolwise-") as directory:
        # Advice is on the program itself; what recording its children costs would count as theirs.
        outcome, error = record(
            program, directory, for_seconds=for_seconds, exact=exact, children=False
        )
        try:
            if error is not None:
                raise error
            return outcome, advice_on(directory, prices, cool_down, seen)[1]
        except RecordingError as refused:
            # The path in it is of a directory of ours, which is gone when this is read.
            why = str(refused).rpartition(": ")[2]
            words = " ".join(program.command())
            return outcome, RecordingError(f"{words}: {outcome.ended()}: {why}")


def record(
    program: Program,
    directory: str,
    *,
    for_seconds: float | None = None,
    exact: bool = False,
    mean_bytes: float | None = None,
    children: bool = True,
) -> tuple[Outcome, RecordingError | None]:
    """Run `program` to its end (or for so long), and record it into `directory`.

    `children`: those of fork and multiprocessing are recorded, too.

    The second value says what could not be written; the program has run all the same.
    """
    profile: dict[str, object] = {
        "dir": directory,
        "exact": exact,
        "children": children,
        "program": program.command(),
        "own_code": own_code(program),
    }
    if mean_bytes is not None:
        profile["mean_bytes"] = mean_bytes
    watch = Watch()
    outcome = run_child(
        program, Instructions(profile=profile), for_seconds=for_seconds, meanwhile=watch
    )
    try:
        meta.add(
            directory,
            outcome=asdict(outcome),
            probes=asdict(watch.probes()),
            machine=calibrate.machine(),
        )
    except RecordingError as error:
        return outcome, error
    return outcome, None


def read(directory: str | os.PathLike[str]) -> Read:
    """The recording in `directory`.

    Raises:
        RecordingError: there is no recording, or it is damaged.
    """
    recorded = recording.read(directory)
    about = meta.read(directory)
    return Read(recorded=recorded, about=about, sites=sites.find(recorded, about.own_code))


def advice_on(
    directory: str,
    prices: Calibration,
    cool_down: float | None = None,
    seen: Seen | None = None,
) -> tuple[Meta, Advice]:
    """The advice on the recording in `directory`; `seen` is shown what it was made from.

    Raises:
        RecordingError: there is no recording, or it is damaged.
    """
    opened = read(directory)
    advice = advise(opened, prices, cool_down)
    if seen is not None:
        seen(opened, advice)
    return opened.about, advice


def advise(opened: Read, prices: Calibration, cool_down: float | None = None) -> Advice:
    """The advice on a recording, whose program was one of this machine."""
    recorded, about = opened.recorded, opened.about
    assert recorded.summary is not None
    cpu_seconds, page_faults = _used(about, recorded.summary)
    notes = []
    try:
        prices = Probes(**about.added["probes"]).adjusted(prices)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        notes.append(
            "how busy the machine was while this was recorded is not known: prices are those of a "
            "quiet moment"
        )
    if not _same_machine(about.added.get("machine"), prices.machine):
        notes.append(
            "this was recorded on another machine, kernel or Python: prices are this one's"
        )
    advice = judge(
        recorded,
        opened.sites,
        prices,
        cpu_seconds=cpu_seconds,
        page_faults=page_faults,
        program=about.program,
        glibc=_is_glibc(),
        cool_down=cool_down,
    )
    advice.notes.extend(notes)
    return advice


def _same_machine(recorded: object, priced: Mapping[str, str]) -> bool:
    """Whether prices are for where it was recorded, or nothing is known; poolwise may be newer."""
    if not isinstance(recorded, dict):
        return True
    return {**recorded, "poolwise": ""} == {**priced, "poolwise": ""}


def _used(about: Meta, summary: Summary) -> tuple[float, int]:
    """CPU seconds and page faults of the program, without the sampler's.

    Of the whole program where its end was waited for, with its children; else what the process
    itself had used up to the last flush, since the recording began.
    """
    if about.outcome is not None:
        used = about.outcome
        cpu_seconds = used["user_seconds"] + used["system_seconds"] - summary.overhead_seconds
        page_faults = used["minor_faults"] - summary.own_faults
    else:
        cpu_seconds = summary.cpu_seconds - about.cpu_seconds_before
        page_faults = summary.minor_faults - about.page_faults_before
    return max(cpu_seconds, 1e-6), max(page_faults, 0)


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
