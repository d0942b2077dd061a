"""What all tests share: the profile of Hypothesis, and fresh processes for what may crash."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

settings.register_profile("poolwise", deadline=None, print_blob=True)
settings.load_profile("poolwise")

RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_python() -> RunPython:
    """Run code in a fresh interpreter; fail with its output unless it ends with `code`."""

    def run(
        source: str, *options: str, code: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(source)],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return run
