"""On a build without the GIL: poolwise leaves it off, and says what does not work there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif("t" not in sys.abiflags, reason="this Python has a GIL")


def test_no_module_of_ours_turns_the_gil_on(run_python: Callable[..., object]) -> None:
    run_python(
        """
        import importlib, pkgutil, sys
        import poolwise

        names = [found.name for found in pkgutil.walk_packages(poolwise.__path__, "poolwise.")]
        assert "poolwise._core" in names and "poolwise.pools.trimmer" in names
        for name in names:
            if not name.endswith("__main__"):
                importlib.import_module(name)
        assert not sys._is_gil_enabled()
        """,
        "-W",
        "error",
    )


def test_advise_refuses_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('ran')")
    done = subprocess.run(
        [sys.executable, "-m", "poolwise", "advise", "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("poolwise: cannot sample")
    assert done.stderr.count("\n") == 1
