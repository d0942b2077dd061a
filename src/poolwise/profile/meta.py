"""What a recording says beside its log: `meta.json`.

It is written when the recording starts, by the program itself (`child.py`), so that it is there
whatever becomes of the program. Who started the program adds how it ended.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from poolwise.errors import RecordingError
from poolwise.profile.child import META_NAME

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """The account of one recording. Nanoseconds, seconds, bytes.

    `started_ns` is of CLOCK_MONOTONIC, as all times in the log. `cpu_seconds_before` and
    `page_faults_before`: what the process had used when the recording began. `outcome`: how it
    ended and what it used in all, with the children that it waited for; None if nobody waited.
    `added`: whatever else stands there.
    """

    program: tuple[str, ...] = ()
    own_code: str | None = None
    python: str = ""
    process: int = 0
    started_unix_ns: int = 0
    started_ns: int = 0
    mean_bytes: float = 0.0
    per_second: float = 0.0
    exact: bool = False
    cpu_seconds_before: float = 0.0
    page_faults_before: int = 0
    outcome: dict[str, Any] | None = None
    added: dict[str, Any] = field(default_factory=dict)


def read(directory: str | os.PathLike[str]) -> Meta:
    """The account of the recording in `directory`; an empty one if it has none.

    Raises:
        RecordingError: it cannot be read, is damaged, or is another version's.
    """
    path = os.path.join(directory, META_NAME)
    try:
        given = _read(path)
    except FileNotFoundError:
        return Meta()
    schema = given.pop("schema", None)
    if schema != SCHEMA:
        raise RecordingError(
            f"{path}: written by another version of poolwise (schema {schema!r}, not {SCHEMA}); "
            "record again"
        )
    before = given.pop("before", {})
    outcome = given.pop("outcome", None)
    try:
        if outcome is not None:
            for key in ("user_seconds", "system_seconds", "minor_faults"):
                outcome[key] / 1
        return Meta(
            program=tuple(map(str, given.pop("program"))),
            own_code=given.pop("own_code"),
            python=str(given.pop("python")),
            process=int(given.pop("process")),
            started_unix_ns=int(given.pop("started_unix_ns")),
            started_ns=int(given.pop("started_ns")),
            mean_bytes=float(given.pop("mean_bytes")),
            per_second=float(given.pop("per_second")),
            exact=bool(given.pop("exact")),
            cpu_seconds_before=float(before["cpu_seconds"]),
            page_faults_before=int(before["page_faults"]),
            outcome=outcome,
            added=given,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RecordingError(f"{path}: damaged; remove it or record again") from None


def add(directory: str | os.PathLike[str], **more: Any) -> None:
    """Write more into the account, whole or not at all.

    Raises:
        RecordingError: it cannot be written to, or is damaged.
    """
    path = os.path.join(directory, META_NAME)
    try:
        given = _read(path)
    except FileNotFoundError:
        given = {"schema": SCHEMA}
    text = json.dumps({**given, **more}) + "\n"
    part = path + ".part"
    try:
        with open(part, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        raise RecordingError(
            f"{path}: how the program ended cannot be written ({error.strerror}); make room, and "
            "record again"
        ) from None


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise RecordingError(f"{path}: damaged; remove it or record again")
    return given
