"""Where memory ends, at any allocation: MemoryError or a counted drop, and nothing is lost."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def run(what: str, **environment: str) -> int:
    """How many failures were survived."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", HERE / "allocations.py", what],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    survived = re.fullmatch(r"(\d+) failures survived\n", done.stdout)
    assert survived is not None, done.stdout
    return int(survived[1])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="another malloc is preloaded already")
def test_each_allocation_of_the_core_fails_in_turn(tmp_path: Path) -> None:
    library = tmp_path / "failing_allocations.so"
    options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-fPIC"]
    source = HERE / "failing_allocations.c"
    done = subprocess.run(
        ["gcc", *options, "-shared", source, "-o", library, "-pthread"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert run("core", LD_PRELOAD=str(library)) > 50


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this interpreter has no _testcapi"
)
def test_each_allocation_of_python_fails_in_turn() -> None:
    assert run("python") > 500
