"""What every bench needs: a fresh process for each measurement, and a file for the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poolwise.advise.calibrate import child_environment
from poolwise.errors import PoolwiseError, UsageError

Progress = Callable[[int, int], None]
"""Called with how many measurements are done, and of how many."""


class BenchError(PoolwiseError, RuntimeError):
    """A measured process failed; the message holds its last words."""


def run_fresh(*words: str, what: str) -> Any:
    """What `python words` prints, read as JSON. Raises BenchError, which names `what`."""
    ended = subprocess.run(
        [sys.executable, "-P", *words],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise BenchError(f"{what} failed: {lines[-1]}")
    return json.loads(ended.stdout)


def pyplot() -> Any:
    """matplotlib's, for files. Raises UsageError where it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib: install it with pip install 'poolwise[plot]'"
        ) from None
    return pyplot


def save(figure: Any, path: Path) -> None:
    """Write `figure` in the format that the ending of `path` names. Raises UsageError."""
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): name another file with --plot"
        ) from None
    finally:
        pyplot().close(figure)
