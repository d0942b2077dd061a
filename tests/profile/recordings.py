"""Recordings made up by hand: what is known of them can be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poolwise.profile.recording import (
    ALIVE,
    CONSTRUCTION,
    FREED,
    OBJECT,
    Birth,
    Code,
    Construction,
    Death,
    Node,
    Recording,
    Summary,
    Type,
)

SECOND = 10**9
START_NS = 5 * SECOND
END = 10.0  # seconds: when every recording ends

SUMMARY = Summary(
    seconds=END, user_seconds=8.0, system_seconds=1.0, minor_faults=1000, major_faults=0,
    peak_bytes=1 << 20, samples=100, constructions=0, thinned=0, lost=0, truncated_stacks=0,
    unknown_stacks=0, overhead_seconds=0.1, own_faults=0, hook_removals=0, forks=0, volume=1 << 30,
    collections=(30, 3, 1), collection_seconds=(0.1, 0.1, 0.1), collected=(0, 0, 0), rate=65536.0,
    heap_bytes=0, heap_free_bytes=0, heap_mapped_bytes=0, finished=True,
)  # fmt: skip


@dataclass(frozen=True)
class Life:
    """One sample: born and dead at these seconds, or alive at the end; one GC a second."""

    birth: float
    death: float | None
    size: int = 100
    weight: float = 1.0
    stack: int = 1
    domain: int = OBJECT
    kind: int = FREED
    death_thread: int = 1
    duration_ns: int = 0


def made(
    lives: Sequence[Life],
    *,
    stacks: int = 1,
    files: Sequence[str] = (),
    function: str = "",
    type_: str = "thing",
) -> Recording:
    """A recording of these, from second 0 to END.

    Stack n is function fn of `app.py`, called by that of half its number; with `files` a single
    stack through all of them, the last innermost.
    """
    found = Recording("made", summary=SUMMARY)
    table = compile("x = [1]\n", "app.py", "exec").co_linetable
    number = len(files) or stacks
    for at in range(1, number + 1):
        file = files[at - 1] if files else "app.py"
        found.codes.append(Code(file, function or f"f{at}", 1, table))
        found.nodes.append(Node(at - 1 if files else at // 2, at, 2))
    found.types = [Type(type_, 0)]
    for life in sorted(lives, key=lambda life: life.birth):
        index = len(found.births)
        end = END if life.death is None else life.death
        kind = ALIVE if life.death is None else life.kind
        found.births.append(
            Birth(_ns(life.birth), _volume(life.birth), _volume(life.birth), life.size, life.weight,
                  life.stack, 1, 0, life.domain, int(life.birth), 0)
        )  # fmt: skip
        found.deaths[index] = Death(
            index, _ns(end), _volume(end), _volume(end), life.size, life.stack, life.death_thread,
            1, 0, int(end), kind, 0,
        )  # fmt: skip
        if life.domain == CONSTRUCTION:
            found.constructions[index] = Construction(index, 0, 1, life.duration_ns)
    if found.births:
        # The end of the recording is that of what is alive, or one that outlives the others.
        found.deaths[-1] = Death(-1, _ns(END), 0, 0, 0, 0, 1, 0, 0, 0, FREED, 0)
    return found


def _ns(seconds: float) -> int:
    return START_NS + int(seconds * SECOND)


def _volume(seconds: float) -> int:
    """A megabyte is allocated each second."""
    return int(seconds * 1e6)
