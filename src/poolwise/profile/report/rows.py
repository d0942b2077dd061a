"""The table of sites: what each allocates, how long that lives, and who frees it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from poolwise.profile.lifetimes import Lifetimes, bucket_start
from poolwise.profile.recording import Recording
from poolwise.profile.report.rounding import short, shorts
from poolwise.profile.sites import OwnCode, Sample, Site

CLOCKS = ("ns", "volume", "collections")
QUANTILES = (0.1, 0.5, 0.9)
MOST_FREED_AT = 3
Z95 = 1.96


class Sums(NamedTuple):
    """What a site adds up to; `heaptime` is bytes times the seconds that they are held.

    Constructions are time, not memory: they have objects only.
    """

    objects: float
    bytes: float
    alive_objects: float
    alive_bytes: float
    heaptime: float


def sums(site: Site, end_ns: int) -> Sums:
    """The sums of one site."""
    objects = held = alive = alive_bytes = byte_ns = 0.0
    for sample in site.samples:
        weight = sample.weight
        objects += weight
        if sample.death_ns is None:
            alive += weight
        if site.kind != "construction":
            sized = weight * sample.size
            held += sized
            byte_ns += sized * (sample.death_ns or end_ns) - sized * sample.birth_ns
            if sample.death_ns is None:
                alive_bytes += sized
    return Sums(objects, held, alive, alive_bytes, byte_ns / 1e9)


def row(recording: Recording, own: OwnCode, site: Site, total: Sums, end_ns: int) -> dict[str, Any]:
    """All that the page says of one site."""
    whole = total.objects or 1.0
    freed = [sample for sample in site.samples if sample.death_ns is not None]
    freed_weight = sum(sample.weight for sample in freed) or 1.0
    is_memory = site.kind != "construction"
    return {
        "kind": site.kind,
        "function": site.function,
        "file": site.file,
        "line": site.position.line,
        "expression": site.expression,
        "library": site.library,
        "type": site.type,
        "types": [[name, short(weight / whole)] for name, weight in _most(site.types, 5)],
        "samples": len(site.samples),
        "threads": site.threads,
        **{name: short(value, 6) for name, value in total._asdict().items()},
        "objects_error": short(_error(site.samples, of_bytes=False)),
        "bytes_error": short(_error(site.samples, of_bytes=True)) if is_memory else 0,
        "size": site.size_quantile(0.5) if is_memory else 0,
        "same_thread": short(site.same_thread_share) if freed else None,
        "collected": short(sum(s.weight for s in freed if s.collected) / freed_weight)
        if freed
        else None,
        "censored": short(total.alive_objects / whole),
        "at_once": short(site.concurrency()) if site.samples else 0,
        "call_ns": short(_mean_call_ns(site)) if not is_memory else None,
        "freed_at": _freed_at(recording, own, freed, freed_weight),
        "life": {clock: _life(site, clock, end_ns) for clock in CLOCKS},
    }


def _most(weights: dict[Any, float], number: int) -> list[tuple[Any, float]]:
    return sorted(weights.items(), key=lambda item: -item[1])[:number]


def _error(samples: Sequence[Sample], *, of_bytes: bool) -> float:
    """Half of the 95 % interval of a Horvitz-Thompson sum."""
    return Z95 * math.sqrt(
        sum(s.weight * (s.weight - 1) * (s.size**2 if of_bytes else 1) for s in samples)
    )


def _mean_call_ns(site: Site) -> float:
    weight = sum(sample.weight for sample in site.samples) or 1.0
    return sum(sample.weight * sample.duration_ns for sample in site.samples) / weight


def _freed_at(
    recording: Recording, own: OwnCode, freed: Sequence[Sample], whole: float
) -> list[list[Any]]:
    """Where most of it is freed: [function, file, line, share]. By the collector: no place."""
    stacks: dict[int, float] = {}
    for sample in freed:
        if not sample.collected:
            stacks[sample.death_stack] = stacks.get(sample.death_stack, 0.0) + sample.weight
    places: dict[tuple[str, str, int | None], float] = {}
    for stack, weight in stacks.items():
        place = own.frame(recording, stack)
        if place is not None:
            code = recording.code(place[0])
            key = code.function, code.file, recording.position(place[0]).line
            places[key] = places.get(key, 0.0) + weight
    return [[*place, short(weight / whole)] for place, weight in _most(places, MOST_FREED_AT)]


def _life(site: Site, clock: str, end_ns: int) -> dict[str, Any]:
    objects = site.lifetimes(clock, end_ns)
    quantiles = [objects.quantile(part) for part in QUANTILES]
    buckets = objects.ended.keys() | objects.censored.keys()
    first, last = cell_of(min(buckets, default=0)), cell_of(max(buckets, default=0))
    found: dict[str, Any] = {
        "quantiles": [None if q is None else short(q) for q in quantiles],
        "first": first,
        "objects": [shorts(c) for c in cells(objects, first, last)],
    }
    if site.kind != "construction":
        held = site.lifetimes(clock, end_ns, by_bytes=True)
        found["bytes"] = [shorts(c) for c in cells(held, first, last)]
    return found


def cell_of(bucket: int) -> int:
    """The cell of the page that a bucket of `lifetimes` is in: two to a doubling, 0 below 1.

    >>> from poolwise.profile.lifetimes import bucket_of
    >>> [cell_of(bucket_of(life)) for life in (0, 1, 2, 3)]
    [0, 1, 3, 4]
    """
    least = bucket_start(bucket)
    return 0 if least == 0 else 1 + int(2 * math.log2(least))


def cells(lifetimes: Lifetimes, first: int, last: int) -> tuple[list[float], list[float]]:
    """The weight in each cell from first to last: of what ended, and of what is still alive."""
    ended = [0.0] * (last - first + 1)
    alive = [0.0] * (last - first + 1)
    for counts, into in ((lifetimes.ended, ended), (lifetimes.censored, alive)):
        for bucket, weight in counts.items():
            into[cell_of(bucket) - first] += weight
    return ended, alive
