"""Programs to attach to, for the tests of the profiler and of its command."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Self

import pytest

# A byte on its standard input lets it allocate, the end of the input ends it; in between its main
# thread goes on running Python.
PROGRAM = """
import os, select, sys

def work():
    return [bytearray(1000) for _ in range(4000)]

print("up", flush=True)
while True:
    if select.select([0], [], [], 0.01)[0]:
        if not os.read(0, 1):
            break
        work()
        print("poolwise" in sys.modules, flush=True)
"""

# Waits in C, to run Python only when a byte comes.
BLOCKED = PROGRAM.replace("select.select([0], [], [], 0.01)[0]", "True")


NOBODY = 65534
UNPRIVILEGED = PROGRAM.replace("def", f"os.setgid({NOBODY})\nos.setuid({NOBODY})\ndef", 1)


class Running:
    """One of the programs above, running."""

    def __init__(self, source: str, *options: str, **keywords: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, **keywords,  # type: ignore[call-overload]
        )  # fmt: skip
        self.pid = self.process.pid
        assert self._out.readline() == "up\n", self.process.communicate()[1]

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send_byte(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()

    def work(self) -> bool:
        """Let it allocate 4 MB; True if it has imported poolwise."""
        self.send_byte()
        return {"True\n": True, "False\n": False}[self._out.readline()]

    def end(self) -> None:
        """Let it end; it must have said nothing of its own, and failed in nothing."""
        assert self.process.communicate(timeout=60) == ("", "")
        assert self.process.returncode == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program; it is killed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *words, **keywords: stack.enter_context(
            Running(*(words or (PROGRAM,)), **keywords)
        )
