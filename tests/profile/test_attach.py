"""Processes that are sampled from outside, and all that can stand in the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attach_programs import BLOCKED, NOBODY, PROGRAM, UNPRIVILEGED, Running, Start

from poolwise.errors import AttachError, RecordingError, UsageError
from poolwise.profile import attach_child, recording
from poolwise.profile.attach import attach

with_remote_exec = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="sys.remote_exec came with 3.14 (make test-sid)"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
unsanitized = pytest.mark.skipif(
    "LD_PRELOAD" in os.environ, reason="a sanitizer cannot write its report as somebody else"
)


def functions(directory: Path) -> set[str]:
    """The functions that allocated what was sampled."""
    recorded = recording.read(str(directory))
    return {
        recorded.code(next(iter(recorded.stack(birth.stack)))).function
        for birth in recorded.births
        if birth.stack
    }


def finished(directory: Path) -> bool:
    try:
        summary = recording.read(str(directory)).summary
    except RecordingError:  # killed before the first flush
        return False
    return summary is not None and summary.finished


def wait_until_finished(program: Running, directory: Path) -> None:
    deadline = time.monotonic() + 60
    while not finished(directory):
        assert time.monotonic() < deadline
        program.work()


# ---- what it is for -----------------------------------------------------------------------


@with_remote_exec
@pytest.mark.parametrize("imports", ["", "import poolwise\n"], ids=["without", "with poolwise"])
def test_a_running_process_is_sampled(start: Start, tmp_path: Path, imports: str) -> None:
    program = start(imports + PROGRAM)
    assert program.work() == bool(imports)
    with attach(program.pid, str(tmp_path / "recording")) as attached:
        assert program.work()
        assert not attached.wait(0)
    assert "work" in functions(tmp_path / "recording")
    assert finished(tmp_path / "recording")
    program.work()
    program.end()


@with_remote_exec
def test_a_process_is_attached_to_twice(start: Start, tmp_path: Path) -> None:
    program = start()
    for name in ("first", "second"):
        with attach(program.pid, str(tmp_path / name), mean_bytes=4096):
            program.work()
        assert "work" in functions(tmp_path / name)
        assert finished(tmp_path / name)
        program.work()  # while nothing is sampled, the sampler looks only now and then
    program.end()


@with_remote_exec
@pytest.mark.parametrize("killed", [False, True])
def test_a_process_that_ends_meanwhile(start: Start, tmp_path: Path, killed: bool) -> None:
    program = start()
    attached = attach(program.pid, str(tmp_path))
    program.work()
    if killed:
        program.process.kill()
        program.process.wait()
    else:
        program.end()
    assert attached.wait(60)
    attached.stop()
    attached.stop()  # does nothing
    assert attached.wait()
    assert finished(tmp_path) != killed


@with_remote_exec
def test_a_process_that_becomes_another_program(start: Start, tmp_path: Path) -> None:
    program = start(PROGRAM.replace("        work()", "        os.execlp('sleep', 'sleep', '60')"))
    with attach(program.pid, str(tmp_path)) as attached:
        program.send_byte()
        assert attached.wait(60)
    assert not finished(tmp_path)


@with_remote_exec
def test_stopping_needs_no_python_in_the_main_thread(start: Start, tmp_path: Path) -> None:
    program = start(PROGRAM + "        os.read(0, 1)\n")
    with attach(program.pid, str(tmp_path)):
        program.work()  # and then it waits in C
    assert "work" in functions(tmp_path)
    assert finished(tmp_path)
    program.send_byte()
    program.end()


@with_remote_exec
def test_a_process_that_does_not_answer_stops_later(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poolwise.profile.attach.WAIT_SECONDS", 0.2)
    program = start()
    attached = attach(program.pid, str(tmp_path))
    os.kill(program.pid, signal.SIGSTOP)
    with pytest.raises(AttachError, match=r"has not let another thread run for 0\.2 s: the"):
        attached.stop()
    os.kill(program.pid, signal.SIGCONT)
    wait_until_finished(program, tmp_path)
    program.end()


@with_remote_exec
def test_signals_stay_with_the_program_s_own_threads(start: Start, tmp_path: Path) -> None:
    program = start()
    tasks = Path(f"/proc/{program.pid}/task")
    with attach(program.pid, str(tmp_path)):
        (ours,) = (task for task in tasks.iterdir() if int(task.name) != program.pid)
        status = (ours / "status").read_text()
    (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    assert int(blocked, 16) & 1 << 15 - 1  # SIGTERM
    assert int(blocked, 16) & 1 << 2 - 1  # SIGINT
    program.end()


@with_remote_exec
def test_a_program_whose_threads_are_something_else(start: Start, tmp_path: Path) -> None:
    # As gevent and eventlet do: a "thread" that runs in the main one would never give it back.
    program = start("import _thread\n_thread.start_new_thread = lambda f, a: f(*a)\n" + PROGRAM)
    with attach(program.pid, str(tmp_path)):
        program.work()
    assert "work" in functions(tmp_path)
    program.end()


# ---- what stands in the way ---------------------------------------------------------------


@with_remote_exec
def test_a_process_that_is_blocked_in_c(start: Start, tmp_path: Path) -> None:
    program = start(BLOCKED)
    with pytest.raises(AttachError, match=r"has run no Python in its main thread for 0\.3 s"):
        attach(program.pid, str(tmp_path / "recording"), wait_seconds=0.3)
    assert not (tmp_path / "recording").exists()
    assert not program.work()  # the call that was pending has done nothing
    assert not program.work()
    assert not (tmp_path / "recording").exists()
    program.end()


def test_a_pending_call_finds_nobody(tmp_path: Path) -> None:
    text = Path(attach_child.__file__).read_text()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            f"exec({text!a} + '\\nbegin(\"\\\\0nobody-listens-here\")', {{}})\n"
            "while len(sys._current_frames()) > 1: time.sleep(0.001)\n"
            "print('poolwise' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


@with_remote_exec
def test_a_process_that_is_being_sampled_already(start: Start, tmp_path: Path) -> None:
    program = start()
    with attach(program.pid, str(tmp_path / "first")):
        with pytest.raises(AttachError, match="it is being sampled already, into /"):
            attach(program.pid, str(tmp_path / "second"))
        assert not (tmp_path / "second").exists()
        program.work()
    assert "work" in functions(tmp_path / "first")
    assert finished(tmp_path / "first")
    program.end()


@with_remote_exec
def test_a_process_with_another_poolwise(start: Start, tmp_path: Path) -> None:
    program = start("import poolwise\npoolwise.__version__ = '0.0.7'\n" + PROGRAM)
    with pytest.raises(AttachError, match=r"it uses poolwise 0\.0\.7: attach with that version"):
        attach(program.pid, str(tmp_path / "recording"))
    assert not (tmp_path / "recording").exists()
    program.end()


@with_remote_exec
def test_remote_debugging_switched_off(start: Start, tmp_path: Path) -> None:
    program = start(env={**os.environ, "PYTHON_DISABLE_REMOTE_DEBUG": "1"})
    with pytest.raises(AttachError, match=r"was started with remote debugging switched off"):
        attach(program.pid, str(tmp_path / "recording"))
    assert not (tmp_path / "recording").exists()
    program.end()


def test_no_such_process(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(AttachError, match=f"there is no process {process.pid}"):
        attach(process.pid, str(tmp_path / "recording"))


def test_a_process_that_nobody_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(AttachError, match=f"process {process.pid} has ended"):
        attach(process.pid, str(tmp_path / "recording"))
    process.wait()


def test_no_python(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            with pytest.raises(AttachError, match=f"process {process.pid} runs no CPython"):
                attach(process.pid, str(tmp_path / "recording"))
        finally:
            process.kill()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python is new enough")
def test_a_python_that_is_too_old(start: Start, tmp_path: Path) -> None:
    program = start()
    wanted = r"runs Python 3\.1\d \(.*\), and only 3\.14 and newer .* `poolwise profile`"
    with pytest.raises(AttachError, match=wanted):
        attach(program.pid, str(tmp_path / "recording"))
    program.end()


@with_remote_exec
def test_another_version_than_ours(tmp_path: Path) -> None:
    other = "3.15" if sys.version_info[:2] == (3, 14) else "3.14"
    python = shutil.which(f"python{other}")
    if python is None:
        pytest.skip(f"there is no Python {other} beside this one")
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(AttachError, match=rf"runs Python {other} .*python{other} -m poolwise"):
            attach(process.pid, str(tmp_path / "recording"))
        process.communicate(b"\n")


# ---- whose it is --------------------------------------------------------------------------


def as_nobody(call: str) -> str:
    """What `attach` says to somebody who is not root."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os\nfrom poolwise.errors import AttachError\n"
            "from poolwise.profile.attach import attach\n"
            f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            f"try: {call}\nexcept AttachError as error: print(error)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


@as_root
@unsanitized
def test_somebody_else_s_process(start: Start, tmp_path: Path) -> None:
    program = start()
    sentence = as_nobody(f"attach({program.pid}, {str(tmp_path / 'recording')!r})")
    assert sentence == (
        f"process {program.pid} belongs to root, and this command runs as nobody: run it as that "
        "user, or as root\n"
    )
    program.end()


@as_root
@unsanitized
def test_a_process_that_may_not_be_traced(start: Start, tmp_path: Path) -> None:
    # One that gave up being root is not dumpable, and hidden from its new user.
    program = start(UNPRIVILEGED)
    sentence = as_nobody(f"attach({program.pid}, {str(tmp_path / 'recording')!r})")
    assert sentence.startswith(f"process {program.pid} may not be looked into: run attach as root")
    assert "kernel.yama.ptrace_scope" in sentence
    program.end()


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@with_remote_exec
@as_root
def test_root_hands_the_directory_over(start: Start, public: Path) -> None:
    program = start(UNPRIVILEGED)
    with attach(program.pid, str(public / "recording")):
        program.work()
    assert (public / "recording").stat().st_uid == NOBODY
    assert finished(public / "recording")
    program.end()


@with_remote_exec
@as_root
def test_a_directory_that_the_process_cannot_write_to(start: Start, public: Path) -> None:
    program = start(UNPRIVILEGED)
    with pytest.raises(AttachError, match=r"it cannot write .*\(Permission denied\): name a"):
        attach(program.pid, str(public))
    assert not list(public.iterdir())
    program.end()


@as_root
def test_a_process_in_another_container(start: Start, tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to make namespaces with")
    command = ["unshare", "--net", sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("namespaces cannot be made here")
        with pytest.raises(AttachError, match="runs in another container or service"):
            attach(process.pid, str(tmp_path / "recording"))
        process.communicate(b"\n")


# ---- where to -----------------------------------------------------------------------------


@with_remote_exec
def test_directories_that_cannot_be_used(start: Start, tmp_path: Path) -> None:
    program = start()
    with attach(program.pid, str(tmp_path / "recording")):
        pass
    with pytest.raises(UsageError, match="this directory holds a recording; name a new one"):
        attach(program.pid, str(tmp_path / "recording"))
    (tmp_path / "file").write_text("")
    for name, sentence in (("file", "this is a file"), ("file/below", "cannot be written")):
        with pytest.raises(UsageError, match=sentence):
            attach(program.pid, str(tmp_path / name))
    assert (tmp_path / "recording").is_dir()
    program.end()


# ---- the command --------------------------------------------------------------------------


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "poolwise", "attach", *map(str, words)]


@with_remote_exec
def test_ctrl_c_ends_the_sampling_and_keeps_the_recording(start: Start, tmp_path: Path) -> None:
    program = start()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(program.pid, "--rate", 4096), cwd=tmp_path, stderr=pipe, text=True
    ) as attaching:
        assert attaching.stderr is not None
        first = attaching.stderr.readline()
        program.work()
        attaching.send_signal(signal.SIGINT)
        rest = attaching.stderr.read()
    name = f"poolwise-{program.pid}"
    assert first == (
        f"poolwise: sampling process {program.pid} into {name} until Ctrl-C; what it allocated "
        "before is not seen\n"
    )
    assert attaching.returncode == 0
    assert rest.endswith(f"sampled allocations in {name}\nnext: poolwise advise {name}\n")
    assert "work" in functions(tmp_path / name)
    assert finished(tmp_path / name)
    program.work()
    program.end()


@with_remote_exec
def test_the_sampling_ends_when_its_time_is_over(start: Start, tmp_path: Path) -> None:
    program = start()
    done = subprocess.run(
        command(program.pid, "--for", 0.1), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "until 0.1 s are over" in done.stderr
    assert "has ended" not in done.stderr
    assert finished(tmp_path / f"poolwise-{program.pid}")
    program.end()


@with_remote_exec
def test_the_sampling_ends_when_the_command_is_killed(start: Start, tmp_path: Path) -> None:
    program = start()
    directory = tmp_path / "recording"
    with subprocess.Popen(
        command(program.pid, "-o", directory), stderr=subprocess.PIPE
    ) as attaching:
        assert attaching.stderr is not None
        assert b"sampling process" in attaching.stderr.readline()
        program.work()
        attaching.kill()
    wait_until_finished(program, directory)
    assert "work" in functions(directory)
    program.end()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["0"], "'0' is no process id; give its number"),
        (["app.py"], "'app.py' is no process id; give its number"),
        (["1", "--rate", "0"], "'0' is no number of bytes from 1 to"),
        (["1", "--for", "x"], "'x' is no number of seconds; give more than 0"),
        (["2147483647"], "poolwise: there is no process 2147483647; name one that is running"),
    ],
)
def test_words_that_cannot_be_used(words: list[str], sentence: str, tmp_path: Path) -> None:
    done = subprocess.run(command(*words), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
