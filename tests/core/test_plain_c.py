"""The plain-C structures of the core, each compiled alone and driven beside a simple model.

A driver prints what was not so, its step and its seed, and ends with 1. By hand:
`gcc -std=gnu11 -I src/poolwise/_core tests/core/local.c -o /tmp/local -lm && /tmp/local 3`
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parent.parent / "src" / "poolwise" / "_core"
INTERLEAVINGS = "queue_interleavings"
REPLAY = "replay"  # tests/profile/test_replay.py drives it
DRIVERS = sorted(
    path.stem
    for path in HERE.glob("*.c")
    if not path.stem.endswith("_threads") and path.stem not in (INTERLEAVINGS, REPLAY)
)
THREADED = sorted(path.stem for path in HERE.glob("*_threads.c"))
WITHOUT_GIL = "-DPW_ATOMICS=1"
STRICT = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-I", str(CORE)]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

# A sanitizer preloaded for the interpreter must not meet the driver's own.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


def compiled(name: str, folder: Path, *options: str) -> Path:
    program = folder / name
    done = run("gcc", *STRICT, *options, HERE / f"{name}.c", "-o", program, "-lm", "-pthread")
    assert done.returncode == 0, done.stderr
    return program


def run_threaded(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = compiled(name, folder, "-fsanitize=thread", *options)
    done = run(program)
    if "unexpected memory mapping" in done.stderr:  # an address space too random for it
        done = run("setarch", "-R", program)
    return done


@pytest.mark.parametrize("name", DRIVERS)
def test_structure_behaves_like_its_model(name: str, tmp_path: Path) -> None:
    done = run(compiled(name, tmp_path, *SANITIZED))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_local_behaves_like_its_model_with_atomic_accesses(tmp_path: Path) -> None:
    done = run(compiled("local", tmp_path, *SANITIZED, WITHOUT_GIL))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", THREADED)
def test_threads_share_it_without_a_race(name: str, tmp_path: Path) -> None:
    done = run_threaded(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["filter_threads", "queue_threads"])
def test_a_planted_race_is_found(name: str, tmp_path: Path) -> None:
    done = run_threaded(name, tmp_path, "-DPLANT_RACE")
    assert done.returncode != 0
    assert "ThreadSanitizer: data race" in done.stderr or "not so" in done.stdout


def test_every_interleaving_of_the_queue_is_right(tmp_path: Path) -> None:
    done = run(compiled(INTERLEAVINGS, tmp_path))  # it changes stacks: not for the sanitizers
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) > 100_000


def test_a_planted_race_is_met_in_some_interleaving(tmp_path: Path) -> None:
    done = run(compiled(INTERLEAVINGS, tmp_path, "-DPLANT_RACE"))
    assert done.returncode == 1
    assert "not so: seen[value] == 0" in done.stdout
