"""What works on a server while it is tried: a shell command that goes and rests with its run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from poolwise.errors import PoolwiseError

PORT = "{port}"  # in the program's arguments and in the load: a free port, each run's own


def free_port() -> int:
    """A TCP port of this machine's own address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Load:
    """One run of a load, in a process group of its own."""

    def __init__(self, command: str, stderr: Path) -> None:
        self.command = command
        self._stderr = stderr
        with stderr.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                process_group=0,
            )
        self.ending = os.pidfd_open(self._process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def check(self) -> None:
        """Of a load that has ended. Raises PoolwiseError if it failed."""
        code = self._process.wait()
        if code != 0:
            written = self._stderr.read_text("utf-8", "replace").strip()
            last = written.splitlines()[-1:] or ["silent"]
            raise PoolwiseError(
                f"--load {self.command}: failed with exit code {code} ({last[0]}); it must wait "
                "until the server answers, and succeed"
            )

    def end(self, grace_seconds: float) -> None:
        """Let it come to its end for so long, and then kill it."""
        try:
            self.signal(signal.SIGCONT)
            select.select([self.ending], [], [], grace_seconds)
        finally:
            self.signal(signal.SIGKILL)
            self._process.wait()
            os.close(self.ending)
