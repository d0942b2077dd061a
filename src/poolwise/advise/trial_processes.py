"""The processes of a trial: started, stopped, continued, counted, and never left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from poolwise.advise.trial_load import PORT, Load, free_port
from poolwise.program.launch import (
    Instructions,
    Outcome,
    Program,
    own_peak_bytes,
    peak_of,
    reap,
    spawn,
)

GRACE_SECONDS = 3.0  # for a program that is asked to end before it is killed


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a trial: its name in the report, the program, what is done to it."""

    name: str
    program: Program
    instructions: Instructions


class Run:
    """One run of an arm: a process group of its own, its output in files of `folder`.

    It starts at the first `resume`. The group is stopped and continued as a whole; descendants that
    leave it go on alone. With a load it is a server's: the load starts, rests and goes on with it,
    and when it has ended, the server is ended as Ctrl-C would. `wall_seconds` is the time for which
    it was let run, `queued_seconds` the part of it in which its main thread could run but waited
    for a processor.
    """

    def __init__(
        self, arm: Arm, folder: Path, label: str, stdin: Path | None, load: str | None = None
    ) -> None:
        if load is not None and PORT in load:
            port = str(free_port())
            load = load.replace(PORT, port)
            words = tuple(word.replace(PORT, port) for word in arm.program.args)
            arm = replace(arm, program=replace(arm.program, args=words))
        self.arm = arm
        self._load_command = load
        self._load: Load | None = None
        self._load_stderr = folder / f"{label}.load"
        self._interrupted_at = 0.0
        self.stdout = folder / f"{label}.out"
        self.stderr = folder / f"{label}.err"
        self.wall_seconds = 0.0
        self.queued_seconds = 0.0
        self.outcome: Outcome | None = None
        self.interrupted = False
        self._stdin = stdin or Path(os.devnull)
        self._pid = 0
        self._ending = -1
        self._resumed = 0.0
        self._inherited_bytes = 0
        self._seen_bytes = 0

    def resume(self, processors: set[int] | None = None) -> None:
        """Start, or continue. `processors`: the only ones that it and its descendants may use."""
        self._resumed = time.monotonic()
        if self._pid:
            self.signal(signal.SIGCONT)
            if self._load is not None:
                self._load.signal(signal.SIGCONT)
            return
        before = os.sched_getaffinity(0)
        with contextlib.ExitStack() as undo:
            places = [
                os.open(self._stdin, os.O_RDONLY),
                os.open(self.stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                os.open(self.stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            ]
            for descriptor in places:
                undo.callback(os.close, descriptor)
            if processors:
                undo.callback(os.sched_setaffinity, 0, before)
                os.sched_setaffinity(0, processors)
            self._inherited_bytes = own_peak_bytes()
            stdin, stdout, stderr = places
            # Blocked until the id is ours to end: an exception in between would lose the process.
            blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            self._pid = spawn(
                self.arm.program,
                self.arm.instructions,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                own_group=True,
                signal_mask=list(mask),
            )
            self._ending = os.pidfd_open(self._pid)
        if self._load_command is not None:
            self._load = Load(self._load_command, self._load_stderr)

    def pause(self) -> None:
        """Stop the whole group, and the load; they use no processor until `resume`."""
        if self._load is not None:
            self._load.signal(signal.SIGSTOP)
        self.signal(signal.SIGSTOP)
        self.wall_seconds += time.monotonic() - self._resumed
        self._resumed = time.monotonic()
        self._seen_bytes = max(self._seen_bytes, peak_of(self._pid))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)

    def interrupt(self) -> None:
        """SIGINT to the group, as Ctrl-C would send it."""
        self.interrupted = True
        self._interrupted_at = time.monotonic()
        self.signal(signal.SIGINT)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the program's end, for so long at most; whether it has ended.

        Raises PoolwiseError if the load fails while the server runs.
        """
        if self.outcome is not None:
            return True
        if self._load is not None and not self.interrupted:
            first = select.select([self._ending, self._load.ending], [], [], seconds)[0]
            if not first:
                return False
            if self._ending not in first:
                self._load.check()
                self.interrupt()
        patience = self._interrupted_at + GRACE_SECONDS
        if self.interrupted:
            left = max(0.0, patience - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        ended = select.select([self._ending], [], [], seconds)[0]
        if not ended and not (self.interrupted and time.monotonic() >= patience):
            return False
        self.wall_seconds += time.monotonic() - self._resumed
        self._reap()
        return True

    def end(self) -> None:
        """End what still runs: asked by SIGINT first, so that it can clean up, then killed."""
        if not self._pid or self.outcome is not None:
            return
        try:
            self.signal(signal.SIGINT)
            self.signal(signal.SIGCONT)
            select.select([self._ending], [], [], GRACE_SECONDS)
        finally:
            self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(OSError):  # a kernel may be built without
            _, queued_ns, _ = Path(f"/proc/{self._pid}/schedstat").read_text().split()
            self.queued_seconds = int(queued_ns) / 1e9
        self.signal(signal.SIGKILL)  # what it left behind, while its id still names the group
        if self._load is not None:
            self._load.end(GRACE_SECONDS)
        self.outcome = reap(
            self._pid,
            wall_seconds=self.wall_seconds,
            inherited_bytes=self._inherited_bytes,
            seen_bytes=self._seen_bytes,
        )
        os.close(self._ending)


class _Ended(BaseException):
    """A signal that ends this process, as an exception, so that the runs are ended first."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP unwind like Ctrl-C before they end this process."""
    received: list[int] = []

    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise _Ended

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, unwind) for number in numbers}
    try:
        yield
    except _Ended:
        signal.signal(received[0], signal.SIG_DFL)
        signal.raise_signal(signal.Signals(received[0]))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
