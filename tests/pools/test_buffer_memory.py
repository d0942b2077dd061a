"""BufferPool while memory is short: each request for memory fails in turn, and nothing is lost."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("failing_memory.c")

BY_THE_SYSTEM = """
import ctypes, sys
import poolwise

memory = ctypes.CDLL(sys.argv[1])
FOREVER = 1 << 40

def a_life():
    raised = 0
    def insist(make):
        nonlocal raised
        try:
            return make()
        except MemoryError:
            raised += 1
            memory.fail(ctypes.c_long(1), ctypes.c_long(0))  # there is memory again
            return make()
    buffers = insist(lambda: poolwise.BufferPool(
        classes=[64, 5000, 1 << 20, 3 << 20], max_bytes=8 << 20, trim_seconds=None,
        huge_pages=huge))
    out = []
    for size in (10, 5000, 3 << 20, 1 << 20, 3 << 20, 3 << 20, 1 << 20, 60, 5 << 20):
        before = buffers.stats()
        buffer = insist(lambda: buffers.acquire(size))
        memoryview(buffer)[:] = b"x" * size
        out.append(buffer)
        after = buffers.stats()
        assert (after.gets, after.out) == (before.gets + 1, before.out + 1), (before, after)
        assert after.out_bytes + after.idle_bytes <= after.max_bytes
    del out[::2]
    insist(lambda: buffers.acquire(5000))
    buffers.clear()
    out.clear()
    del buffer
    stats = buffers.stats()
    assert (stats.out, stats.out_bytes, stats.fallback_bytes) == (0, 0, 0), stats
    return raised

poolwise.BufferPool(max_size=64, max_bytes=64, trim_seconds=None).acquire(1).release()
kept = memory.held()  # without the GIL: what knows this thread, until it ends

for huge in (False, True):
    for ever in (False, True):
        at = raised = 0
        while True:
            at += 1
            memory.fail(ctypes.c_long(at), ctypes.c_long(FOREVER if ever else at))
            errors = a_life()
            raised += errors
            assert memory.held() == kept, (huge, ever, at, memory.held())
            if not errors and not memory.failed():
                break
        assert raised >= 4 and at >= 10, (huge, ever, at, raised)

# Refused twice (many blocks, then one), it gives the kernel all that is idle, and asks again.
memory.fail(ctypes.c_long(1), ctypes.c_long(0))
buffers = poolwise.BufferPool(max_size=1 << 20, max_bytes=8 << 20, trim_seconds=None)
buffers.acquire(5000).release()
memory.fail(ctypes.c_long(1), ctypes.c_long(2))
buffer = buffers.acquire(1 << 20)
assert memory.failed() == 2
assert (buffers.stats().idle, buffers.stats().trimmed) == (0, 1), buffers.stats()
"""

BY_PYTHON = """
import warnings
import _testcapi
import poolwise

def try_each(what):
    raised = 0
    for start in range(60):
        _testcapi.set_nomemory(start, start + 1)
        try:
            what()
        except (MemoryError, SystemError):  # the latter is CPython's own import, short of memory
            raised += 1
        finally:
            _testcapi.remove_mem_hooks()
    return raised

make = lambda: poolwise.BufferPool(
    max_size=5000, max_bytes=50_000, trim_seconds=None, classes=[64, 5000], name="x" * 9)
assert try_each(make) > 2
buffers = make()
keep = []
assert try_each(lambda: keep.append(buffers.acquire(600))) > 0
stats = buffers.stats()
assert stats.out == len(keep), stats
assert try_each(buffers.stats) > 5
keep[0].used = 3
assert try_each(lambda: buffers.acquire(5000).release()) >= 0
keep.clear()
stats = buffers.stats()
assert (stats.out, stats.out_bytes, stats.fallback_bytes) == (0, 0, 0), stats
"""


def run(program: str, *arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer has malloc in hand")
@pytest.mark.skipif(sys.platform != "linux", reason="preloads for glibc")
def test_each_request_to_the_system_fails_in_turn(tmp_path: Path) -> None:
    library = tmp_path / "failing_memory.so"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", SOURCE, "-o", library, "-ldl"],
        check=True,
    )
    run(BY_THE_SYSTEM, str(library), LD_PRELOAD=str(library))


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this Python has no _testcapi"
)
def test_each_request_to_python_fails_in_turn() -> None:
    run(BY_PYTHON)
