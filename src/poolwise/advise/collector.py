"""What other thresholds of the garbage collector would gain: the `gc` part of `settings`.

The time that collections take now is measured. What they would take is found by replaying the
recorded births and deaths of collected objects through CPython's own rule (a young collection
when births exceed deaths by the first threshold; every so many of one generation, the next older
one; the oldest only when a quarter of it is new), and pricing each object that is passed over:
at the program's own price, since that differs by ten times from program to program, by how much an
object refers to and where that lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.gain import Seconds
from poolwise.profile.recording import Summary
from poolwise.profile.sites import PAGE_BYTES, Site

SPREAD = 20_000  # so many lives stand for all
# How many times longer an object takes in a young collection of 50,000 than in one of 700: of ten
# programs (benchmarks/young_collections.py) the geometric mean and the range.
LARGE = Price(2.4, 1.4, 4.0)


@dataclass(slots=True)
class Replay:
    """What the collector would do, by generation: how often, and objects passed over."""

    collections: list[int]
    objects: list[float]
    garbage_bytes: float  # the most that waits for a collection, dead
    garbage_variance: float  # of this estimate, from the sampling


@dataclass(frozen=True, slots=True)
class Life:
    """A sampled block. `tracked`: the collector passes it over; `cyclic`: it needs it to die.

    `sampled`: the weight of the sample that this is a part of, 0 for all of it.
    """

    birth_ns: int
    death_ns: int | None
    weight: float
    size: int
    tracked: bool
    cyclic: bool
    collections: int = 0  # those that happened while it was alive
    sampled: float = 0.0

    @property
    def variance(self) -> float:
        """Of the bytes that it stands for: it was sampled with probability 1/weight."""
        return self.weight * ((self.sampled or self.weight) - 1) * self.size**2


def replay(lives: Sequence[Life], thresholds: Sequence[int]) -> Replay:
    """Run CPython's generational rule over the lives of blocks.

    A block that was freed by the collector is dead from then on at the latest, and stays until the
    replayed collector comes to its generation.
    """
    events = [(life.birth_ns, 1, n) for n, life in enumerate(lives)]
    events += [(life.death_ns, -1, n) for n, life in enumerate(lives) if life.death_ns is not None]
    result = Replay([0, 0, 0], [0.0, 0.0, 0.0], 0.0, 0.0)
    generations: list[set[int]] = [set(), set(), set()]
    where: dict[int, int] = {}
    dead: list[set[int]] = [set(), set(), set()]
    garbage = variance = count = pending = long_lived = 0.0
    older = [0, 0]
    for _, sign, number in sorted(events):
        life = lives[number]
        if sign < 0:
            generation = where[number]
            if life.cyclic:
                dead[generation].add(number)
                garbage += life.weight * life.size
                variance += life.variance
                if garbage > result.garbage_bytes:
                    result.garbage_bytes, result.garbage_variance = garbage, variance
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
            variance -= sum(lives[n].variance for n in freed)
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


def spread(lives: Sequence[Life]) -> list[Life]:
    """The same lives with less weight in one: each comes as many, evenly up to its neighbours.

    A sample that stands for thousands sets off a collection by its birth alone, and its death is no
    help any more: single steps must be small beside a threshold.
    """
    ordered = sorted(lives, key=lambda life: life.birth_ns)
    unit = max(1.0, sum(life.weight for life in ordered) / SPREAD)
    births = [life.birth_ns for life in ordered]
    before, after = [*births[:1], *births[:-1]], [*births[1:], *births[-1:]]
    result = []
    for life, earlier, later in zip(ordered, before, after, strict=True):
        parts = math.ceil(life.weight / unit)
        if parts == 1:
            result.append(life)
            continue
        for part in range(parts):
            # From half-way to the sample before to half-way to the one behind.
            at = (earlier + life.birth_ns) // 2 + (later - earlier) * (2 * part + 1) // (4 * parts)
            death_ns = None if life.death_ns is None else life.death_ns + at - life.birth_ns
            result.append(
                replace(
                    life,
                    birth_ns=at,
                    death_ns=death_ns,
                    weight=life.weight / parts,
                    sampled=life.weight,
                )
            )
    return result


def saved(
    summary: Summary,
    sites: Sequence[Site],
    prices: Calibration,
    thresholds: Sequence[int],
    current: Sequence[int],
) -> tuple[Seconds, int]:
    """What `thresholds` would save over the `current` ones, and the bytes of garbage they keep.

    It is negative only where the garbage that waits longer takes more pages than now: fewer
    collections cost nothing by themselves.
    """
    measured = sum(summary.collection_seconds)
    if measured == 0 or current[0] == 0 or current[0] >= thresholds[0]:
        return Seconds(), 0
    lives = list(_lives(sites))
    whole = spread(lives)
    now, expected = replay(whole, current), replay(whole, thresholds)
    cost = Seconds()
    passing, freeing = _own_prices(summary, lives, prices, current)
    cost.add(1.0, passing, units=sum(expected.objects))
    # Garbage is found and freed later, but all of it.
    cost.add(1.0, freeing, units=sum(summary.collected))
    # What is measured is sure; what would be left is not, and is hardly more than now.
    left = Seconds(min(cost.value, measured), min(cost.low, measured), min(cost.high, measured))
    # Memory that is not used again so soon has to come from the kernel, once.
    faults, page = Seconds(), prices.fault(1 << 20)
    more = max(0.0, expected.garbage_bytes - now.garbage_bytes)
    faults.add(1.0, page, units=more / PAGE_BYTES)
    faults.variance = expected.garbage_variance * (page.value / PAGE_BYTES) ** 2
    return Seconds(measured, measured, measured) - left - faults, int(expected.garbage_bytes)


def _own_prices(
    summary: Summary, lives: Sequence[Life], prices: Calibration, current: Sequence[int]
) -> tuple[Price, Price]:
    """What this program's collector takes to pass over an object, and to find and free one.

    What a young collection takes is measured, by its objects at most; of tens of thousands, which
    the caches hold no more, each takes so many times as long as LARGE says, but no longer than in a
    full collection, over all that was alive at the average one.
    What has waited for the collector is cold. That freeing one takes so many times as long as
    passing one over is what the calibration knows.
    """
    young, full, freeing = prices.gc_object(), prices.gc_object(full=True), prices.gc_garbage
    young_count, _, full_count = summary.collections
    young_seconds, _, full_seconds = summary.collection_seconds
    young_found, _, full_found = summary.collected
    times = freeing.value / full.value
    alive = sum(life.weight * life.collections for life in lives if life.tracked)
    passed = full_count * alive / max(1, sum(summary.collections))
    if passed == 0:
        between = (young.value * full.value) ** 0.5
        return Price(between, young.low, full.high), freeing
    cold = max(full_seconds / (passed + times * full_found), young.value)
    most = young_count * (current[0] + 1.0) + times * young_found
    warm = min(max(young_seconds / max(most, 1.0), young.low), cold)
    passing = Price(*(min(more * warm, cold) for more in (LARGE.value, LARGE.low, LARGE.high)))
    return passing, Price(cold, max(cold / 2, passing.value), cold) * times


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
                    sample.life_collections,
                )
