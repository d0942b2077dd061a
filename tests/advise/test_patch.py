"""The diff of `advise --patch`: it applies, it runs, it prints the same; or it says why not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poolwise.advise import patch
from poolwise.advise.gain import Gain
from poolwise.advise.trial_patch import apply_patch
from poolwise.advise.verdicts import BUFFER_POOL, POOL, PREALLOCATE, Advice, Verdict
from poolwise.profile.positions import Position
from poolwise.profile.sites import Site

if TYPE_CHECKING:
    from poolwise.advise.calibrate import Calibration

    from .conftest import Record

CODEC = '''"""A program."""
import sys


class Codec:
    def __init__(self, size):
        self.table = [n * n % 251 for n in range(size)]


def handle(n):
    codec = Codec(300)
    if n % 2:
        return codec.table[n % 300]
    return sum(codec.table) + n


print(sum(handle(n) for n in range(50_000)), len(sys.argv))
'''


def advice_at(path: Path, text: str, verdict: str, type_name: str = "Codec") -> Advice:
    """One verdict at the call whose source is `text`."""
    source = path.read_text()
    call = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.get_source_segment(source, node) == text
    )
    place = Position(call.lineno, call.end_lineno, call.col_offset, call.end_col_offset)
    site = Site("construction", str(path), "f", place, None, types={type_name: 1.0})
    found = Verdict(
        verdict=verdict, site=site, gain=Gain(0.2, 0.1, 0.3), memory_bytes=3000, capacity=2,
        reason="", code="",
    )  # fmt: skip
    return Advice(verdicts=[found], notes=[], cpu_seconds=1.0, page_faults=0)


def output(path: Path) -> str:
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def patched(program: Path, diff: str) -> Path:
    """The program as the diff changes it, by the applier of `try`."""
    (program.parent / "change.patch").write_text(diff)
    into = program.parent / "patched"
    into.mkdir()
    (new,) = apply_patch(program.parent / "change.patch", [program.parent], into).values()
    return Path(new)


def test_what_is_advised_on_a_real_run_applies_and_prints_the_same(
    record: Record, prices: Calibration
) -> None:
    run = record(CODEC, exact=False)
    program = Path(run.program.target)
    diff = patch.diff(run.judge(prices), str(program.parent))
    new = patched(program, diff)
    assert "with _codec_pool.lease() as codec:" in new.read_text()
    assert output(new) == output(program)


@pytest.mark.parametrize(
    ("verdict", "written"),
    [(PREALLOCATE, "_buffer_"), (BUFFER_POOL, "memoryview(_buffers.acquire(SIZE))")],
)
def test_bytearrays(tmp_path: Path, verdict: str, written: str) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "SIZE = 1000\ndef f(n):\n    block = bytearray(SIZE)\n    block[:] = bytes([n]) * SIZE\n"
        "    return sum(block)\nprint(sum(f(n) for n in range(50)))\n"
    )
    advice = advice_at(program, "bytearray(SIZE)", verdict)
    diff = patch.diff(advice, str(tmp_path))
    assert "no longer zeroed" in diff.splitlines()[0]
    new = patched(program, diff)
    assert written in new.read_text()
    assert output(new) == output(program)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "for x in range(2):\n        c = Codec()\n        print(c)\n    return c",
            "outside the block",
        ),
        ("c = Codec()\n    return '''two\n    lines''', c", "string over several lines"),
        ("n = 3\n    c = Codec(n)\n    return c", "the function's own n"),
        ("return Codec().table", "no name of its own"),
        ("c = Codec()", "outside the block"),
    ],
)
def test_what_cannot_be_changed_is_said(tmp_path: Path, body: str, why: str) -> None:
    program = tmp_path / "app.py"
    program.write_text(f"class Codec:\n    table = ()\n\ndef f():\n    {body}\n")
    text = "Codec(n)" if "Codec(n)" in body else "Codec()"
    diff = patch.diff(advice_at(program, text, POOL), str(tmp_path))
    (line,) = diff.splitlines()
    assert line.startswith(f"# {program}:")
    assert why in line


def test_a_source_that_is_gone_is_said(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text("def f():\n    c = Codec()\n    return c\n")
    advice = advice_at(program, "Codec()", POOL)
    program.unlink()
    assert "cannot be read" in patch.diff(advice)
