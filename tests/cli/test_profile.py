"""`poolwise profile` from outside: the program stays its own, the recording is whole."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poolwise import profile

POOLWISE = [sys.executable, "-m", "poolwise"]
CHURN = "for n in range(3000):\n    a = bytearray(300_000)\n    a[0] = 1\nprint('ok')\n"
Done = subprocess.CompletedProcess[bytes]
Profile = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Profile:
    """Profile this source as `app.py`, in a directory of its own."""

    def run(source: str, *words: str, stdin: bytes = b"", args: tuple[str, ...] = ()) -> Done:
        (tmp_path / "app.py").write_text(source)
        return subprocess.run(
            [*POOLWISE, "profile", *words, "app.py", *args],
            input=stdin, capture_output=True, cwd=tmp_path, timeout=120,
        )  # fmt: skip

    return run


def recordings(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/samples.log"))


def one_line(done: Done) -> str:
    """What it said: exit status 2, one sentence, nothing else."""
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(b"poolwise: ")
    return done.stderr.decode()


def test_the_recording_is_where_it_says(run: Profile, tmp_path: Path) -> None:
    done = run(CHURN, args=("--force", "x"))
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    (directory,) = recordings(tmp_path)
    assert directory.name.startswith("poolwise-app-2")
    said, following = done.stderr.decode().splitlines()
    opened = profile.open(directory)
    assert f"{len(opened.recording.births):,} samples" in said
    assert f" in {directory.name} " in said
    assert following == f"next: poolwise advise {directory.name}"
    assert opened.meta.program == ("app.py", "--force", "x")
    assert opened.meta.own_code == f"{tmp_path}/"
    assert opened.meta.outcome is not None
    assert opened.meta.outcome["exit_code"] == 0
    assert opened.meta.process > 0
    made = sum(row.weight for row in opened.samples if row.size_bytes == 300_001)
    assert 2700 < made < 3300


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; sys.exit(7)", 7),
        ("raise ValueError('its own')", 1),
        ("def f(:", 1),
        ("", 0),
        ("import os; os._exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", 0),
    ],
)
def test_it_ends_as_the_program_ends(run: Profile, source: str, code: int) -> None:
    done = run(source)
    assert done.returncode == code, done.stderr
    assert done.stdout == b""
    assert b"poolwise: " in done.stderr
    bare = subprocess.run([sys.executable, "-c", source], capture_output=True)
    assert bare.returncode == code


def test_its_streams_are_its_own(run: Profile) -> None:
    source = (
        "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1] + bytes(range(256)))"
    )
    assert run(source, stdin=b"\x00\xff\x01").stdout == b"\x01\xff\x00" + bytes(range(256))


def test_the_directory_that_is_named(run: Profile, tmp_path: Path) -> None:
    assert run(CHURN, "-o", "new/rec").returncode == 0
    before = profile.open(tmp_path / "new" / "rec").meta.started_ns
    again = one_line(run(CHURN, "-o", "new/rec"))
    assert "new/rec: this directory holds a recording" in again
    assert "--force" in again
    assert profile.open(tmp_path / "new" / "rec").meta.started_ns == before
    assert run(CHURN, "-o", "new/rec", "--force").returncode == 0
    assert profile.open(tmp_path / "new" / "rec").meta.started_ns > before
    for force in ([], ["--force"]):
        assert "something else than a recording" in one_line(run(CHURN, "-o", ".", *force))
    assert "this is a file" in one_line(run(CHURN, "-o", "app.py"))
    assert "cannot be written" in one_line(run(CHURN, "-o", "/proc/rec"))


def test_how_closely(run: Profile, tmp_path: Path) -> None:
    source = "for n in range(3000): bytes(1000)"
    samples = []
    for name, *words in (("a", "--exact"), ("b", "--rate", "4096"), ("c", "--rate=4194304")):
        assert run(source, "-o", name, *words).returncode == 0
        opened = profile.open(tmp_path / name)
        samples.append([row for row in opened.samples if row.size_bytes == 1033])
    assert len(samples[0]) == 3000
    assert 3000 > len(samples[1]) > 10 * len(samples[2])
    assert {row.weight for row in samples[0]} == {1.0}
    for words in (["--rate", "0"], ["--rate", "x"], ["--rate", "1e15"], ["--for", "-1"]):
        done = run(source, *words)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr


def test_a_server_is_ended_after_its_time(run: Profile, tmp_path: Path) -> None:
    source = "import time\nwhile True:\n    a = bytearray(100_000)\n    time.sleep(0.001)\n"
    done = run(source, "--for", "1", "-o", "rec")
    assert done.returncode == 0, done.stderr
    assert len(profile.open(tmp_path / "rec").samples) > 100


def test_a_program_that_is_killed_leaves_what_it_had_flushed(run: Profile, tmp_path: Path) -> None:
    source = (
        "import os, time\nend = time.monotonic() + 1.2\n"
        "while time.monotonic() < end: a = bytes(10_000)\nos.kill(os.getpid(), 9)\n"
    )
    done = run(source, "-o", "rec")
    assert done.returncode == -signal.SIGKILL
    assert b"cut short: it ended with signal SIGKILL" in done.stderr
    opened = profile.open(tmp_path / "rec")
    assert len(opened.samples) > 100
    assert opened.meta.outcome is not None
    assert opened.meta.outcome["signal"] == signal.SIGKILL


def test_ctrl_c_ends_the_program_and_the_recording_is_whole(run: Profile, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "print('on', flush=True)\nwhile True:\n    a = bytearray(100_000)\n"
    )
    running = subprocess.Popen(
        [*POOLWISE, "profile", "-o", "rec", "app.py"], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == b"on\n"
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    assert b"next: poolwise advise rec" in err
    assert b"cut short" not in err
    summary = profile.open(tmp_path / "rec").recording.summary
    assert summary is not None
    assert summary.finished


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(at)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_a_full_disk_costs_no_run_and_one_that_fills_up_not_the_program(
    run: Profile, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk"):
        done = run("kept = [[n] for n in range(40_000)]\nprint('ok')", "-o", "disk/a", "--exact")
        assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
        words = done.stderr.decode()
        assert "No space left on device" in words or "the disk is full" in words
        assert "Traceback" not in words
        assert len(profile.open(tmp_path / "disk" / "a").samples) > 100
        assert "No space left on device" in one_line(run(CHURN, "-o", "disk/b"))


def test_a_limit_of_file_size_is_no_traceback(run: Profile, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("kept = [[n] for n in range(40_000)]\nprint('ok')")
    done = subprocess.run(
        [*POOLWISE, "profile", "-o", "rec", "--exact", "app.py"],
        capture_output=True, cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    assert b"cut short" in done.stderr
    assert b"Traceback" not in done.stderr
    assert len(profile.open(tmp_path / "rec").samples) > 100


def test_a_module(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys\nkept = bytes(123_456)\nprint(sys.argv[1:])\n")
    done = subprocess.run(
        [*POOLWISE, "profile", "-o", "rec", "--exact", "-m", "package", "-o", "x"],
        capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"['-o', 'x']\n"), done.stderr
    opened = profile.open(tmp_path / "rec")
    assert opened.meta.program == ("-m", "package", "-o", "x")
    assert opened.meta.own_code == f"{package}/"
    assert json.loads((tmp_path / "rec" / "meta.json").read_text())["schema"] == 1
