"""What other thresholds of the garbage collector would gain: the `gc` part of `settings`.

The time that collections take now is measured. What they would take is found by replaying the
recorded births and deaths of collected objects through CPython's own rule (a young collection
when births exceed deaths by the first threshold; every so many of one generation, the next older
one; the oldest only when a quarter of it is new), and pricing each object that is passed over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.gain import Seconds
from poolwise.profile.recording import Summary
from poolwise.profile.sites import Sample, Site


@dataclass(slots=True)
class Replay:
    """What the collector would do: objects passed over by generation, and how often."""

    collections: list[int]
    objects: list[float]


def replay(events: Iterable[tuple[int, int, int, float]], thresholds: Sequence[int]) -> Replay:
    """Run CPython's generational rule over (time, +1 or -1, sample number, weight) events."""
    result = Replay([0, 0, 0], [0.0, 0.0, 0.0])
    generations: list[dict[int, float]] = [{}, {}, {}]
    where: dict[int, int] = {}
    count = 0.0
    older = [0, 0]
    long_lived_pending = long_lived_total = 0.0
    for _, sign, number, weight in sorted(events):
        if sign < 0:
            count = max(0.0, count - weight)
            generation = where.pop(number, None)
            if generation is not None:
                del generations[generation][number]
            continue
        count += weight
        generations[0][number] = weight
        where[number] = 0
        if count <= thresholds[0]:
            continue
        oldest = 0
        if older[0] >= thresholds[1]:
            oldest = 1
            if older[1] >= thresholds[2] and long_lived_pending > long_lived_total / 4:
                oldest = 2
        result.collections[oldest] += 1
        result.objects[oldest] += sum(sum(g.values()) for g in generations[: oldest + 1])
        target = min(oldest + 1, 2)
        for generation in range(oldest + 1):
            if generation == target:
                continue
            for survivor in generations[generation]:
                where[survivor] = target
            generations[target].update(generations[generation])
            generations[generation] = {}
        if oldest == 0:
            older[0] += 1
        elif oldest == 1:
            older = [0, older[1] + 1]
            long_lived_pending += sum(generations[2].values()) - long_lived_total
        else:
            older = [0, 0]
            long_lived_pending, long_lived_total = 0.0, sum(generations[2].values())
        count = 0.0
    return result


def saved(
    summary: Summary,
    sites: Sequence[Site],
    prices: Calibration,
    thresholds: Sequence[int],
    current: Sequence[int],
) -> Seconds:
    """CPU seconds that `thresholds` would save over the `current` ones; may be negative."""
    measured = sum(summary.collection_seconds)
    if measured == 0 or current[0] == 0 or current[0] >= thresholds[0]:
        return Seconds()
    young, full = prices.gc_object(), prices.gc_object(full=True)
    # A young collection over tens of thousands of objects leaves the cache: between the two.
    wide = Price((young.value * full.value) ** 0.5, young.low, full.high)
    expected = replay(_events(sites), thresholds)
    cost = Seconds()
    cost.add(1.0, wide, units=expected.objects[0])
    cost.add(1.0, full, units=expected.objects[1] + expected.objects[2])
    # What is measured is sure; what would be left is not, and neither is more than now.
    return Seconds(
        measured - min(cost.value, measured),
        measured - min(cost.high, measured),
        measured - min(cost.low, measured),
    )


def _events(sites: Sequence[Site]) -> Iterable[tuple[int, int, int, float]]:
    tracked: list[Sample] = [
        sample
        for site in sites
        if site.kind == "memory"
        for sample in site.samples
        if sample.type is not None and sample.type.collected
    ]
    births = ((s.birth_ns, 1, n, s.weight) for n, s in enumerate(tracked))
    deaths = (
        (s.death_ns, -1, n, s.weight) for n, s in enumerate(tracked) if s.death_ns is not None
    )
    return heapq.merge(sorted(births), sorted(deaths))
