"""The recordings of a program and its children, as one.

What is the same in several processes (a code object, a stack, a type) is one in the whole, so that
a site is one, whoever allocates there. Threads stay apart. All processes read the same clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from poolwise.profile.recording import (
    NO_STACK,
    UNKNOWN_STACK,
    Code,
    Node,
    Objects,
    Recording,
    Summary,
    Type,
)

_T = TypeVar("_T")


def merged(recordings: list[Recording]) -> Recording:
    """One recording of all, the program's own first. The first of them becomes it."""
    whole, *others = recordings
    codes = {code: number for number, code in enumerate(whole.codes, 1)}
    nodes = {node: number for number, node in enumerate(whole.nodes, 1)}
    types = {type_: number for number, type_ in enumerate(whole.types, 1)}
    for other in others:
        _add(whole, other, codes, nodes, types)
    whole.summary = _sum([process.summary for process in whole.processes])
    return whole


def _add(
    whole: Recording,
    other: Recording,
    codes: dict[Code, int],
    nodes: dict[Node, int],
    types: dict[Type, int],
) -> None:
    first = len(whole.births)
    threads = max((birth.thread for birth in whole.births), default=0)
    code_of = [0, *(_number(code, codes, whole.codes) for code in other.codes)]
    type_of = [0, *(_number(type_, types, whole.types) for type_ in other.types)]
    node_of = {NO_STACK: NO_STACK, UNKNOWN_STACK: UNKNOWN_STACK}
    for number, (caller, code, instruction_bytes) in enumerate(other.nodes, 1):
        node = Node(node_of[caller], code_of[code], instruction_bytes)
        node_of[number] = _number(node, nodes, whole.nodes)
    whole.births += [
        birth._replace(stack=node_of[birth.stack], thread=threads + birth.thread)
        for birth in other.births
    ]
    for number, death in other.deaths.items():
        whole.deaths[first + number] = death._replace(
            birth=first + number,
            stack=node_of[death.stack],
            thread=threads + death.thread,
            type=type_of[death.type],
        )
    for number, made in other.constructions.items():
        whole.constructions[first + number] = made._replace(
            birth=first + number, type=type_of[made.type]
        )
    for number, objects in other.objects.items():
        known = whole.objects.get(type_of[number], Objects(0, 0))
        whole.objects[type_of[number]] = Objects(
            known.created + objects.created, known.reused + objects.reused
        )
    whole.objects_end_ns = whole.objects_end_ns or other.objects_end_ns
    whole.thinnings |= {first + birth: times for birth, times in other.thinnings.items()}
    whole.cut_bytes += other.cut_bytes
    whole.processes += [process._replace(first_birth=first) for process in other.processes]


def _number(thing: _T, numbers: dict[_T, int], things: list[_T]) -> int:
    number = numbers.get(thing)
    if number is None:
        things.append(thing)
        number = numbers[thing] = len(things)
    return number


def _sum(summaries: list[Summary]) -> Summary:
    """Counts and times of all together; seconds and rate of the program itself, peaks added up."""
    program = summaries[0]

    def total(name: str) -> int:
        return sum(getattr(summary, name) for summary in summaries)

    def totals(name: str) -> tuple[int, int, int]:
        young, middle, old = zip(*(getattr(summary, name) for summary in summaries), strict=True)
        return sum(young), sum(middle), sum(old)

    counts = {name: total(name) for name in _COUNTS}
    by_generation = {name: totals(name) for name in _BY_GENERATION}
    return replace(program, **counts, **by_generation)  # type: ignore[arg-type]


_BY_GENERATION = ("collections", "collection_seconds", "collected")
_COUNTS = (
    "user_seconds",
    "system_seconds",
    "minor_faults",
    "major_faults",
    "peak_bytes",
    "samples",
    "constructions",
    "thinned",
    "lost",
    "truncated_stacks",
    "unknown_stacks",
    "overhead_seconds",
    "own_faults",
    "hook_removals",
    "forks",
    "volume",
    "heap_bytes",
    "heap_free_bytes",
    "heap_mapped_bytes",
)
