"""Which allocations live how long: record this process, and read recordings.

Importing this imports next to nothing: it is done inside the programs that are measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from poolwise.profile.server import Server
    from poolwise.profile.tables import Profile

__all__ = ["open", "record", "serve", "start", "stop"]

LEAST_MEAN_BYTES, MOST_MEAN_BYTES = 1, 1 << 40


def start(
    dir: str | os.PathLike[str] | None = None,
    *,
    mean_bytes: float | None = None,
    exact: bool = False,
    force: bool = False,
) -> str:
    """Record this process, from now on, until `stop()` or the process's end; returns where to.

    - `dir`: a directory that is new or empty; by default a fresh one, named after the program and
      the time, in the current directory.
    - `mean_bytes`: between two samples, on average; more costs less and knows less. By default
      65,536.
    - `exact`: record every allocation. Slow: for tests and short runs.
    - `force`: an older recording in `dir` is removed first.

    Raises `UsageError` where `dir` cannot be written to or holds something, or `mean_bytes` is no
    such number; `RecordingError` where this process is being recorded already;
    `UnknownInterpreter` where its stack cannot be read.

    >>> import poolwise.profile, tempfile
    >>> directory = poolwise.profile.start(tempfile.mkdtemp(), exact=True)
    >>> kept = [bytes(1000) for _ in range(10)]
    >>> poolwise.profile.stop()
    >>> sum(row.size_bytes > 1000 for row in poolwise.profile.open(directory).samples) >= 10
    True
    """
    import sys

    from poolwise.errors import RecordingError, UsageError
    from poolwise.profile import child
    from poolwise.profile.directory import fresh_name, prepare

    if mean_bytes is None:
        mean_bytes = child.DEFAULT_MEAN_BYTES
    if not LEAST_MEAN_BYTES <= mean_bytes <= MOST_MEAN_BYTES:
        raise UsageError(
            f"mean_bytes={mean_bytes!r}: give the bytes between two samples, from "
            f"{LEAST_MEAN_BYTES} to {MOST_MEAN_BYTES:,}"
        )
    child.check_stack_reader()
    if child.recording_into():
        raise RecordingError(
            f"this process is being recorded already, into {child.recording_into()}: stop() first"
        )
    path = prepare(fresh_name(sys.argv[0]) if dir is None else dir, force=force)
    child.start({"dir": path, "mean_bytes": mean_bytes, "exact": exact})
    return path


def stop() -> None:
    """End the recording; what is alive now stays known as alive. Does nothing if there is none.

    Raises `RecordingError` where the recording could not be written to its end.
    """
    from poolwise.profile import child

    child.stop()


class record:
    """Record this process within a block; the arguments are those of `start`.

    >>> import poolwise.profile, tempfile
    >>> with poolwise.profile.record(tempfile.mkdtemp(), exact=True) as directory:
    ...     kept = [bytearray(5000) for _ in range(10)]
    >>> len(poolwise.profile.open(directory).samples) > 10
    True
    """

    def __init__(
        self,
        dir: str | os.PathLike[str] | None = None,
        *,
        mean_bytes: float | None = None,
        exact: bool = False,
        force: bool = False,
    ) -> None:
        self._dir = dir
        self._mean_bytes = mean_bytes
        self._exact = exact
        self._force = force

    def __enter__(self) -> str:
        return start(self._dir, mean_bytes=self._mean_bytes, exact=self._exact, force=self._force)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stop()


def open(directory: str | os.PathLike[str]) -> Profile:
    """Read a recording: its samples and its sites, as tables.

    Raises `RecordingError` where there is none, it is not one of ours, or nothing in it is whole.
    """
    from poolwise.profile import tables

    return tables.read(directory)


def serve(port: int = 0, host: str = "127.0.0.1") -> Server:
    """Serve what the sampler of this process has recorded so far, over HTTP, from a thread.

    At `/debug/pprof/` for `go tool pprof`, Pyroscope and Parca: `heap`, `allocs`, `lifetime`, each
    with `?seconds=N` for what comes within N seconds. Without a recording under way they answer
    with status 409 and a sentence.

    Args:
        port: 0 takes any that is free, see `Server.port`.
        host: the address to listen on. Whoever reaches it sees names of files and functions.

    Raises:
        UsageError: `port` is not between 0 and 65535.
        CannotServe: the port is in use, or the address is not this machine's.

    >>> import poolwise.profile, urllib.request
    >>> with poolwise.profile.serve() as server:
    ...     page = urllib.request.urlopen(server.url).read().decode()
    >>> "lifetime" in page
    True
    """
    from poolwise.profile.server import Server

    return Server(host, port)
