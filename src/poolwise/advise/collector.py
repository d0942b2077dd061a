"""What other thresholds of the garbage collector would gain: the `gc` part of `settings`.

The time that collections take now is measured. What they would take is found by replaying the
recorded births and deaths of collected objects through CPython's own rule (a young collection
when births exceed deaths by the first threshold; every so many of one generation, the next older
one; the oldest only when a quarter of it is new), and pricing each object that is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.gain import Seconds
from poolwise.profile.recording import Summary
from poolwise.profile.sites import PAGE_BYTES, Site


@dataclass(slots=True)
class Replay:
    """What the collector would do, by generation: how often, and objects passed over."""

    collections: list[int]
    objects: list[float]
    garbage_bytes: float  # the most that waits for a collection, dead


@dataclass(frozen=True, slots=True)
class Life:
    """A sampled block. `tracked`: the collector passes it over; `cyclic`: it needs it to die."""

    birth_ns: int
    death_ns: int | None
    weight: float
    size: int
    tracked: bool
    cyclic: bool


def replay(lives: Sequence[Life], thresholds: Sequence[int]) -> Replay:
    """Run CPython's generational rule over the lives of blocks.

    A block that was freed by the collector is dead from then on at the latest, and stays until the
    replayed collector comes to its generation.
    """
    events = [(life.birth_ns, 1, n) for n, life in enumerate(lives)]
    events += [(life.death_ns, -1, n) for n, life in enumerate(lives) if life.death_ns is not None]
    result = Replay([0, 0, 0], [0.0, 0.0, 0.0], 0.0)
    generations: list[set[int]] = [set(), set(), set()]
    where: dict[int, int] = {}
    dead: list[set[int]] = [set(), set(), set()]
    garbage = count = pending = long_lived = 0.0
    older = [0, 0]
    for _, sign, number in sorted(events):
        life = lives[number]
        if sign < 0:
            generation = where[number]
            if life.cyclic:
                dead[generation].add(number)
                garbage += life.weight * life.size
                result.garbage_bytes = max(result.garbage_bytes, garbage)
                continue
            generations[generation].discard(number)
            if life.tracked:
                count = max(0.0, count - life.weight)
            continue
        where[number] = 0
        if life.tracked or life.cyclic:
            generations[0].add(number)
        if not life.tracked:
            continue
        count += life.weight
        if count <= thresholds[0]:
            continue
        # The oldest first, and each by its own count alone, as CPython looks.
        if older[1] > thresholds[2] and pending >= long_lived / 4:
            oldest = 2
        elif older[0] > thresholds[1]:
            oldest = 1
        else:
            oldest = 0
        target = min(oldest + 1, 2)
        survivors: set[int] = set()
        for generation in range(oldest + 1):
            passed = generations[generation]
            result.objects[oldest] += sum(lives[n].weight for n in passed if lives[n].tracked)
            freed = dead[generation]
            garbage -= sum(lives[n].weight * lives[n].size for n in freed)
            survivors |= passed - freed
            generations[generation] = set()
            dead[generation] = set()
        if oldest == 1:
            pending += sum(lives[n].weight for n in survivors)
        generations[target] |= survivors
        for survivor in survivors:
            where[survivor] = target
        result.collections[oldest] += 1
        if oldest == 2:
            older, pending = [0, 0], 0.0
            long_lived = sum(lives[n].weight for n in generations[2])
        else:
            older = [older[0] + 1, older[1]] if oldest == 0 else [0, older[1] + 1]
        count = 0.0
    return result


def saved(
    summary: Summary,
    sites: Sequence[Site],
    prices: Calibration,
    thresholds: Sequence[int],
    current: Sequence[int],
) -> tuple[Seconds, int]:
    """What `thresholds` would save over the `current` ones, and the bytes of garbage they keep.

    The saving may be negative.
    """
    measured = sum(summary.collection_seconds)
    if measured == 0 or current[0] == 0 or current[0] >= thresholds[0]:
        return Seconds(), 0
    young, full = prices.gc_object(), prices.gc_object(full=True)
    # A young collection over tens of thousands of objects leaves the cache: between the two.
    wide = Price((young.value * full.value) ** 0.5, young.low, full.high)
    expected = replay(list(_lives(sites)), thresholds)
    cost = Seconds()
    cost.add(1.0, wide, units=expected.objects[0])
    cost.add(1.0, full, units=expected.objects[1] + expected.objects[2])
    # What is measured is sure; what would be left is not, and is hardly more than now.
    left = Seconds(min(cost.value, measured), min(cost.low, measured), min(cost.high, measured))
    # Memory that is not used again so soon has to come from the kernel, once.
    faults = Seconds()
    faults.add(1.0, prices.fault(1 << 20), units=expected.garbage_bytes / PAGE_BYTES)
    return Seconds(measured, measured, measured) - left - faults, int(expected.garbage_bytes)


def _lives(sites: Sequence[Site]) -> Iterator[Life]:
    for site in sites:
        if site.kind != "memory":
            continue
        for sample in site.samples:
            tracked = sample.type is not None and sample.type.collected
            if tracked or sample.collected:
                yield Life(
                    sample.birth_ns,
                    sample.death_ns,
                    sample.weight,
                    sample.size,
                    tracked,
                    sample.collected,
                )
