"""Allocation sites: the places in the user's program where memory is asked for.

A site is an instruction of the program's own code (the innermost frame that is neither the
standard library's nor an installed package's), and a kind of memory. What a library allocates
counts for the line that called the library: that is where the user can change something.
"""

from __future__ import annotations

import heapq
import linecache
import math
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from poolwise.profile.intervals import Estimate, total, weight_of
from poolwise.profile.lifetimes import Lifetimes, weighted_quantile
from poolwise.profile.positions import Position
from poolwise.profile.recording import (
    ALIVE,
    COLLECTED,
    CONSTRUCTION,
    FREED,
    LOST,
    NATIVE,
    NUMPY,
    THINNED,
    Node,
    Recording,
    Type,
    life_bytes,
)

PAGE_BYTES = 4096
POOLWISE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
KINDS = {NUMPY: "array", CONSTRUCTION: "construction", NATIVE: "native"}  # others: "memory"
LARGE_BYTES = 4 * PAGE_BYTES  # from here on the sampler looks at pages


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled allocation of a site. Times are CLOCK_MONOTONIC nanoseconds.

    `collected`: it was freed by the garbage collector, some time after its last use. `lost`: it
    was freed unseen, at some time before `death_ns`. `birth_weight`: how many births it stands for,
    where that is not `weight` (`Recording.birth_weight`). `life_volume` is what was allocated
    during its life by its thread, or by all if another freed it; `life_total_volume` by all.
    """

    weight: float
    size: int
    birth_ns: int
    death_ns: int | None
    touched_pages: int
    nonresident_pages: int
    life_volume: int
    life_collections: int
    same_thread: bool
    thread: int
    zeroed: bool
    stack: int
    death_stack: int
    collected: bool
    type: Type | None
    arguments: int | None = None
    duration_ns: int = 0
    process: int = 0  # which of `Recording.processes`
    lost: bool = False
    reallocs: int = 0
    birth_weight: float | None = None
    life_total_volume: int = 0


class Frame(NamedTuple):
    """A frame of a stack; `line` is where in its function it was."""

    function: str
    file: str
    line: int | None


@dataclass(slots=True)
class Site:
    """All that was sampled at one place. `library` is the frame that really allocated, if other."""

    kind: str  # "memory", "array", "native" (a library's own malloc) or "construction"
    file: str
    function: str
    position: Position
    library: str | None
    samples: list[Sample] = field(default_factory=list)
    types: dict[str, float] = field(default_factory=dict)
    gap: float = 0.0  # in the mean between samples, in span; 0 where everything was sampled
    least: int = 0  # bytes of the smallest block that counts here

    @property
    def expression(self) -> str:
        """The source text of the instruction, on one line; "" if the source is not there."""
        return source_of(self.file, self.position)

    @property
    def type(self) -> str | None:
        """The commonest type of what is allocated."""
        return max(self.types, key=self.types.__getitem__) if self.types else None

    @property
    def count(self) -> float:
        """How many allocations, estimated."""
        return sum(sample.weight for sample in self.samples)

    @property
    def bytes(self) -> float:
        """How many bytes in all, estimated."""
        return sum(sample.weight * sample.size for sample in self.samples)

    @property
    def count_estimate(self) -> Estimate:
        """`count` with its 95 % interval."""
        spare = weight_of(self.least, self.gap)
        return total(((s.weight, 1.0) for s in self.samples), (spare, 1.0))

    @property
    def bytes_estimate(self) -> Estimate:
        """`bytes` with its 95 % interval."""
        sized = ((weight_of(s.size, self.gap), float(s.size)) for s in self.samples)
        spare = max(sized, key=lambda sized: (sized[0] - 1) * sized[1], default=(1.0, 0.0))
        return total(((s.weight, float(s.size)) for s in self.samples), spare)

    @property
    def touched_pages(self) -> float:
        """Pages that these allocations took afresh from the kernel, estimated."""
        return sum(sample.weight * sample.touched_pages for sample in self.samples)

    @property
    def same_thread_share(self) -> float:
        """The share that is freed by the thread that made it, of all that were freed."""
        freed = [sample for sample in self.samples if sample.death_ns is not None]
        weight = sum(sample.weight for sample in freed)
        return sum(s.weight for s in freed if s.same_thread) / weight if weight else 1.0

    @property
    def collected_share(self) -> float:
        """The share that is freed by the garbage collector, of all that were freed."""
        freed = [sample for sample in self.samples if sample.death_ns is not None]
        weight = sum(sample.weight for sample in freed)
        return sum(s.weight for s in freed if s.collected) / weight if weight else 0.0

    def captured_by(self, recording: Recording) -> Frame | None:
        """The innermost frame that made a block and still ran when it was freed, for most of them.

        It is the scope that an arena for these blocks would belong to: the last frame of the
        common prefix of both stacks. None if most outlive all of it, or are freed by another
        thread. A function that was called again from the same place looks like the same call.
        """
        frames: dict[Frame | None, float] = {}
        known: dict[tuple[int, int], Frame | None] = {}
        for sample in self.samples:
            if sample.death_ns is None:
                continue
            key = sample.stack, sample.death_stack if sample.same_thread else 0
            if key not in known:
                known[key] = _shared_frame(recording, *key)
            frames[known[key]] = frames.get(known[key], 0.0) + sample.weight
        frame = max(frames, key=frames.__getitem__, default=None)
        return frame if frame and frames[frame] > sum(frames.values()) / 2 else None

    def freed_by(self, recording: Recording) -> tuple[Frame, ...]:
        """The stack, innermost frame first, on which most are freed; () if none is."""
        stacks: dict[int, float] = {}
        for sample in self.samples:
            if sample.death_stack:
                stacks[sample.death_stack] = stacks.get(sample.death_stack, 0.0) + sample.weight
        if not stacks:
            return ()
        frames: list[Frame] = []
        for node in recording.stack(max(stacks, key=stacks.__getitem__)):
            if recording.code(node).file.startswith(POOLWISE):
                break  # what started the program
            frames.append(_frame(recording, node))
        return tuple(frames)

    def large(self) -> Site:
        """The same place, with its blocks of several pages only."""
        samples = [s for s in self.samples if s.size >= LARGE_BYTES]
        return replace(self, samples=samples, least=LARGE_BYTES)

    @property
    def threads(self) -> int:
        """How many threads allocate here."""
        return len({sample.thread for sample in self.samples})

    def size_quantile(self, part: float) -> int:
        """The size that a share `part` of the allocations does not exceed."""
        return int(weighted_quantile(((s.size, s.weight) for s in self.samples), part))

    def lifetimes(self, clock: str, end_ns: int, *, by_bytes: bool = False) -> Lifetimes:
        """Lifetimes on a clock: "ns", "volume" (bytes allocated) or "collections".

        Of blocks that were sampled at their birth: how old others are is not known. `by_bytes`
        counts each as many times as it has bytes.
        """
        lifetimes = Lifetimes(spare=weight_of(self.least, self.gap))
        for sample in self.samples:
            weight = sample.weight if sample.birth_weight is None else sample.birth_weight
            if weight == 0:
                continue
            alive = sample.death_ns is None or sample.lost
            if clock == "ns":
                life = (end_ns if sample.death_ns is None else sample.death_ns) - sample.birth_ns
            else:
                life = sample.life_volume if clock == "volume" else sample.life_collections
            if by_bytes:
                weight *= sample.size
            lifetimes.add(life, weight, alive=alive)
        return lifetimes

    def levels(self) -> Iterator[tuple[int, float, float]]:
        """(time, how many are alive, how many bytes) after each birth and death, in order."""
        events = [(s.birth_ns, 1, s.weight, s.size) for s in self.samples]
        events += [
            (s.death_ns, -1, s.weight, s.size) for s in self.samples if s.death_ns is not None
        ]
        alive = held = 0.0
        for time_ns, sign, weight, size in sorted(events):
            alive += sign * weight
            held += sign * weight * size
            yield time_ns, alive, held

    def concurrency(self) -> float:
        """How many are alive at once, at 99 of 100 births.

        Where every allocation was sampled that is the quantile of what was seen. Otherwise each
        block alive counts for the many it stands for, and that alone makes the level jump: what
        the sampling explains of its variance is taken off before the quantile is estimated.
        """
        ends: list[tuple[int, float]] = []
        seen: list[tuple[float, float]] = []
        level = noise = sampling = 0.0
        for sample in sorted(self.samples, key=lambda s: s.birth_ns):
            while ends and ends[0][0] <= sample.birth_ns:
                _, gone = heapq.heappop(ends)
                level -= gone
                noise -= gone * (gone - 1)
            seen.append((1 + level, sample.weight))
            sampling += sample.weight * noise
            level += sample.weight
            noise += sample.weight * (sample.weight - 1)
            if sample.death_ns is not None:
                heapq.heappush(ends, (sample.death_ns, sample.weight))
        total = sum(weight for _, weight in seen)
        if total <= len(seen) * 1.001:
            return weighted_quantile(seen, 0.99)
        mean = sum(value * weight for value, weight in seen) / total
        variance = sum((value - mean) ** 2 * weight for value, weight in seen) / total
        explained = sampling / total
        return mean + (2.33 * math.sqrt(variance - explained) if variance > 1.25 * explained else 0)

    def hit_bound(self, capacity: int) -> float:
        """The best hit rate that any pool keeping `capacity` could have had here.

        A shadow pool: a birth is a hit if something that died is kept, a death is kept if there is
        room. It runs on the samples as they are, with the room scaled to how many they stand for.
        """
        if not self.samples:
            return 0.0
        room = max(1, round(capacity * len(self.samples) / self.count))
        events = [(s.birth_ns, 1) for s in self.samples]
        events += [(s.death_ns, 0) for s in self.samples if s.death_ns is not None]
        idle = hits = 0
        for _, is_birth in sorted(events):
            if not is_birth:
                idle = min(idle + 1, room)
            elif idle:
                hits += 1
                idle -= 1
        return hits / len(self.samples)

    def is_rebound(self, recording: Recording) -> bool:
        """Whether most die where they are born: `x = make()` in a loop frees the last one there.

        Then one more is alive for a moment than is in use.
        """
        rebound = freed = 0.0
        for sample in self.samples:
            node = next(iter(recording.stack(sample.death_stack)), None)
            if sample.death_ns is not None:
                freed += sample.weight
                if node is not None and recording.code(node).function == self.function:
                    rebound += sample.weight * (recording.position(node).line == self.position.line)
        return rebound > 0.9 * freed > 0


def find(recording: Recording, program: str | None = None) -> list[Site]:
    """All sites of a recording, the one with most allocations first.

    `program`: a file or directory whose code counts as the user's own even inside an installed
    package (for `python -m package`).
    """
    own = OwnCode(program)
    placed: dict[int, tuple[Node, str | None] | None] = {}
    sites: dict[tuple[int, int, str, str], Site] = {}
    gap = recording.gap
    summary = recording.summary  # what is known to have passed when a recording was cut
    end_volume = max((summary.volume if summary else 0, *(b.volume for b in recording.births[-1:])))
    end_collections = sum(summary.collections) if summary else 0
    for number, birth in enumerate(recording.births):
        death = recording.deaths.get(number)
        if death is not None and death.kind == THINNED:
            continue
        if birth.stack not in placed:
            placed[birth.stack] = own.frame(recording, birth.stack)
        place = placed[birth.stack]
        if place is None:
            continue
        node, library = place
        kind = KINDS.get(birth.domain, "memory")
        if kind == "construction" and library is not None:
            continue  # its time is part of the call that the user's code makes
        type_ = recording.type(number)
        # A C function may call several classes in one instruction: each is a site of its own.
        called = type_.name if type_ is not None and kind == "construction" else ""
        key = (node.code, node.instruction_bytes, kind, called)
        site = sites.get(key)
        if site is None:
            code = recording.code(node)
            site = sites[key] = Site(
                kind, code.file, code.function, recording.position(node), library, gap=gap
            )
        weight = recording.weight(number)
        if type_ is not None:
            site.types[type_.name] = site.types.get(type_.name, 0.0) + weight
        freed = death is not None and death.kind in (FREED, COLLECTED)
        resized = birth.resized or (death is not None and death.reallocs > 0)
        same = death is not None and death.thread == birth.thread
        own_life = death.thread_volume - birth.thread_volume if death is not None and same else 0
        total_life = (death.volume if death is not None else end_volume) - birth.volume
        construction = recording.constructions.get(number)
        site.samples.append(
            Sample(
                weight=weight,
                size=death.size if death else birth.size,
                birth_ns=birth.time_ns,
                death_ns=death.time_ns if death is not None and death.kind != ALIVE else None,
                touched_pages=death.touched_pages if death else 0,
                nonresident_pages=birth.nonresident_pages,
                life_volume=(
                    life_bytes(birth, death) if death is not None else end_volume - birth.volume
                ),
                life_collections=(death.collections if death else end_collections)
                - birth.collections,
                same_thread=freed and same,
                thread=birth.thread,
                zeroed=bool(birth.zeroed),
                stack=birth.stack,
                death_stack=death.stack if freed and death is not None else 0,
                collected=death is not None and death.kind == COLLECTED,
                type=type_,
                arguments=construction.arguments if construction else None,
                duration_ns=construction.duration_ns if construction else 0,
                process=recording.process(number),
                lost=death is not None and death.kind == LOST,
                reallocs=death.reallocs if death is not None else 0,
                birth_weight=recording.birth_weight(number) if resized else None,
                # The total is counted when something is sampled, and may lag behind the thread's.
                life_total_volume=max(total_life, own_life),
            )
        )
    return sorted(sites.values(), key=lambda site: -site.count)


def _frame(recording: Recording, node: Node) -> Frame:
    code = recording.code(node)
    return Frame(code.function, code.file, recording.position(node).line)


def _shared_frame(recording: Recording, birth_stack: int, death_stack: int) -> Frame | None:
    """The last frame of the common prefix; in that one, time has passed between the two.

    A function's variables are dropped when its own frame is gone already, with its caller still at
    the call: the frame that returned is the one.
    """
    birth = [*recording.stack(birth_stack)][::-1]
    death = [*recording.stack(death_stack)][::-1]
    shared: Node | None = None
    for made, freed in zip(birth, death, strict=False):
        if made.code != freed.code:
            break
        if not recording.code(made).file.startswith(POOLWISE):  # what started the program
            shared = made
        if made != freed:
            break
    else:
        if death and len(birth) > len(death):
            shared = birth[len(death)]
    return None if shared is None else _frame(recording, shared)


def source_of(file: str, position: Position) -> str:
    """The text between a position's start and end, white space folded."""
    line, end_line, column, end_column = position
    if line is None:
        return ""
    try:
        lines = [linecache.getline(file, n) for n in range(line, (end_line or line) + 1)]
    except ValueError:  # no name that a file can have: code objects may claim any
        return ""
    if not lines or not lines[0]:
        return ""
    raw = [text.encode() for text in lines]
    if column is not None and end_column is not None:
        raw[-1] = raw[-1][:end_column]
        raw[0] = raw[0][column:]
    return " ".join(b" ".join(raw).decode("utf-8", "replace").split())


class OwnCode:
    """Tells the user's own frames from the library's."""

    def __init__(self, program: str | None) -> None:
        self.program = os.path.realpath(program) if program else None
        paths = sysconfig.get_paths()
        roots = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        roots |= {os.path.realpath(root) for root in roots}
        roots.add(os.path.join(sys.base_prefix, "lib"))
        self.roots = tuple(sorted(root.rstrip(os.sep) + os.sep for root in roots))
        self.known: dict[str, bool] = {}

    def is_own(self, file: str) -> bool:
        known = self.known.get(file)
        if known is None:
            if self.program and os.path.realpath(file).startswith(self.program):
                known = True
            else:
                known = not (
                    file.startswith(("<frozen", "<string>", *self.roots))
                    or "/site-packages/" in file
                    or "/dist-packages/" in file
                )
            self.known[file] = known
        return known

    def frame(self, recording: Recording, stack: int) -> tuple[Node, str | None] | None:
        """The frame the site is named after, and the library function that allocated, if any.

        A stack with no frame of the user's (imports, an installed program) is named after its
        innermost frame.
        """
        innermost: Node | None = None
        for node in recording.stack(stack):
            if recording.code(node).file.startswith(POOLWISE):
                break  # what started the program
            if innermost is None:
                innermost = node
            if self.is_own(recording.code(node).file):
                if node is innermost:
                    return node, None
                return node, recording.code(innermost).function
        return None if innermost is None else (innermost, None)
