"""The end of a log that its process had not written yet: still there after SIGKILL.

The layout is `_core/recording_tail.h`'s. A log's tail stands beside it and is gone once the log has
ended well.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"poolwise tail 1\n"
KINDS = "TNBDCO"  # in the order in which they are written to the log
_HEAD_BYTES = 4096
_HEAD = struct.Struct("=16sII")  # magic, bytes of a buffer, current turn
_TURN = struct.Struct("=Q8I")  # bytes of the log, used of each buffer
_ACCOUNT_AT = _HEAD.size + 2 * _TURN.size
_ACCOUNT = struct.Struct("=II")  # bytes, reserved
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the first `log_bytes` of the log: (kind, records), and the account so far."""

    log_bytes: int
    records: tuple[tuple[str, bytes], ...]
    account: bytes


def read(log_path: str) -> tuple[bytes, Tail | None]:
    """The log, up to where the tail goes on, and the tail, if there is one and it fits.

    The process may be running, and write its buffers to the log while we read: then both are read
    again.

    Raises:
        OSError: the log cannot be read.
    """
    path = log_path.removesuffix(".log") + ".tail"
    for _ in range(_TRIES):
        tail = _parse(_content(path))
        with open(log_path, "rb") as file:
            log = file.read()
        again = _parse(_content(path))
        if tail is None and again is None:
            break
        if tail is not None and again is not None and tail.log_bytes == again.log_bytes:
            # What stands in the log behind that point is in the tail as well. A log that is shorter
            # is not this tail's, or its machine went down.
            return (log[: tail.log_bytes], tail) if len(log) >= tail.log_bytes else (log, None)
    return log, None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _parse(data: bytes) -> Tail | None:
    if len(data) < _HEAD_BYTES:
        return None
    magic, buffer_bytes, current = _HEAD.unpack_from(data)
    if magic != MAGIC or current > 1 or len(data) < _HEAD_BYTES + len(KINDS) * buffer_bytes:
        return None
    log_bytes, *used = _TURN.unpack_from(data, _HEAD.size + current * _TURN.size)
    if max(used) > buffer_bytes:
        return None
    records = tuple(
        (kind, data[_HEAD_BYTES + i * buffer_bytes :][: used[i]]) for i, kind in enumerate(KINDS)
    )
    account_bytes, _ = _ACCOUNT.unpack_from(data, _ACCOUNT_AT)
    account = data[_ACCOUNT_AT + _ACCOUNT.size :][:account_bytes]
    return Tail(log_bytes, records, account)
