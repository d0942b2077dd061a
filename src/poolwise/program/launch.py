"""Start a user's program as a child process, wait for it, and end like it."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from poolwise import _core
from poolwise.errors import UsageError
from poolwise.program import settings

CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")

# Sent to the program when it is sent to us. INT and QUIT come from the terminal to both of us.
FORWARDED = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
SI_KERNEL = 0x80  # siginfo code of a signal that the terminal sent to the whole process group
MEANWHILE_SECONDS = 0.15
GRACE_SECONDS = 5.0  # between SIGINT, SIGTERM and SIGKILL when the program's time is over


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program and its arguments, as a user types them after `python`.

    `target` is a file, a directory or a zip file with `__main__.py`, or, with `as_module`, the
    module of `python -m`. Example: `Program("app.py", ("--fast",))`.
    """

    target: str
    args: tuple[str, ...] = ()
    as_module: bool = False
    python: str = sys.executable

    def command(self) -> list[str]:
        """The program's words, without the interpreter: what `advise --json` calls "program"."""
        return [*(["-m"] if self.as_module else []), self.target, *self.args]

    def check(self) -> None:
        """Raise UsageError, in one sentence, if this cannot be a Python program at all.

        A SyntaxError is the program's own and shows when it runs.
        """
        if self.as_module:
            _check_module(self)
        elif not os.path.exists(self.target):
            raise UsageError(f"{self.target}: there is no such file; name the program to run")
        elif os.path.isdir(self.target):
            if not has_main(self.target):
                raise UsageError(
                    f"{self.target}: this directory has no __main__.py; name the program in it"
                )
        else:
            _check_file(self.target)


def has_main(directory: str) -> bool:
    """Whether Python can run this directory."""
    names = ("__main__.py", "__main__.pyc")
    return any(os.path.isfile(os.path.join(directory, name)) for name in names)


def _check_file(path: str) -> None:
    import zipfile

    if not os.path.isfile(path):
        return  # a pipe or a device can be read once only: by the program's interpreter
    try:
        with open(path, "rb") as file:
            head = file.read(8192)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not {"__main__.py", "__main__.pyc"} & set(archive.namelist()):
                raise UsageError(f"{path}: this zip file has no __main__.py; name a program")
    elif b"\0" in head and not path.endswith(".pyc"):
        raise UsageError(f"{path}: this is not a Python file; name the program's source")


def _check_module(program: Program) -> None:
    """Look for the module as the child will: its parents are imported, so not in this process."""
    finder = (
        "import importlib.util, sys\n"
        "try: found = importlib.util.find_spec(sys.argv[1]) is not None\n"
        "except ModuleNotFoundError as error:\n"
        "    found = error.name is None or not (sys.argv[1] + '.').startswith(error.name + '.')\n"
        "except Exception: found = True\n"  # the program's own failure: it shows when it runs
        "sys.exit(0 if found else 44)"
    )
    found = subprocess.run(
        [program.python, *interpreter_flags(), "-c", finder, program.target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if found.returncode == 44:
        raise UsageError(
            f"-m {program.target}: no module of that name is found from {os.getcwd()}; "
            "check the name, or install it for " + program.python
        )


@dataclass(frozen=True, slots=True)
class Instructions:
    """What is done to the program before its first line.

    settings: parts of the settings remedy, "malloc", "gc".
    overlay: source file -> file whose text is compiled in its place.
    profile: passed to `poolwise.profile.child.start`, or None; of strings, numbers, lists, dicts.
    """

    settings: tuple[str, ...] = ()
    overlay: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, object] | None = None

    def encode(self) -> str:
        """As the child's first argument, see `child.py`."""
        overlay = {
            os.path.realpath(path): os.path.realpath(text) for path, text in self.overlay.items()
        }
        given = {
            "core": _core.__file__,
            "mallopt": settings.MALLOC if "malloc" in self.settings else (),
            "gc": settings.GC if "gc" in self.settings else (),
            "overlay": overlay,
            "profile": None if self.profile is None else dict(self.profile),
        }
        return ascii(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended and what it used, with the descendants that it waited for.

    exit_code is None if it died of a signal, signal is None if not. Seconds, bytes, counts.
    """

    exit_code: int | None
    signal: int | None
    user_seconds: float
    system_seconds: float
    wall_seconds: float
    minor_faults: int
    major_faults: int
    peak_bytes: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds

    def ended(self) -> str:
        """In words: "exit code 3", "signal SIGSEGV"."""
        if self.signal is not None:
            return f"signal {signal.Signals(self.signal).name}"
        return f"exit code {self.exit_code}"


def interpreter_flags() -> list[str]:
    """The options that this interpreter was started with (-O, -W, -X …), for the child's."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def command_line(program: Program, instructions: Instructions) -> list[str]:
    """The child's command: interpreter, its flags, child.py, instructions, program."""
    python = [program.python, *interpreter_flags(), CHILD]
    return [*python, instructions.encode(), *program.command()]


def replace_self(program: Program, instructions: Instructions) -> NoReturn:
    """Become the program: exit code, signals and standard streams are its own from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    words = command_line(program, instructions)
    os.execv(words[0], words)


def spawn(
    program: Program,
    instructions: Instructions,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    own_group: bool = False,
    signal_mask: Sequence[int] = (),
) -> int:
    """Start the child and return its process id; the caller waits for it.

    Descriptors replace the child's standard streams. With `own_group` it leads a process group.
    """
    words = command_line(program, instructions)
    actions = [
        (os.POSIX_SPAWN_DUP2, descriptor, place)
        for place, descriptor in enumerate((stdin, stdout, stderr))
        if descriptor is not None
    ]
    options: dict[str, Any] = {"setpgroup": 0} if own_group else {}
    return os.posix_spawn(
        words[0],
        words,
        os.environ if env is None else env,
        file_actions=actions,
        setsigmask=signal_mask,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; the child does it anew
        **options,
    )


def own_peak_bytes() -> int:
    """This process's own peak: an upper bound of what a new child inherits as its `ru_maxrss`.

    The kernel carries the peak of the memory that a process had before `exec` over to the new
    program, and until then a spawned child shares its parent's.
    """
    return peak_of(os.getpid())


def peak_of(pid: int) -> int:
    """Peak resident bytes of a running process, 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def reap(pid: int, *, wall_seconds: float, inherited_bytes: int, seen_bytes: int) -> Outcome:
    """Wait for a child that has ended and turn its resource usage into an Outcome."""
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * 1024
    return Outcome(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        user_seconds=usage.ru_utime,
        system_seconds=usage.ru_stime,
        wall_seconds=wall_seconds,
        minor_faults=usage.ru_minflt,
        major_faults=usage.ru_majflt,
        peak_bytes=peak if peak > inherited_bytes or not seen_bytes else seen_bytes,
    )


def run_child(
    program: Program,
    instructions: Instructions = Instructions(),
    *,
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
    for_seconds: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome:
    """Run the program to its end and say how it ended; for the main thread only.

    It keeps stdin, stdout and stderr of this process. Ctrl-C is the program's: the terminal sends
    it to both, and this process waits on. Signals sent to this process alone are sent on. After
    `for_seconds` the program gets SIGINT, as from Ctrl-C; if it goes on, SIGTERM, then SIGKILL.
    `meanwhile` is called a few times a second while the program runs.
    Example: `run_child(Program("app.py")).cpu_seconds`.
    """
    waited = {*FORWARDED, signal.SIGCHLD}
    inherited = own_peak_bytes()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    pid = 0
    try:
        started = time.monotonic()
        pid = spawn(program, instructions, stdout=stdout, env=env, signal_mask=list(before))
        ending = os.pidfd_open(pid)
        try:
            seen = _wait(pid, ending, started, for_seconds, waited, meanwhile)
        finally:
            os.close(ending)
        wall = time.monotonic() - started
        outcome = reap(pid, wall_seconds=wall, inherited_bytes=inherited, seen_bytes=seen)
        pid = 0
        # A Ctrl-C that ended the program was sent to us in the same moment: it is dealt with.
        while signal.sigtimedwait({signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD}, 0) is not None:
            pass
        return outcome
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(
    pid: int,
    ending: int,
    started: float,
    for_seconds: float | None,
    waited: set[signal.Signals],
    meanwhile: Callable[[], None] | None,
) -> int:
    """Wait for the child's end, pass signals on, keep its time; returns the peak bytes seen."""
    last_words = iter((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
    deadline = None if for_seconds is None else started + for_seconds
    seen = 0
    while not select.select([ending], [], [], 0)[0]:
        seen = max(seen, peak_of(pid))
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            word = next(last_words, signal.SIGKILL)
            os.kill(pid, word)
            deadline = now + GRACE_SECONDS
        if meanwhile is not None:
            meanwhile()
        longest = 1.0 if meanwhile is None else MEANWHILE_SECONDS
        pause = longest if deadline is None else max(0.0, min(longest, deadline - now))
        info = signal.sigtimedwait(waited, pause)
        if info is None or info.si_signo == signal.SIGCHLD:
            continue
        from_terminal = info.si_code == SI_KERNEL
        if not from_terminal:
            os.kill(pid, info.si_signo)
    return seen


def exit_like(outcome: Outcome) -> NoReturn:
    """End this process as the program ended: the same exit code, or the same signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    if outcome.signal is None:
        sys.exit(outcome.exit_code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if outcome.signal != signal.SIGKILL:
        signal.signal(outcome.signal, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [outcome.signal])
    os.kill(os.getpid(), outcome.signal)
    sys.exit(128 + outcome.signal)  # the signal does not end a process, after all
