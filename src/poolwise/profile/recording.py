"""Read a recording: the log of sampled births and deaths that the sampler wrote.

A recording is a directory with `samples.log` (format: `_core/recording.h`). Of a program that was
killed, or is still running, what it had not written to its log is read from the log's tail.
"""

from __future__ import annotations

import io
import math
import os
import re
import statistics
import struct
import zlib
from bisect import bisect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from poolwise.errors import RecordingError
from poolwise.profile import tail
from poolwise.profile.bulk import without_collections
from poolwise.profile.child import CHILD_PREFIX, END_NAME, LOG_NAME
from poolwise.profile.intervals import span
from poolwise.profile.positions import Position, position_at

MAGIC = b"poolwise recording 1\n"
NO_STACK = 0
UNKNOWN_STACK = 2**32 - 1  # the sampler's table of stacks was full

OBJECT, MEMORY, NUMPY, CONSTRUCTION, NATIVE, RAW = range(6)  # domains
FREED, THINNED, LOST, ALIVE, COLLECTED = range(5)  # how a sample ended

_CHUNK = struct.Struct("=IIII")
_BIRTH = struct.Struct("=QQQQdIIIIII")
_DEATH = struct.Struct("=QQQQQIIIIIHH")
_NODE = struct.Struct("=III")
_CONSTRUCTION = struct.Struct("=QQII")
_OBJECTS = struct.Struct("=QQII")
_TEXT = struct.Struct("=II")
_CODE = struct.Struct("=IIII")
_TYPE = struct.Struct("=I")
_SUMMARY = struct.Struct("=18Q9Qd4Q")
_OBJECTS_LOST = 1
MARKER = 2**64 - 1  # the "birth" of a thinning marker

BIRTHS, DEATHS, NODES, CONSTRUCTIONS, OBJECTS, TEXTS, SUMMARY = b"BDNCOTS"  # kinds of chunks


class Chunk(NamedTuple):
    """A piece of the log, which is whole. `at`: where in the file it begins."""

    at: int
    kind: int
    payload: bytes


class Birth(NamedTuple):
    """One sampled allocation. `volume` is bytes allocated so far, by the thread and by all."""

    time_ns: int
    thread_volume: int
    volume: int
    size: int
    weight: float
    stack: int
    thread: int
    nonresident_pages: int
    domain: int
    collections: int
    flags: int

    @property
    def zeroed(self) -> bool:
        """Whether it came from calloc."""
        return bool(self.flags & 1)

    @property
    def resized(self) -> bool:
        """Whether the block is older: none of its sizes was sampled until this realloc."""
        return bool(self.flags & 2)


class Death(NamedTuple):
    """How it ended, or its state at the end of the recording (`kind` ALIVE)."""

    birth: int
    time_ns: int
    thread_volume: int
    volume: int
    size: int
    stack: int
    thread: int
    type: int
    touched_pages: int
    collections: int
    kind: int
    reallocs: int


def life_bytes(birth: Birth, death: Death) -> int:
    """How long it lived in bytes: of its own thread, or of all if another thread freed it."""
    if death.thread == birth.thread:
        return death.thread_volume - birth.thread_volume
    return death.volume - birth.volume


class Construction(NamedTuple):
    """A class call that was timed; `birth` is the object it made."""

    birth: int
    arguments: int
    type: int
    duration_ns: int


class Objects(NamedTuple):
    """How many objects of a type were created, and how many of them came from a free list."""

    created: int
    reused: int


@dataclass(frozen=True, slots=True)
class Code:
    """A code object of the program."""

    file: str
    function: str
    first_line: int
    table: bytes


class Type(NamedTuple):
    """A type, with CPython's `tp_flags`."""

    name: str
    flags: int

    @property
    def collected(self) -> bool:
        """Whether the garbage collector keeps track of its objects."""
        return bool(self.flags & 1 << 14)

    @property
    def is_exception(self) -> bool:
        """Whether it is an exception class."""
        return bool(self.flags & 1 << 30)


class Node(NamedTuple):
    """One frame of a stack; `caller` is the node that called it, 0 at the bottom."""

    caller: int
    code: int
    instruction_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The program's own account, at the last flush. Times in seconds, memory in bytes."""

    seconds: float
    user_seconds: float
    system_seconds: float
    minor_faults: int
    major_faults: int
    peak_bytes: int
    samples: int
    constructions: int
    thinned: int
    lost: int
    truncated_stacks: int
    unknown_stacks: int
    overhead_seconds: float
    own_faults: int
    hook_removals: int
    forks: int
    volume: int
    collections: tuple[int, int, int]
    collection_seconds: tuple[float, float, float]
    collected: tuple[int, int, int]
    rate: float
    heap_bytes: int
    heap_free_bytes: int
    heap_mapped_bytes: int
    finished: bool

    @property
    def cpu_seconds(self) -> float:
        """User and system time, without what the sampler itself took."""
        return max(self.user_seconds + self.system_seconds - self.overhead_seconds, 1e-9)


class Process(NamedTuple):
    """A process that was recorded. Its births are numbered from `first_birth` on."""

    pid: int | None  # None: the program itself, not a child
    first_birth: int
    summary: Summary


@dataclass(slots=True)
class Recording:
    """What was read. Births are numbered by their place in `births`.

    `thinnings`: how many a birth outlived (its weight doubles at each), of `markers` in all.
    `processes`: one, unless all were read together. `objects`: by
    the type's number (0: no room for it), where objects were counted; until `objects_end_ns`, if
    somebody took the interpreter's tracer away.
    """

    directory: str
    births: list[Birth] = field(default_factory=list)
    deaths: dict[int, Death] = field(default_factory=dict)
    thinnings: dict[int, int] = field(default_factory=dict)
    markers: int = 0
    constructions: dict[int, Construction] = field(default_factory=dict)
    objects: dict[int, Objects] = field(default_factory=dict)
    objects_end_ns: int | None = None
    codes: list[Code] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: list[Type] = field(default_factory=list)
    summary: Summary | None = None
    processes: list[Process] = field(default_factory=list)
    thresholds: tuple[int, int, int] = (700, 10, 10)  # of the collector, at the end; 0: off
    cut_bytes: int = 0
    _positions: dict[tuple[int, int], Position] = field(default_factory=dict, repr=False)

    def stack(self, node: int) -> Iterator[Node]:
        """The frames of a stack, innermost first."""
        while node not in (NO_STACK, UNKNOWN_STACK):
            frame = self.nodes[node - 1]
            yield frame
            node = frame.caller

    def code(self, node: Node) -> Code:
        """The code of a frame."""
        return self.codes[node.code - 1]

    def position(self, node: Node) -> Position:
        """Where in its file a frame was."""
        place = (node.code, node.instruction_bytes)
        if place not in self._positions:
            code = self.code(node)
            self._positions[place] = position_at(code.table, code.first_line, place[1])
        return self._positions[place]

    def type(self, birth: int) -> Type | None:
        """The type of a sampled object, as far as it was found out."""
        construction = self.constructions.get(birth)
        death = self.deaths.get(birth)
        number = construction.type if construction else death.type if death else 0
        return self.types[number - 1] if number else None

    def weight(self, birth: int) -> float:
        """How many allocations this sample stands for; doubled at each thinning it survived."""
        weight = first_weight(self.births[birth], self.deaths.get(birth))
        return weight * 2.0 ** self.thinnings.get(birth, 0)

    def double_living(self) -> None:
        """A thinning: what lives now stands for twice as many."""
        for birth in range(len(self.births)):
            death = self.deaths.get(birth)
            if death is None or death.kind == ALIVE:
                self.thinnings[birth] = self.thinnings.get(birth, 0) + 1

    def birth_weight(self, birth: int) -> float:
        """How many births this sample stands for: 0 where its birth was not seen, only a realloc.

        For what is asked of a block's whole life: 1/p of its first chance alone.
        """
        found = self.births[birth]
        return 0.0 if found.resized else found.weight * 2.0 ** self.thinnings.get(birth, 0)

    @property
    def gap(self) -> float:
        """The mean gap between samples, in span, under which most were taken; 0 if all were."""
        gaps = [
            -span(birth.size) / math.log1p(-1 / birth.weight)
            for birth in self.births
            if birth.domain != CONSTRUCTION and birth.weight > 1
        ]
        return statistics.median(gaps) if gaps else 0.0

    def process(self, birth: int) -> int:
        """Which of `processes` it happened in."""
        return bisect(self.processes, birth, key=lambda process: process.first_birth) - 1

    @property
    def end_ns(self) -> int:
        """The last moment known."""
        last_birth = self.births[-1].time_ns if self.births else 0
        last_death = max((d.time_ns for d in self.deaths.values()), default=0)
        return max(last_birth, last_death)


def first_weight(birth: Birth, death: Death | None) -> float:
    """How many allocations a sample stands for, if it was never thinned.

    A block that was resized after its birth stands for itself alone. Each realloc of a block that
    is not sampled yet is a chance to be, by the size it then has: one that was taken at its last
    chance stands for 1/p blocks, which makes up for all that were never taken; so those taken
    before would count too much with any other weight than 1, whatever their sizes were.
    """
    return 1.0 if death is not None and death.reallocs > 0 else birth.weight


@without_collections()
def read(directory: str | os.PathLike[str], *, process: int | None = 0) -> Recording:
    """Read the recording in `directory`.

    `process`: 0 is the program itself, 1 and up its children in order of their process ids, None
    all of them together (`Recording.process` then says whose a birth is).

    Raises:
        RecordingError: there is none, it is not one of ours, or nothing in it is whole.
    """
    if process == 0:
        recording = _read_log(os.path.join(directory, LOG_NAME), None)
    elif process is None:
        from poolwise.profile.processes import merged

        recording = merged(list(_read_all(directory)))
    else:
        children = children_of(directory)
        if not 0 < process <= len(children):
            raise RecordingError(
                f"{os.fspath(directory)}: has {len(children)} children, so no process {process}; "
                f"0 is the program itself"
            )
        pid, path = children[process - 1]
        recording = _read_log(path, pid)
    with suppress(OSError, ValueError):
        with open(os.path.join(directory, END_NAME)) as file:
            first, second, third, enabled, _frozen = map(int, file.read().split())
        recording.thresholds = (first if enabled else 0, second, third)
    return recording


def children_of(directory: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Process ids and logs of the children that were recorded, in order."""
    try:
        paths = [entry.path for entry in os.scandir(directory)]
    except OSError as error:
        raise RecordingError(f"{os.fspath(directory)}: cannot be read ({error.strerror})") from None
    found = []
    for path in paths:
        name = os.path.basename(path)
        match = re.fullmatch(rf"{CHILD_PREFIX}(\d+)(?:-(\d+))?\.log", name)
        if match:
            found.append((int(match[1]), int(match[2] or 1), path))
    return [(pid, path) for pid, _, path in sorted(found)]


def _read_all(directory: str | os.PathLike[str]) -> Iterator[Recording]:
    yield _read_log(os.path.join(directory, LOG_NAME), None)
    for pid, path in children_of(directory):
        with suppress(_NothingRecorded):  # killed as it began
            yield _read_log(path, pid)


class _NothingRecorded(RecordingError):
    pass


def _read_log(path: str, pid: int | None) -> Recording:
    data, rest = _log(path, is_child=pid is not None)
    recording = Recording(os.path.dirname(path))
    with io.BytesIO(data) as file:
        file.seek(len(MAGIC))
        for chunk in chunks(file, len(data)):
            add_chunk(recording, chunk)
        recording.cut_bytes = len(data) - file.tell()
    if rest is not None and not recording.cut_bytes:
        _add_tail(recording, rest)
    if recording.summary is None:
        raise _NothingRecorded(
            f"{path}: the program ended before anything was recorded; run it for longer"
        )
    recording.processes = [Process(pid, 0, recording.summary)]
    return recording


def _add_tail(recording: Recording, rest: tail.Tail) -> None:
    """All of it or, where its records refer to what is not there (after a power cut), nothing."""
    more = Recording(recording.directory)
    try:
        for kind, payload in rest.records:
            _add_records(more, ord(kind), payload)
        summary = _summary(rest.account)
    except (struct.error, ValueError):
        recording.cut_bytes = sum(len(payload) for _, payload in rest.records)
        return
    first = len(recording.births)
    codes, types = (len(recording.codes) + len(more.codes), len(recording.types) + len(more.types))
    nodes, births = len(recording.nodes) + len(more.nodes), first + len(more.births)
    if not (
        all(node.caller <= nodes and 0 < node.code <= codes for node in more.nodes)
        and all(birth.stack <= nodes or birth.stack == UNKNOWN_STACK for birth in more.births)
        and all(
            number < births
            and (death.stack <= nodes or death.stack == UNKNOWN_STACK)
            and death.type <= types
            for number, death in more.deaths.items()
        )
        and all(
            number < births and made.type <= types for number, made in more.constructions.items()
        )
        and all(type_ <= types for type_ in more.objects)
    ):
        recording.cut_bytes = sum(len(payload) for _, payload in rest.records)
        return
    recording.births += more.births
    recording.deaths |= more.deaths
    for _ in range(more.markers):
        recording.double_living()
    recording.constructions |= more.constructions
    recording.objects |= more.objects
    recording.objects_end_ns = more.objects_end_ns or recording.objects_end_ns
    recording.codes += more.codes
    recording.nodes += more.nodes
    recording.types += more.types
    recording.summary = summary


def code_of(directory: str | os.PathLike[str]) -> Recording:
    """Its code objects, stacks and types alone: a small part of a long recording.

    Raises:
        RecordingError: there is no recording, or it is not one of ours.
    """
    data, rest = _log(os.path.join(directory, LOG_NAME))
    recording = Recording(os.fspath(directory))
    with io.BytesIO(data) as file:
        file.seek(len(MAGIC))
        for chunk in chunks(file, len(data)):
            if chunk.kind in (NODES, TEXTS):
                add_chunk(recording, chunk)
    for kind, payload in rest.records if rest is not None else ():
        if ord(kind) in (NODES, TEXTS):
            with suppress(struct.error, ValueError):
                _add_records(recording, ord(kind), payload)
    return recording


def last_summary(directory: str | os.PathLike[str]) -> Summary | None:
    """The program's own account alone, without reading the rest; None if there is none yet.

    Raises:
        RecordingError: there is no recording, or it is not one of ours.
    """
    data, rest = _log(os.path.join(directory, LOG_NAME))
    if rest is not None:
        with suppress(struct.error, ValueError):
            return _summary(rest.account)
    found: bytes | None = None
    with io.BytesIO(data) as file:
        file.seek(len(MAGIC))
        for chunk in chunks(file, len(data)):
            found = chunk.payload if chunk.kind == SUMMARY else found
    return None if found is None else _summary(found)


def _log(path: str, *, is_child: bool = False) -> tuple[bytes, tail.Tail | None]:
    """All of a log, and what its program had not written yet."""
    try:
        data, rest = tail.read(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    if is_child and len(data) < len(MAGIC):  # it was killed as it began
        raise _NothingRecorded(f"{path}: the process ended before anything was recorded")
    if not data.startswith(MAGIC):
        raise RecordingError(f"{path}: this is not a poolwise recording; record it again")
    return data, rest


def open_log(directory: str | os.PathLike[str]) -> BinaryIO:
    """The log of a recording that goes on, to be read from its first chunk on.

    Raises:
        RecordingError: there is none, or it is not one of ours.
    """
    path = os.path.join(directory, LOG_NAME)
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        magic = file.read(len(MAGIC))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from None
    if magic != MAGIC:
        file.close()
        raise RecordingError(f"{path}: this is not a poolwise recording; record it again")
    return file


def chunks(file: BinaryIO, end: int) -> Iterator[Chunk]:
    """The whole chunks from where a log stands up to `end`; it then stands behind the last."""
    at = file.tell()
    while at + _CHUNK.size <= end:
        head = file.read(_CHUNK.size)
        kind, size, crc, _ = _CHUNK.unpack(head)
        next_at = at + _CHUNK.size + size
        payload = file.read(size) if next_at <= end else b""
        if next_at > end or zlib.crc32(payload, zlib.crc32(head[:8])) != crc:
            file.seek(at)
            return
        yield Chunk(at, kind, payload)
        at = next_at


def add_chunk(recording: Recording, chunk: Chunk) -> None:
    """Add to a recording what a chunk of its log holds.

    Raises:
        RecordingError: its records are not ours.
    """
    try:
        _add_records(recording, chunk.kind, chunk.payload)
    except (struct.error, ValueError):
        raise RecordingError(
            f"{os.path.join(recording.directory, LOG_NAME)}: written by another version of "
            f"poolwise (chunk at byte {chunk.at}); record again"
        ) from None


def births_of(payload: bytes) -> Iterator[Birth]:
    """The records of a chunk of births."""
    return map(Birth._make, _BIRTH.iter_unpack(payload))


def deaths_of(payload: bytes) -> Iterator[Death]:
    """The records of a chunk of deaths, thinning markers among them."""
    return map(Death._make, _DEATH.iter_unpack(payload))


def _add_records(recording: Recording, kind: int, payload: bytes) -> None:
    if kind == BIRTHS:
        recording.births += births_of(payload)
    elif kind == DEATHS:
        for death in deaths_of(payload):
            if death.birth == MARKER:
                recording.markers += 1
                recording.double_living()
            else:
                recording.deaths[death.birth] = death
    elif kind == NODES:
        recording.nodes += map(Node._make, _NODE.iter_unpack(payload))
    elif kind == CONSTRUCTIONS:
        for construction in map(Construction._make, _CONSTRUCTION.iter_unpack(payload)):
            recording.constructions[construction.birth] = construction
    elif kind == OBJECTS:
        for created, reused, type_, event in _OBJECTS.iter_unpack(payload):
            if event == _OBJECTS_LOST:
                recording.objects_end_ns = created
            else:
                recording.objects[type_] = Objects(created, reused)
    elif kind == TEXTS:
        _add_texts(recording, payload)
    elif kind == SUMMARY:
        recording.summary = _summary(payload)


def _add_texts(recording: Recording, payload: bytes) -> None:
    at = 0
    while at < len(payload):
        kind, size = _TEXT.unpack_from(payload, at)
        body = payload[at + _TEXT.size : at + _TEXT.size + size]
        at += _TEXT.size + size
        if kind == 1:
            first_line, file_bytes, name_bytes, _ = _CODE.unpack_from(body)
            name_at = _CODE.size + file_bytes
            table_at = name_at + name_bytes
            recording.codes.append(
                Code(
                    body[_CODE.size : name_at].decode("utf-8", "surrogatepass"),
                    body[name_at:table_at].decode("utf-8", "surrogatepass"),
                    first_line,
                    body[table_at:],
                )
            )
        else:
            (flags,) = _TYPE.unpack_from(body)
            name = body[_TYPE.size :].decode("utf-8", "replace")
            recording.types.append(Type(name, flags))


def _summary(payload: bytes) -> Summary:
    values = _SUMMARY.unpack(payload)
    (
        start, now, user, system, minor, major, peak,
        samples, constructions, thinned, lost, truncated, unknown,
        overhead, own_faults, removals, forks, volume,
    ) = values[:18]  # fmt: skip
    counts, times, collected = values[18:21], values[21:24], values[24:27]
    rate, heap, heap_free, heap_mapped, finished = values[27:]
    return Summary(
        seconds=(now - start) / 1e9,
        user_seconds=user / 1e9,
        system_seconds=system / 1e9,
        minor_faults=minor - own_faults,
        major_faults=major,
        peak_bytes=peak,
        samples=samples,
        constructions=constructions,
        thinned=thinned,
        lost=lost,
        truncated_stacks=truncated,
        unknown_stacks=unknown,
        overhead_seconds=overhead / 1e9,
        own_faults=own_faults,
        hook_removals=removals,
        forks=forks,
        volume=volume,
        collections=(counts[0], counts[1], counts[2]),
        collection_seconds=(times[0] / 1e9, times[1] / 1e9, times[2] / 1e9),
        collected=(collected[0], collected[1], collected[2]),
        rate=rate,
        heap_bytes=heap,
        heap_free_bytes=heap_free,
        heap_mapped_bytes=heap_mapped,
        finished=bool(finished),
    )
