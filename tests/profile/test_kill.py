"""SIGKILL at any moment: everything that was sampled until then is read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sampled_programs import Run, write_program

from poolwise.profile import recording
from poolwise.profile.recording import ALIVE, FREED
from poolwise.program import Instructions
from poolwise.program.launch import CHILD

IDLE = """
    import time
    kept = [bytes(3000) for i in range(100)]  # kept
    for i in range(50):
        block = bytes(5000)  # freed
    del block
    print("ready", flush=True)
    time.sleep(600)
"""

# The length of `made` is how many blocks there are, or one less.
COUNTING = """
    import os
    made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        block = bytes(3000)  # block
        os.write(made, b".")
"""
PAUSE = "    time.sleep(0.0003)\n"


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Start]:
    """Start a program under the sampler; it is gone when the test ends, whatever happens."""
    programs: list[subprocess.Popen[str]] = []

    def start(file: Path, directory: Path, **options: object) -> subprocess.Popen[str]:
        directory.mkdir()
        instructions = Instructions(profile={"dir": str(directory), **options}).encode()
        program = subprocess.Popen(
            [sys.executable, CHILD, instructions, str(file)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MADE": str(file.parent / "made")},
        )
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.wait()


def killed(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()
    assert program.returncode == -signal.SIGKILL


@pytest.fixture
def idle_run(tmp_path: Path, started: Start) -> Run:
    """A program that samples, and is killed while it waits."""
    file = write_program(tmp_path, IDLE)
    program = started(file, tmp_path / "recording", exact=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    time.sleep(3)  # idle: far longer than between two flushes, and no hook is called
    killed(program)
    return Run(file, tmp_path / "recording", program.returncode, "", "")


def test_nothing_is_lost_by_an_idle_program(idle_run: Run) -> None:
    read = idle_run.recording
    assert read.cut_bytes == 0
    assert read.summary is not None
    assert read.summary.samples == len(read.births)
    assert read.summary.cpu_seconds > 0.001
    assert not read.summary.finished
    assert idle_run.site("kept", least=3000).count == 100
    assert all(s.death_ns is None for s in idle_run.site("kept", least=3000).samples)
    freed = idle_run.site("freed", least=5000)
    assert freed.count == 50
    assert all(s.death_ns is not None for s in freed.samples)


def test_a_tail_that_does_not_fit_is_left_out(idle_run: Run) -> None:
    """As after a power cut, which may keep one file and not the other."""
    whole = idle_run.recording
    tail = idle_run.directory / "samples.tail"
    good = tail.read_bytes()
    for damaged in (b"", good[:5000], b"x" + good[1:], good[:20] + b"\7" + good[21:]):
        tail.write_bytes(damaged)
        with suppress(recording.RecordingError):  # unless it took long to start, and wrote once
            assert len(recording.read(idle_run.directory).births) < len(whole.births)
    random.seed(7)
    for _ in range(300):  # rubbish in the records or in the head: less is read, or the same
        damaged_bytes = bytearray(good)
        for _ in range(random.randrange(1, 30)):
            damaged_bytes[random.randrange(16, len(good))] = random.randrange(256)
        tail.write_bytes(damaged_bytes)
        try:
            found = recording.read(idle_run.directory)
        except recording.RecordingError:
            continue
        assert len(found.births) <= len(whole.births)
        for death in found.deaths.values():
            list(found.stack(death.stack))


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(tmp_path: Path, started: Start, seed: int) -> None:
    file = write_program(tmp_path, COUNTING)
    program = started(file, tmp_path / "recording", exact=True)
    made = tmp_path / "made"
    while not made.exists():
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0, 0.8))
    killed(program)
    run = Run(file, tmp_path / "recording", program.returncode, "", "")
    count = made.stat().st_size
    assert run.site("block", least=3000).count in (count, count + 1)
    read = run.recording
    assert read.summary is not None
    assert abs(read.summary.samples - len(read.births)) <= 1
    ends = {death.kind for death in read.deaths.values()}
    assert FREED in ends
    assert ALIVE not in ends


def test_a_running_program_is_read(tmp_path: Path, started: Start) -> None:
    """While it writes: never less than before, and nothing twice."""
    file = write_program(tmp_path, "import time\n" + textwrap.dedent(COUNTING) + PAUSE)
    program = started(file, tmp_path / "recording", exact=True)
    made = tmp_path / "made"
    while not made.exists() or made.stat().st_size < 100:
        time.sleep(0.005)
    for _ in range(30):
        at_least = made.stat().st_size
        births = recording.read(tmp_path / "recording").births
        at_most = made.stat().st_size + 1
        # What else is so large comes from imports, before.
        assert at_least <= sum(3000 < birth.size < 3100 for birth in births) <= at_most + 20
    killed(program)


def test_a_tail_is_gone_once_the_log_has_ended(tmp_path: Path, started: Start) -> None:
    file = write_program(tmp_path, "raise SystemExit(3)")
    program = started(file, tmp_path / "recording")
    program.communicate()
    assert program.returncode == 3
    assert sorted(os.listdir(tmp_path / "recording")) == ["end.txt", "meta.json", "samples.log"]
