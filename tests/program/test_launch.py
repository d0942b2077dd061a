"""The parent's side: what is no program, how a child is waited for, signals, its time, its end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from poolwise.errors import UsageError
from poolwise.program import Instructions, Outcome, Program, run_child


def write(folder: Path, source: str, name: str = "app.py") -> str:
    path = folder / name
    path.write_text(textwrap.dedent(source))
    return str(path)


def run(folder: Path, source: str, *args: str, **options: float) -> Outcome:
    return run_child(
        Program(write(folder, source), args), Instructions(), for_seconds=options.get("for_seconds")
    )


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("missing.py", "missing.py: there is no such file"),
        ("folder", "folder: this directory has no __main__.py"),
        ("binary", "binary: this is not a Python file"),
        ("app.zip", "app.zip: this zip file has no __main__.py"),
        ("secret.py", "secret.py: cannot be read (Permission denied)"),
    ],
)
def test_what_is_no_program(
    target: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipfile

    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("binary").write_bytes(Path(sys.executable).read_bytes()[:10_000])
    with zipfile.ZipFile("app.zip", "w") as archive:
        archive.writestr("other.py", "")
    Path("secret.py").touch(0)
    if target == "secret.py" and os.access("secret.py", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UsageError) as caught:
        Program(target).check()
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("name", ["nothing_of_that_name", "json.nothing", "nothing.sub"])
def test_a_module_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match=f"-m {name}: no module of that name"):
        Program(name, as_module=True).check()


def test_programs_that_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text("def f(:\n")  # its SyntaxError is its own
    Path("broken.py").write_text("import nothing_of_that_name\n")
    for program in (
        Program("bad.py"),
        Program("json.tool", as_module=True),
        Program("broken", as_module=True),
    ):
        program.check()


def test_exit_code_and_signal(tmp_path: Path) -> None:
    assert run(tmp_path, "raise SystemExit(7)").exit_code == 7
    killed = run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (killed.exit_code, killed.signal) == (None, signal.SIGKILL)
    assert killed.ended() == "signal SIGKILL"


def test_what_it_used_is_counted_with_the_children_it_waited_for(tmp_path: Path) -> None:
    busy = """
        import subprocess, sys, time
        def work(seconds):
            while time.process_time() < seconds: pass
        if len(sys.argv) == 1:
            work(0.2); subprocess.run([sys.executable, __file__, "child"])
        else:
            work(0.3); x = bytearray(60_000_000); x[::4096] = b"x" * len(x[::4096])
    """
    # From a small process: a peak below the parent's own cannot be told from what it inherits.
    ask = (
        "from poolwise.program import *; "
        f"o = run_child(Program({write(tmp_path, busy)!r})); "
        "print(o.cpu_seconds, o.peak_bytes, o.minor_faults, o.wall_seconds)"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    cpu_seconds, peak_bytes, minor_faults, wall_seconds = map(float, done.stdout.split())
    assert 0.5 <= cpu_seconds < 2
    assert peak_bytes > 60_000_000
    assert minor_faults > 1000
    assert wall_seconds >= 0.5


def test_peak_is_the_program_s_and_not_inherited_from_a_big_parent(tmp_path: Path) -> None:
    ballast = bytearray(100_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    # Long enough for the parent, which looks once a second, to see it.
    outcome = run(tmp_path, "import time\nwhile time.process_time() < 1.3: pass")
    assert 0 < outcome.peak_bytes < 50_000_000, len(ballast)


def test_no_signal_is_blocked_or_ignored_in_the_child(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    source = f"""
        import signal
        open({str(shown)!r}, "w").write(repr((signal.pthread_sigmask(0, []),
            signal.getsignal(signal.SIGINT) is signal.default_int_handler)))
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    run(tmp_path, source)
    assert eval(shown.read_text(), {}) == (set(), True)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_its_time_is_over_then_it_gets_an_interrupt(tmp_path: Path) -> None:
    outcome = run(tmp_path, "import signal; signal.pause()", for_seconds=0.3)
    assert outcome.signal == signal.SIGINT


def test_a_program_that_ignores_interrupts_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolwise.program.launch.GRACE_SECONDS", 0.1)
    source = """
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: signal.pause()
    """
    assert run(tmp_path, source, for_seconds=0.5).signal == signal.SIGKILL


PARENT = """
from poolwise.program import Program, Instructions, run_child, exit_like
import sys
outcome = run_child(Program(sys.argv[1]), Instructions())
print(outcome.exit_code, outcome.signal, flush=True)
exit_like(outcome)
"""

CHILD = """
import os, signal
def heard(number, frame):
    print("heard", number, flush=True)
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, heard)
print("pid", os.getpid(), flush=True)
while True: signal.pause()
"""


def test_signals_are_sent_on_and_the_end_is_the_same(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, write(tmp_path, CHILD)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("pid ")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        parent.send_signal(number)
        assert parent.stdout.readline() == f"heard {int(number)}\n"
    assert parent.stdout.readline() == "None 15\n"
    assert parent.wait(timeout=60) == -signal.SIGTERM


class Terminal:
    """A real terminal with PARENT in its foreground: its driver turns ^C into SIGINT for both."""

    def __init__(self, program: str) -> None:
        self.pid, terminal = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", PARENT, program])
        self.screen = os.fdopen(terminal, "r+b", buffering=0)
        self.seen = b""

    def until(self, word: bytes) -> None:
        while word not in self.seen:
            self.seen += self.screen.read(1000)

    def press_ctrl_c(self) -> None:
        self.screen.write(b"\x03")

    def end(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.screen.close()
        return code


def test_ctrl_c_at_the_terminal_arrives_once(tmp_path: Path) -> None:
    source = """
        import os, signal
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        print("ready", flush=True)
        first = os.read(reading, 1)[0]
        # A second delivery would come before a USR1 that is sent later through the same parent.
        print("asks", flush=True)
        print("heard", first, os.read(reading, 1)[0], flush=True)
    """
    terminal = Terminal(write(tmp_path, source))
    terminal.until(b"ready")
    terminal.press_ctrl_c()
    terminal.until(b"asks")
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.until(b"heard 2 10")
    terminal.until(b"0 None")
    assert terminal.end() == 0


def test_ctrl_c_that_ends_the_program_leaves_its_parent_time_to_report(tmp_path: Path) -> None:
    source = "import signal; signal.signal(2, signal.SIG_DFL); print('ready', flush=True)\n"
    terminal = Terminal(write(tmp_path, source + "while True: signal.pause()"))
    terminal.until(b"ready")
    terminal.press_ctrl_c()
    terminal.until(b"None 2")  # printed by the parent, which then ends likewise
    assert terminal.end() == -signal.SIGINT


def test_an_unencodable_name_reaches_the_child(tmp_path: Path) -> None:
    name = "a\udcffé\n\U0001f600.py"
    text = Instructions(overlay={str(tmp_path / name): "b"}).encode()
    assert text.isascii()
    assert [os.path.basename(path) for path in eval(text)["overlay"]] == [name]
