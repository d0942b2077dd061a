"""pprof files of a recording: who allocates and who holds, and how long it lives.

The format is https://github.com/google/pprof/blob/main/proto/profile.proto, gzipped. The heap
profile is what Go's runtime writes: four sample types in its order, so that `go tool pprof`,
Pyroscope, Parca and speedscope read it as one of theirs. The lifetime profile is our own.
"""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from poolwise.errors import RecordingError, UsageError
from poolwise.profile import totals
from poolwise.profile.child import LOG_NAME
from poolwise.profile.protobuf import message, number, packed
from poolwise.profile.recording import NATIVE, NO_STACK, NUMPY, UNKNOWN_STACK, Recording
from poolwise.profile.totals import COLLECTOR, OTHER_THREAD, SAME_THREAD, Key, Rows, Sums, Totals

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LAUNCHER = os.path.join(os.path.dirname(_HERE[:-1]), "program") + os.sep
_SERVER = _HERE + "server.py"
_INT64 = 2**63 - 1

_KINDS = {NUMPY: "array", NATIVE: "native"}
_FREED_BY = {SAME_THREAD: "same thread", OTHER_THREAD: "other thread", COLLECTOR: "collector"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of profile: its columns as (type, unit), and which of them is shown first."""

    name: str
    columns: tuple[tuple[str, str], ...]
    default: str
    of: Callable[[Sums], tuple[float, ...]]


_HEAP_COLUMNS = (
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
)
HEAP = Kind(name="heap", columns=_HEAP_COLUMNS, default="inuse_space", of=totals.heap_columns)
ALLOCS = Kind(name="allocs", columns=_HEAP_COLUMNS, default="alloc_space", of=totals.heap_columns)
# `pprof -mean` divides by the first column; speedscope shows the last one.
LIFETIME = Kind(
    name="lifetime",
    columns=(
        ("freed_objects", "count"),
        ("freed_space", "bytes"),
        ("censored_objects", "count"),
        ("censored_space", "bytes"),
        ("lifetime", "nanoseconds"),
        ("heaptime_objects", "microseconds"),
        ("heaptime_space", "byte_seconds"),
    ),
    default="heaptime_space",
    of=totals.lifetime_columns,
)


def heap(recording: Recording) -> bytes:
    """The heap profile: allocated and in use, in objects and bytes; gzipped."""
    return _encode_whole(recording, totals.of(recording), HEAP)


def lifetime(recording: Recording) -> bytes:
    """The lifetime profile: freed and not, how long that lived, and bytes over time; gzipped."""
    return _encode_whole(recording, totals.of(recording), LIFETIME)


def write(recording: Recording, path: str | os.PathLike[str]) -> list[str]:
    """Write profiles of a recording; returns the files.

    A path that ends in `.gz` or `.pb` is one file, the heap profile. Any other is a directory, made
    if need be, with `heap.pb.gz` and `lifetime.pb.gz`. A file appears whole or not at all.

    Raises:
        UsageError: the path cannot be written to.
    """
    name = os.fspath(path)
    sums = totals.of(recording)
    if name.endswith((".gz", ".pb")):
        files = {name: HEAP}
    else:
        files = {os.path.join(name, f"{kind.name}.pb.gz"): kind for kind in (HEAP, LIFETIME)}
    try:
        for file, kind in files.items():
            os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
            _write_whole(_encode_whole(recording, sums, kind), file)
    except OSError as error:
        raise UsageError(
            f"{name}: cannot be written ({error.strerror}); make room, or name a place that can"
        ) from None
    return list(files)


def _write_whole(body: bytes, file: str) -> None:
    part = f"{file}.part"
    try:
        Path(part).write_bytes(body)
        os.replace(part, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _encode_whole(recording: Recording, sums: Totals, kind: Kind) -> bytes:
    log = os.path.join(recording.directory, LOG_NAME)
    try:
        end_ns = os.stat(log).st_mtime_ns  # the log has no clock that tells the date
    except OSError as error:
        raise RecordingError(f"{log}: cannot be read ({error.strerror})") from None
    duration_ns = round(recording.summary.seconds * 1e9) if recording.summary else 0
    return encode(
        recording,
        sums.rows(kind.of),
        kind,
        period=sums.period(recording),
        time_ns=end_ns,
        duration_ns=duration_ns,
    )


def encode(
    recording: Recording,
    rows: Rows,
    kind: Kind,
    *,
    period: int,
    time_ns: int,
    duration_ns: int,
) -> bytes:
    """A profile of these rows, gzipped. The recording names their stacks and types.

    `period`: mean bytes between samples. `time_ns`: when it was taken, since 1970. `duration_ns`:
    of what came within so long; 0 for all so far, as in Go, by which Parca tells the two apart.
    """
    tables = _Tables(recording)
    found = sorted(
        (path, key, values)
        for key, values in rows.items()
        if (path := tables.path(key.stack)) is not None
    )
    out = [message(1, tables.value_type(*column)) for column in kind.columns]
    whole = _rounded([values for _, _, values in found])
    for (path, key, _), values in zip(found, whole, strict=True):
        labels = b"".join(message(3, label) for label in tables.labels(key))
        for part in _by_sign(values):
            out.append(message(2, packed(1, reversed(path)) + packed(2, part) + labels))
    # Functions, files and lines are there, so that no tool looks for a binary to find them in.
    mapping = number(1, 1) + number(5, tables.text(tables.program()))
    mapping += b"".join(number(flag, 1) for flag in (7, 8, 9, 10))
    out += [message(3, mapping), *tables.locations, *tables.functions]
    out += [number(9, time_ns), number(10, duration_ns)]
    out += [message(11, tables.value_type("space", "bytes")), number(12, period)]
    out += [number(14, tables.text(kind.default))]
    out += [message(6, text.encode("utf-8", "replace")) for text in tables.texts]
    return gzip.compress(b"".join(out), compresslevel=6, mtime=0)


def _rounded(rows: Sequence[Sequence[float]]) -> Iterator[list[int]]:
    """Whole numbers whose sums are those of the rows: what one row loses the next one gets.

    The rows are sorted by stack, so that the sum below any frame is right to 1 as well.
    """
    owed: list[float] = []
    for row in rows:
        owed = owed or [0.0] * len(row)
        values = []
        for column, value in enumerate(row):
            whole = round(value + owed[column])  # of 0: 0, for at most a half is owed
            owed[column] += value - whole
            values.append(max(-_INT64, min(_INT64, whole)))
        yield values


def _by_sign(values: list[int]) -> Iterator[list[int]]:
    """The values; what is below zero apart, since Pyroscope drops a whole row for one such value
    (Profile.Normalize in its pkg/pprof/pprof.go). Nothing, if all are zero."""
    for part in ([max(v, 0) for v in values], [min(v, 0) for v in values]):
        if any(part):
            yield part


@dataclass(slots=True)
class _Tables:
    """What samples refer to by number: texts from 0, functions and locations from 1."""

    recording: Recording
    texts: dict[str, int] = field(default_factory=lambda: {"": 0})
    functions: list[bytes] = field(default_factory=list)
    locations: list[bytes] = field(default_factory=list)
    _function_ids: dict[object, int] = field(default_factory=dict)
    _location_ids: dict[object, int] = field(default_factory=dict)
    _node_locations: dict[tuple[int, int], int] = field(default_factory=dict)
    _paths: dict[int, tuple[int, ...] | None] = field(default_factory=dict)
    _labels: dict[tuple[object, ...], list[bytes]] = field(default_factory=dict)
    _main_files: Counter[str] = field(default_factory=Counter)

    def text(self, text: str) -> int:
        """The number of a text."""
        return self.texts.setdefault(text, len(self.texts))

    def value_type(self, type_: str, unit: str) -> bytes:
        """What a column counts, encoded."""
        return number(1, self.text(type_)) + number(2, self.text(unit))

    def program(self) -> str:
        """The file that most stacks begin in; "python" if there is none."""
        return max(self._main_files, key=self._main_files.__getitem__, default="python")

    def path(self, stack: int) -> tuple[int, ...] | None:
        """The locations of a stack, outermost first; None if it is the profile's own server."""
        if stack not in self._paths:
            self._paths[stack] = self._find_path(stack)
        return self._paths[stack]

    def _find_path(self, stack: int) -> tuple[int, ...] | None:
        if stack == NO_STACK:
            return (self._location("[no Python frame]", "", "", 0, 0),)
        if stack == UNKNOWN_STACK:
            return (self._location("[table of stacks full]", "", "", 0, 0),)
        path: list[int] = []
        outermost = ""
        for node in self.recording.stack(stack):
            code = self.recording.code(node)
            if code.file == _SERVER:
                return None
            if code.file.startswith(_LAUNCHER):
                break  # what started the program
            place = (node.code, node.instruction_bytes)
            location = self._node_locations.get(place)
            if location is None:
                name = f"{module_of(code.file)}.{code.function}"
                line = self.recording.position(node).line or 0
                location = self._node_locations[place] = self._location(
                    name, code.function, code.file, code.first_line, line
                )
            path.append(location)
            outermost = code.file if code.function == "<module>" else outermost
        if outermost:
            self._main_files[outermost] += 1
        return tuple(reversed(path)) or None

    def _location(self, name: str, own_name: str, file: str, first_line: int, line: int) -> int:
        function_key = (name, file, first_line)
        function = self._function_ids.get(function_key)
        if function is None:
            function = self._function_ids[function_key] = len(self.functions) + 1
            body = number(1, function) + number(2, self.text(name))
            # Another system name keeps pprof from taking <module> for a template of C++.
            body += number(3, self.text(own_name)) + number(4, self.text(file))
            self.functions.append(message(5, body + number(5, first_line)))
        location = self._location_ids.get((function, line))
        if location is None:
            location = self._location_ids[function, line] = len(self.locations) + 1
            body = number(1, location) + number(2, 1)
            body += message(4, number(1, function) + number(2, line))
            self.locations.append(message(4, body))
        return location

    def labels(self, key: Key) -> list[bytes]:
        """The labels of a row, encoded."""
        found = self._labels.get(key[1:])
        if found is None:
            found = self._labels[key[1:]] = list(self._encode_labels(key))
        return found

    def _encode_labels(self, key: Key) -> Iterator[bytes]:
        yield self._string_label("kind", _KINDS.get(key.domain, "memory"))
        yield self._number_label("bytes", key.size, "bytes")
        if key.type:
            yield self._string_label("type", self.recording.types[key.type - 1].name)
        if key.life_ns >= 0:
            yield self._number_label("lifetime", key.life_ns, "nanoseconds")
        if key.collections >= 0:
            yield self._number_label("collections", key.collections, "count")
        if key.freed_by >= 0:
            yield self._string_label("freed_by", _FREED_BY[key.freed_by])

    def _string_label(self, name: str, value: str) -> bytes:
        return number(1, self.text(name)) + number(2, self.text(value))

    def _number_label(self, name: str, value: int, unit: str) -> bytes:
        return number(1, self.text(name)) + number(3, value) + number(4, self.text(unit))


@cache
def module_of(file: str) -> str:
    """The module of a source file, for names that are told apart without their files.

    >>> module_of("/usr/lib/python3.11/json/decoder.py"), module_of("/home/me/app.py")
    ('json.decoder', 'app')
    >>> module_of("<frozen importlib._bootstrap>")
    'importlib._bootstrap'
    """
    if file.startswith("<"):
        return file.removeprefix("<frozen ").rstrip(">") if file[1:8] == "frozen " else file
    folder, name = os.path.split(file)
    names = [name.removesuffix(".py")]
    for root in ("site-packages", "dist-packages"):
        _, found, below = folder.rpartition(f"{os.sep}{root}")
        if found:
            names[:0] = below.split(os.sep)[1:]
            break
    else:
        parts = folder.split(os.sep)
        roots = [n for n, part in enumerate(parts) if part.startswith("python3")]
        if roots and parts[roots[-1] - 1] == "lib":
            names[:0] = parts[roots[-1] + 1 :]
        else:
            while os.path.exists(os.path.join(folder, "__init__.py")):
                folder, package = os.path.split(folder)
                names.insert(0, package)
    if names[-1] == "__init__" and len(names) > 1:
        names.pop()
    return ".".join(names)
