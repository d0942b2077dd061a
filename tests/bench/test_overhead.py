"""The arithmetic of benchmarks/overhead.py, and one real run of each part of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "overhead.py"


@pytest.fixture(scope="module")
def overhead() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overhead", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["overhead"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_mean_is_geometric_and_taken_within_a_turn(overhead: ModuleType) -> None:
    def turn(bare: float, ratio: float) -> dict[str, object]:
        return {
            "bare": overhead.Run(cpu_seconds=bare, page_faults=100),
            "arm": overhead.Run(cpu_seconds=bare * ratio, page_faults=103),
        }

    # A turn on a slow machine is slow for both arms; in each turn the mean is 2.
    taken = {"a": [turn(1, 1), turn(7, 2), turn(2, 4)], "b": [turn(3, 4), turn(5, 2), turn(1, 1)]}
    result = overhead.summary(taken, ["arm"])
    mean = result["geometric_mean"]["arm"]
    assert mean == pytest.approx({"value": 2, "low": 2, "high": 2})
    assert result["benchmarks"]["a"]["arms"]["arm"]["ratio"] == pytest.approx(
        {"value": 2, "low": 1, "high": 4}
    )
    assert result["benchmarks"]["a"]["arms"]["arm"]["more_page_faults"] == 3
    assert result["benchmarks"]["b"]["bare_seconds"] == 3
    assert result["turns"] == 3


def test_a_run_is_the_process_itself(overhead: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("block = bytearray(32 << 20)\nblock[::4096] = b'x' * (32 << 8)\n")
    empty = tmp_path / "empty.py"
    empty.write_text("")
    environment = dict(os.environ)
    busy = overhead.run(overhead.bare, [str(program)], environment)
    idle = overhead.run(overhead.bare, [str(empty)], environment)
    assert busy.page_faults - idle.page_faults > (32 << 8) * 0.9
    assert busy.cpu_seconds > 0


def test_a_failing_run_shows_its_last_words(overhead: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit('out of luck')")
    with pytest.raises(SystemExit, match=r"program\.py failed:\nout of luck"):
        overhead.run(overhead.bare, [str(program)], dict(os.environ))


def test_the_arm_of_poolwise_writes_a_recording(overhead: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("kept = [bytearray(1 << 20) for _ in range(20)]")
    command = overhead.poolwise([str(program)], str(tmp_path))
    assert overhead.run(lambda words, _: words, command, dict(os.environ)).cpu_seconds > 0
    assert any(path.stat().st_size > 0 for path in tmp_path.iterdir() if path != program)
