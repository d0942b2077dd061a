"""A trial: a program as it is beside the same with a remedy, and what the remedy really gains.

Both arms run in fresh processes, in pairs, after a warm-up run of each. The statistic is the
logarithm of a pair's ratio of CPU seconds (user and system, of the program and of the descendants
it waited for), so that a pair counts the same however long it took.

*In turns*, for a program that computes: both run at once on one processor, stopped and continued in
turns of up to 40 ms (SIGSTOP, SIGCONT to the process group), the turns as long as the arms' CPU
times are to each other, so that both progress alike and a neighbour's noise hits both alike. That
scatters by 1 to 3 %, one run after the other by up to 15 % on a shared machine. *One after the
other*, for a program that waits or that uses several processors: the clock of the one would run on
while it is stopped, and one processor would change how the other works. A server under load
takes turns as well, each with its own load on the other processors, if it and the load say `{port}`
where the port is meant: then each run gets one of its own, and both can be there at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from poolwise.advise import sequential
from poolwise.advise.sequential import Interval
from poolwise.advise.trial_load import PORT
from poolwise.advise.trial_output import Fingerprint, fingerprint, first_difference
from poolwise.advise.trial_processes import Arm, Run
from poolwise.errors import PoolwiseError
from poolwise.program.launch import Outcome

TURN_SECONDS = 0.040
SHORTEST_TURN_SECONDS = 0.002
# CPU seconds per second of a warm-up run for which turns on one processor change nothing; seconds
# in which it only waited for a busy processor do not count.
COMPUTES_FROM, COMPUTES_TO = 0.6, 1.3
# How many pairs before the first look: at fewer, a few like values look like certainty.
FIRST_LOOK_PAIRS = 4
# A trial without a number of pairs takes about a minute, and no more than so many pairs.
TRIAL_SECONDS = 50.0
MOST_PAIRS = 40
# It goes on, although the sign is sure, until the interval is so narrow: this gain, or this share.
NARROW_GAIN, NARROW_SHARE = 0.01, 0.15
NOTHING_GAIN = 0.01  # a gain within this is none
STDERR_TAIL_BYTES = 2000


class ProgramFailed(PoolwiseError, RuntimeError):
    """A run of the program failed, so that there is nothing to compare."""

    def __init__(self, message: str, outcome: Outcome, stderr_tail: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.stderr_tail = stderr_tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one arm used in a run: medians over the pairs. Seconds, counts, bytes."""

    cpu_seconds: float
    wall_seconds: float
    page_faults: float
    peak_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a trial found.

    gain: CPU seconds saved per CPU second, with its 95 % interval; ratio: CPU of new over old,
    1 - gain. verdict: "proven" (the interval is above 0), "disproven" (it is below 0 or within
    1 % of it), "undecided". looks: "once" or "after each pair" (then the interval is one of a
    confidence sequence). order: "in turns" or "one after the other". output: "same", "differs",
    "unsteady" (differs from run to run of one arm) or "not compared". Names: of the two arms.
    """

    old_name: str
    new_name: str
    order: str
    looks: str
    pairs: int
    gain: Interval
    ratio: Interval
    verdict: str
    old: Usage
    new: Usage
    log_ratios: tuple[float, ...]
    output: str
    output_sha256: str
    output_bytes: int
    first_difference: str | None


def run(
    old: Arm,
    new: Arm,
    *,
    pairs: int | None = None,
    max_pairs: int | None = None,
    one_after_the_other: bool | None = None,
    compare: bool = True,
    stdin: Path | None = None,
    load: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> TrialResult:
    """Run both arms in pairs and compare them; for the main thread.

    pairs: so many, and one look at the end. Without it a look after each pair, until the answer is
    clear or `max_pairs` are done (by default as many as fit into about a minute, 4 to 40).
    one_after_the_other: or in turns; None decides by what the warm-up runs did.
    compare: whether both must print the same. stdin: a file that every run reads. load: a shell
    command for a server; each run is the server's, from its start until the load ends. `{port}` in
    it and in the program's arguments is a free port, each run's own.
    progress: called with one line of text at each step. Raises ProgramFailed.

    Example: `run(Arm("a.py", Program("a.py"), Instructions()), Arm("b.py", Program("b.py"),
    Instructions())).gain.value`.
    """
    with tempfile.TemporaryDirectory(prefix="poolwise-try-") as name:
        trial = _Trial((old, new), Path(name), stdin, load, compare)
        warm = trial.warm_up(progress)
        if one_after_the_other is None:
            one_after_the_other = not trial.computes
        in_turns = not one_after_the_other and (load is None or PORT in load)
        pair_seconds = sum(run.cpu_seconds if in_turns else run.wall_seconds for run in warm)
        if max_pairs is None:
            fitting = int(TRIAL_SECONDS / max(pair_seconds, 1e-3))
            max_pairs = max(FIRST_LOOK_PAIRS, min(MOST_PAIRS, fitting))
        done: list[tuple[Outcome, Outcome]] = []
        logs: list[float] = []
        for number in range(pairs or max_pairs):
            seen = "" if len(logs) < FIRST_LOOK_PAIRS else _percent(_gain(logs, pairs))
            most = f"of {pairs}" if pairs else f"of at most {max_pairs}"
            progress(f"pair {number + 1} {most}, {_order(in_turns)}{seen}")
            pair = trial.pair(number, in_turns)
            done.append(pair)
            logs.append(math.log(pair[1].cpu_seconds / pair[0].cpu_seconds))
            if pairs is None and len(logs) >= FIRST_LOOK_PAIRS and _clear(_gain(logs, pairs)):
                break
        gain = _gain(logs, pairs)
        output, difference = trial.compared()
        return TrialResult(
            old_name=old.name,
            new_name=new.name,
            order=_order(in_turns),
            looks="after each pair" if pairs is None else "once",
            pairs=len(logs),
            gain=gain,
            ratio=Interval(1 - gain.value, 1 - gain.high, 1 - gain.low),
            verdict=verdict(gain),
            old=_usage([pair[0] for pair in done]),
            new=_usage([pair[1] for pair in done]),
            log_ratios=tuple(logs),
            output=output,
            output_sha256=trial.reference[0].sha256,
            output_bytes=trial.reference[0].length,
            first_difference=difference,
        )


def verdict(gain: Interval) -> str:
    """ "proven", "disproven" or "undecided", from the gain's interval.

    Example: `verdict(Interval(0.05, 0.02, 0.08)) == "proven"`.
    """
    if gain.low > 0:
        return "proven"
    if gain.high < 0 or (gain.low >= -NOTHING_GAIN and gain.high <= NOTHING_GAIN):
        return "disproven"
    return "undecided"


def _clear(gain: Interval) -> bool:
    wanted = max(NARROW_GAIN, NARROW_SHARE * abs(gain.value))
    return verdict(gain) != "undecided" and (gain.high - gain.low) / 2 <= wanted


def _gain(logs: list[float], pairs: int | None) -> Interval:
    """1 - exp of the mean logarithm, and of its interval's ends, which change places."""
    of_log = sequential.sequence(logs) if pairs is None else sequential.plain(logs)
    low = -math.inf if of_log.high == math.inf else -math.expm1(of_log.high)
    return Interval(-math.expm1(of_log.value), low, -math.expm1(of_log.low))


def _percent(gain: Interval) -> str:
    return f": gain {gain.value:.1%} [{gain.low:.1%}, {gain.high:.1%}] so far"


def _order(in_turns: bool) -> str:
    return "in turns" if in_turns else "one after the other"


def _usage(outcomes: list[Outcome]) -> Usage:
    return Usage(
        cpu_seconds=statistics.median(run.cpu_seconds for run in outcomes),
        wall_seconds=statistics.median(run.wall_seconds for run in outcomes),
        page_faults=statistics.median(run.minor_faults + run.major_faults for run in outcomes),
        peak_bytes=statistics.median(run.peak_bytes for run in outcomes),
    )


class _Trial:
    """The runs of one trial and what they printed."""

    def __init__(
        self,
        arms: tuple[Arm, Arm],
        folder: Path,
        stdin: Path | None,
        load: str | None,
        compare: bool,
    ) -> None:
        self.arms = arms
        self.reference: list[Fingerprint] = []
        self._folder = folder
        self._stdin = stdin
        self._load = load
        self._compare = compare
        self._first_outputs: list[Path] = []
        self._seconds = [1.0, 1.0]
        self._unsteady = False
        self.computes = True  # neither arm waits, or uses several processors, as far as was seen

    def warm_up(self, progress: Callable[[str], None]) -> list[Outcome]:
        """One run of each arm, whose output is kept to compare the others with."""
        outcomes = []
        for side, arm in enumerate(self.arms):
            progress(f"warm-up of {arm.name}")
            with self._runs("warm") as runs:
                outcomes.append(self._alone(runs[side]))
                self._seconds[side] = outcomes[-1].cpu_seconds
                awake = max(runs[side].wall_seconds - runs[side].queued_seconds, 1e-9)
                share = outcomes[-1].cpu_seconds / awake
                # A server waits for its load and not for a clock: that rests when the server does.
                least = COMPUTES_FROM if self._load is None else 0.0
                self.computes &= least <= share <= COMPUTES_TO
                self.reference.append(fingerprint(runs[side].stdout))
                kept = runs[side].stdout.rename(self._folder / f"first-{side}")
                self._first_outputs.append(kept)
        return outcomes

    def pair(self, number: int, in_turns: bool) -> tuple[Outcome, Outcome]:
        """Both arms once; the one that comes first changes from pair to pair."""
        with self._runs("pair") as runs:
            order = (0, 1) if number % 2 == 0 else (1, 0)
            if in_turns:
                self._turns([runs[side] for side in order], [self._seconds[side] for side in order])
            else:
                for side in order:
                    self._alone(runs[side])
            for side, run in enumerate(runs):
                if in_turns:
                    self._check(run)
                if self._compare:
                    self._unsteady |= fingerprint(run.stdout) != self.reference[side]
            old, new = (run.outcome for run in runs)
        assert old is not None
        assert new is not None
        return old, new

    def compared(self) -> tuple[str, str | None]:
        """The word for the outputs, and their first difference."""
        if not self._compare:
            return "not compared", None
        if self._unsteady:
            return "unsteady", None
        difference = first_difference(*self._first_outputs)
        return ("same" if difference is None else "differs"), difference

    @contextlib.contextmanager
    def _runs(self, label: str) -> Iterator[list[Run]]:
        """A run for each arm, not started yet; whatever happens, none goes on behind this."""
        runs = [
            Run(arm, self._folder, f"{label}-{side}", self._stdin, self._load)
            for side, arm in enumerate(self.arms)
        ]
        with contextlib.ExitStack() as ends:
            for run in runs:
                ends.callback(run.end)
            yield runs

    def _alone(self, run: Run) -> Outcome:
        run.resume()
        run.wait()
        assert run.outcome is not None
        self._check(run)
        return run.outcome

    def _turns(self, runs: list[Run], cpu_seconds: list[float]) -> None:
        processors = os.sched_getaffinity(0)
        chosen = {max(processors)}
        longest = max(cpu_seconds)
        turns = [
            max(SHORTEST_TURN_SECONDS, TURN_SECONDS * seconds / longest) for seconds in cpu_seconds
        ]
        os.sched_setaffinity(0, processors - chosen or processors)
        try:
            while True:
                for run, turn in zip(runs, turns, strict=True):
                    run.resume(chosen)
                    if run.wait(turn):
                        break
                    run.pause()
                else:
                    continue
                break
            for run in runs:
                if run.outcome is None:
                    run.resume(chosen)
                    run.wait()
        finally:
            os.sched_setaffinity(0, processors)

    def _check(self, run: Run) -> None:
        """Raise ProgramFailed unless the run succeeded, or was a server's and ended as asked."""
        outcome = run.outcome
        assert outcome is not None
        if outcome.exit_code == 0 or (self._load is not None and run.interrupted):
            return
        with run.stderr.open("rb") as file:
            file.seek(max(0, run.stderr.stat().st_size - STDERR_TAIL_BYTES))
            tail = file.read().decode(errors="replace")
        raise ProgramFailed(
            f"{run.arm.program.target} ({run.arm.name}): ended with {outcome.ended()}, so there "
            "is nothing to compare; make it succeed on its own first",
            outcome,
            tail,
        )
