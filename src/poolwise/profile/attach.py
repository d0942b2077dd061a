"""Sample a Python process that is running already: CPython 3.14 and newer, by `sys.remote_exec`.

The process is told to run `attach_child.py`, which connects to us and samples for as long as the
connection stands. So the sampling ends with us, however we end, and a process that gets our call
when we have given up finds nobody there.
"""

from __future__ import annotations

import os
import pwd
import secrets
import select
import socket
import struct
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

import poolwise
from poolwise.errors import AttachError, RecordingError
from poolwise.profile import attach_child
from poolwise.profile.child import META_NAME, check_stack_reader
from poolwise.profile.directory import prepare
from poolwise.profile.running import Interpreter, interpreter_of

OLDEST = (3, 14)
WAIT_SECONDS = 10.0
NAMESPACES = ("mnt", "net", "pid")  # files, abstract sockets and process ids are seen the same way
_CREDENTIALS = struct.Struct("3i")


class Attached:
    """A process that is being sampled; made by `attach`. Leaving the `with` block ends it."""

    def __init__(self, pid: int, ending: int, connection: socket.socket) -> None:
        self.pid = pid
        self._ending = ending
        self._connection = connection

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for `seconds`, or for ever; True if the sampling has ended before, with its process.

        Example: `attached.wait(30)`.
        """
        if self._connection.fileno() < 0:  # stopped
            return True
        return bool(_readable(seconds, self._connection.fileno(), self._ending))

    def stop(self) -> None:
        """End the sampling; the recording is complete then. Does nothing if it has ended.

        Raises:
            RecordingError: the recording could not be written to its end.
            AttachError: the process does not answer; the sampling ends when it next runs Python.
        """
        if self._connection.fileno() < 0:
            return
        try:
            with suppress(OSError):  # the other end may be closed
                self._connection.shutdown(socket.SHUT_WR)
            answer = _line(self._connection, self._ending, time.monotonic() + WAIT_SECONDS)
        finally:
            self._connection.close()
            os.close(self._ending)
        if answer is None:
            raise AttachError(
                f"process {self.pid} has not let another thread run for {WAIT_SECONDS:g} s: the "
                "sampling ends when it does; what is written so far can be read"
            )
        if answer not in ("", "ended"):
            raise RecordingError(f"process {self.pid}: {answer}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def attach(
    pid: int,
    directory: str,
    *,
    mean_bytes: float | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Attached:
    """Start sampling process `pid` into `directory`, which is new or empty.

    What was allocated before is not seen. `mean_bytes` between samples, as for `poolwise profile`.
    The main thread of the process must run Python within `wait_seconds`.

    Example: `with attach(4711, "recording") as attached: attached.wait(30)`.

    Raises:
        AttachError: the process cannot be sampled.
        UsageError: the directory cannot be used.
        UnknownInterpreter: its kind of Python cannot be sampled.
    """
    try:
        ending = os.pidfd_open(pid)
    except (OSError, OverflowError):
        raise AttachError(f"there is no process {pid}; name one that is running") from None
    try:
        check(pid, ending)
        directory = os.path.abspath(directory)
        made = not os.path.exists(directory)
        prepare(directory)
        try:
            if os.geteuid() == 0:
                _hand_over(directory, made, pid)
            options: dict[str, Any] = {"dir": directory}
            if mean_bytes is not None:
                options["mean_bytes"] = mean_bytes
            connection = _start(pid, ending, options, wait_seconds)
        except BaseException:
            _clear(directory, made)
            raise
    except BaseException:
        os.close(ending)
        raise
    return Attached(pid, ending, connection)


def check(pid: int, ending: int) -> None:
    """Raise AttachError unless process `pid` runs a Python that this one can attach to."""
    try:
        apart = not os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/")) or any(
            os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
            for name in NAMESPACES
        )
        interpreter = interpreter_of(pid)
    except PermissionError:
        raise _forbidden(pid) from None
    except OSError:  # it has ended, or is a thread of the kernel
        apart, interpreter = False, None
    if _readable(0, ending):
        raise _ended(pid)
    if apart:
        raise AttachError(
            f"process {pid} runs in another container or service with its own view of files: run "
            f"attach inside (docker exec, or nsenter -a -t {pid})"
        )
    if interpreter is None:
        raise AttachError(f"process {pid} runs no CPython: name the Python process itself")
    _check_version(pid, interpreter)
    check_stack_reader()


def _check_version(pid: int, interpreter: Interpreter) -> None:
    if interpreter.version is None or interpreter.version < OLDEST:
        raise AttachError(
            f"process {pid} runs {interpreter}, and only 3.14 and newer can be attached to: start "
            "it with `poolwise profile`, or let it call poolwise.profile.start() or serve()"
        )
    if interpreter.free_threaded:
        raise AttachError(
            f"process {pid} runs {interpreter}: the GIL guards the sampler, and this build has "
            "none; run the program with one that has"
        )
    if interpreter.version != sys.version_info[:2]:
        wanted = "{}.{}".format(*interpreter.version)
        raise AttachError(
            f"process {pid} runs {interpreter}, this command {sys.version_info.major}."
            f"{sys.version_info.minor}: run attach with a Python {wanted} that has poolwise "
            f"(python{wanted} -m poolwise attach {pid})"
        )


def _hand_over(directory: str, made: bool, pid: int) -> None:
    """Let the process's user write to what root has made."""
    try:
        owner = _owner(pid)
    except OSError:
        raise _ended(pid) from None
    for path in (*([directory] if made else []), os.path.join(directory, META_NAME)):
        os.chown(path, *owner)


def _clear(directory: str, made: bool) -> None:
    """Leave the directory as it was: empty, or not there."""
    with suppress(OSError):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        if made:
            os.rmdir(directory)


def _start(pid: int, ending: int, options: dict[str, Any], wait_seconds: float) -> socket.socket:
    spec = find_spec("poolwise")
    assert spec is not None
    request = {
        "options": options,
        "version": poolwise.__version__,
        "file": spec.origin,
        "paths": [os.path.abspath(path) for path in poolwise.__path__],
    }
    name = f"poolwise-{secrets.token_hex(16)}"
    deadline = time.monotonic() + wait_seconds
    with (
        tempfile.TemporaryDirectory(prefix="poolwise-") as place,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind("\0" + name)
        listener.listen()
        try:
            _send(pid, _script(place, "\0" + name))
            connection = _accepted(pid, ending, listener, deadline, wait_seconds)
        except BaseException:
            with suppress(RuntimeError, OSError):
                _execute(pid, os.devnull)  # in the place of a call that is pending
            raise
        try:
            connection.sendall(ascii(request).encode() + b"\n")
            answer = _line(connection, ending, time.monotonic() + wait_seconds)
            if answer == "sampling":
                return connection
            if answer is None:
                raise _unreached(pid, wait_seconds)
            if answer == "":
                raise _ended(pid)
            raise AttachError(f"process {pid} cannot be sampled: {answer}")
        except BaseException:
            connection.close()
            raise


def _script(place: str, address: str) -> str:
    """The file that the process is to run, readable for its user."""
    path = os.path.join(place, "attach.py")
    with (
        open(attach_child.__file__, encoding="utf-8") as ours,
        open(path, "w", encoding="utf-8") as script,
    ):
        script.write(f"{ours.read()}\n\nbegin({address!a})\n")
    os.chmod(path, 0o644)
    os.chmod(place, 0o755)
    return path


def _execute(pid: int, path: str) -> None:
    sys.remote_exec(pid, path)  # type: ignore[attr-defined, unused-ignore]


def _send(pid: int, path: str) -> None:
    try:
        _execute(pid, path)
    except PermissionError:
        raise _forbidden(pid) from None
    except (RuntimeError, OSError) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, PermissionError):
                raise _forbidden(pid) from None
            cause = cause.__cause__ or cause.__context__
        if "not enabled in the remote process" in str(error):
            raise AttachError(
                f"process {pid} was started with remote debugging switched off "
                "(PYTHON_DISABLE_REMOTE_DEBUG or -X disable-remote-debug): start it without"
            ) from None
        if "not enabled" in str(error):
            raise AttachError(
                "remote debugging is switched off for this command (PYTHON_DISABLE_REMOTE_DEBUG "
                "or -X disable-remote-debug): run it without"
            ) from None
        raise AttachError(f"process {pid} cannot be attached to: {error}") from None


def _accepted(
    pid: int, ending: int, listener: socket.socket, deadline: float, wait_seconds: float
) -> socket.socket:
    """The process's own connection: a child that it forked meanwhile has the same call pending."""
    while True:
        left = max(0.0, deadline - time.monotonic())
        ready = _readable(left, listener.fileno(), ending)
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            if _CREDENTIALS.unpack(credentials)[0] == pid:
                return connection
            connection.close()
        elif ready:
            raise _ended(pid)
        elif not left:
            raise _unreached(pid, wait_seconds)


def _readable(seconds: float | None, *descriptors: int) -> list[int]:
    """Those of the descriptors that have something to read, or have been closed."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)]


def _line(connection: socket.socket, ending: int, deadline: float) -> str | None:
    """The next line; "" if the other end is gone, None if none came in time."""
    text = b""
    while not text.endswith(b"\n"):
        left = max(0.0, deadline - time.monotonic())
        ready = _readable(left, connection.fileno(), ending)
        if not ready:
            return None
        try:
            part = connection.recv(1) if connection.fileno() in ready else b""
        except OSError:
            part = b""
        if not part:
            return ""
        text += part
    return text.decode().rstrip("\n")


def _ended(pid: int) -> AttachError:
    return AttachError(f"process {pid} has ended before it could be sampled")


def _unreached(pid: int, wait_seconds: float) -> AttachError:
    return AttachError(
        f"process {pid} has run no Python in its main thread for {wait_seconds:g} s, which may be "
        "waiting or computing in C: nothing was started in it; try again when it has something to "
        "do, or longer with --wait"
    )


def _owner(pid: int) -> tuple[int, int]:
    """Its effective user and group: the owner of /proc/PID is root where a process hides."""
    with open(f"/proc/{pid}/status") as status:
        ids = {line[:4]: int(line.split()[2]) for line in status if line[:4] in ("Uid:", "Gid:")}
    return ids["Uid:"], ids["Gid:"]


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _forbidden(pid: int) -> AttachError:
    try:
        owner, _ = _owner(pid)
    except OSError:
        return _ended(pid)
    if os.geteuid() not in (0, owner):
        return AttachError(
            f"process {pid} belongs to {_user_name(owner)}, and this command runs as "
            f"{_user_name(os.geteuid())}: run it as that user, or as root"
        )
    return AttachError(
        f"process {pid} may not be looked into: run attach as root, with CAP_SYS_PTRACE in a "
        "container, or after sysctl kernel.yama.ptrace_scope=0"
    )
