"""A short stress in every run of the tests; `make stress` runs the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("stress.py")
BUFFERS = Path(__file__).with_name("buffer_stress.py")
FAULTY = """
import sys
sys.argv = ["stress.py", "--operations", "20000"]
import stress
taken = stress.Stress.take
def twice(self, me):  # a pool with the fault that is looked for: it gives what somebody has
    thing = taken(self, me)
    class Faulty:
        def get(_):
            return thing
    real, self.pool = self.pool, Faulty()
    try:
        return taken(self, me)
    finally:
        self.pool = real
stress.Stress.take = twice
stress.main()
"""


@pytest.mark.parametrize("policy", ["demand", "victim", "aged", "clear"])
def test_every_thing_has_one_owner(policy: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--operations", "200000", "--policy", policy],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "every thing had one owner" in done.stdout, done.stderr


def test_a_second_owner_would_be_seen() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTY], capture_output=True, text=True, cwd=SCRIPT.parent
    )
    assert done.returncode == 1
    assert "stress: Fault: get gave a thing that thread" in done.stderr


def test_every_block_has_one_owner() -> None:
    done = subprocess.run(
        [sys.executable, BUFFERS, "--operations", "100000"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "every block had one owner" in done.stdout, done.stderr


FAULTY_BUFFERS = """
import sys
sys.argv = ["buffer_stress.py", "--operations", "12000"]
import buffer_stress
real = buffer_stress.Stress.acquire
def spoilt(self, size, mark):  # as if somebody else had the block as well
    buffer, mark = real(self, size, mark)
    with memoryview(buffer) as view:
        view[-1] ^= 1
    return buffer, mark
buffer_stress.Stress.acquire = spoilt
buffer_stress.main()
"""


def test_a_block_that_somebody_else_writes_to_would_be_seen() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTY_BUFFERS], capture_output=True, text=True, cwd=BUFFERS.parent
    )
    assert done.returncode == 1
    assert "was written by somebody else" in done.stderr
