"""What a recording adds up to, by stack and label: the sums behind the pprof files.

All are Horvitz-Thompson estimates: sums over the samples, each times its weight. They are kept up
to date record by record, so that a program that is still running needs no room for its dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from poolwise.profile.recording import (
    ALIVE,
    COLLECTED,
    CONSTRUCTION,
    FREED,
    LOST,
    MARKER,
    THINNED,
    Birth,
    Death,
    Recording,
    first_weight,
)

SAME_THREAD, OTHER_THREAD, COLLECTOR = range(3)  # who freed it


class Key(NamedTuple):
    """What is added up together. Numbers are the lower ends of their buckets; -1: not known yet."""

    stack: int
    domain: int
    size: int  # bytes, a power of two
    type: int
    life_ns: int = -1  # 1, 2, 5, 10, …
    collections: int = -1  # 0, 1, 2, 5, 10, …
    freed_by: int = -1


Rows = dict[Key, tuple[float, ...]]


def heap_columns(sums: Sums) -> tuple[float, ...]:
    """alloc_objects, alloc_space, inuse_objects, inuse_space, as Go has them."""
    return sums.allocated, sums.allocated_bytes, sums.alive, sums.alive_bytes


def lifetime_columns(sums: Sums) -> tuple[float, ...]:
    """freed_objects, freed_space, censored_objects, censored_space, lifetime, heaptime_objects,
    heaptime_space; in nanoseconds, microseconds and byte-seconds.

    An int64 holds 292 object-years of nanoseconds: enough for what dies, not for all that lives.
    """
    return (
        *(sums.freed, sums.freed_bytes, sums.alive, sums.alive_bytes),
        *(sums.freed_ns, sums.object_ns / 1e3, sums.byte_ns / 1e9),
    )


@dataclass(slots=True)
class Sums:
    """Weighted sums over samples; `object_ns` and `byte_ns` count the time alive, so far."""

    allocated: float = 0.0
    allocated_bytes: float = 0.0
    alive: float = 0.0
    alive_bytes: float = 0.0
    freed: float = 0.0
    freed_bytes: float = 0.0
    freed_ns: float = 0.0
    object_ns: float = 0.0
    byte_ns: float = 0.0


@dataclass(slots=True)
class _Live:
    """A sample that is alive, as far as is known. `times`: doubled at each thinning."""

    birth: Birth
    weight: float
    size: int  # now
    type: int = 0
    times: int = 1


@dataclass(slots=True)
class Totals:
    """The sums so far. `end_ns`: the last moment known; `exact`: every allocation was sampled."""

    end_ns: int = 0
    exact: bool = True
    live: dict[int, _Live] = field(default_factory=dict)
    _ended: dict[Key, Sums] = field(default_factory=dict)
    _born: int = 0

    def add_births(self, births: Iterable[Birth]) -> None:
        """The next births of the log."""
        for number, birth in enumerate(births, self._born):
            self._born = number + 1
            if birth.domain != CONSTRUCTION:  # its memory is sampled by itself
                self.end_ns = max(self.end_ns, birth.time_ns)
                self.exact = self.exact and birth.weight == 1
                self.live[number] = live = _Live(birth, birth.weight, birth.size)
                self._allocate(live)

    def add_deaths(self, deaths: Iterable[Death]) -> None:
        """The next deaths of the log, thinning markers and looks at the living among them."""
        for death in deaths:
            if death.birth == MARKER:
                self._double()
                continue
            live = self.live.get(death.birth)
            if live is None:
                continue
            self._allocate(live, -1)
            if death.kind == THINNED:
                del self.live[death.birth]
                continue
            live.weight = first_weight(live.birth, death) * live.times
            live.size = death.size
            live.type = death.type or live.type
            self._allocate(live)
            self.end_ns = max(self.end_ns, death.time_ns)
            if death.kind != ALIVE:
                self._end(live, death)
                del self.live[death.birth]

    def _double(self) -> None:
        for live in self.live.values():
            self._allocate(live)  # once more
            live.times *= 2
            live.weight *= 2

    def _key(self, live: _Live) -> Key:
        size = 1 << live.size.bit_length() - 1 if live.size else 0
        return Key(live.birth.stack, live.birth.domain, size, live.type)

    def _sums(self, key: Key) -> Sums:
        sums = self._ended.get(key)
        if sums is None:
            sums = self._ended[key] = Sums()
        return sums

    def _allocate(self, live: _Live, sign: int = 1) -> None:
        sums = self._sums(self._key(live))
        sums.allocated += sign * live.weight
        sums.allocated_bytes += sign * live.weight * live.size

    def _end(self, live: _Live, death: Death) -> None:
        birth = live.birth
        life_ns = max(0, death.time_ns - birth.time_ns)
        key = self._key(live)
        if death.kind != LOST:
            survived = max(0, death.collections - birth.collections)
            by = SAME_THREAD if death.thread == birth.thread else OTHER_THREAD
            by = COLLECTOR if death.kind == COLLECTED else by
            key = key._replace(life_ns=step(life_ns), collections=step(survived), freed_by=by)
        sums = self._sums(key)
        if death.kind != LOST:
            sums.freed += live.weight
            sums.freed_bytes += live.weight * live.size
            sums.freed_ns += live.weight * life_ns
        sums.object_ns += live.weight * life_ns
        sums.byte_ns += live.weight * life_ns * live.size

    def rows(self, columns: Callable[[Sums], tuple[float, ...]]) -> Rows:
        """The sums at `end_ns`, as the columns of a profile; without rows of zeros."""
        living: dict[Key, Sums] = {}
        for live in self.live.values():
            key = self._key(live)
            sums = living.get(key)
            if sums is None:
                sums = living[key] = Sums()
            life_ns = max(0, self.end_ns - live.birth.time_ns)
            sums.alive += live.weight
            sums.alive_bytes += live.weight * live.size
            sums.object_ns += live.weight * life_ns
            sums.byte_ns += live.weight * life_ns * live.size
        rows: Rows = {key: columns(sums) for key, sums in self._ended.items()}
        for key, sums in living.items():
            values = columns(sums)
            rows[key] = tuple(map(sum, zip(rows[key], values, strict=True)))
        return {key: values for key, values in rows.items() if any(values)}

    def period(self, recording: Recording) -> int:
        """Mean bytes between samples, as they are now; 1 where every allocation is one."""
        return 1 if self.exact or recording.summary is None else round(recording.summary.rate)


def of(recording: Recording) -> Totals:
    """The sums of a whole recording."""
    totals = Totals()
    for number, birth in enumerate(recording.births):
        death = recording.deaths.get(number)
        if birth.domain == CONSTRUCTION or (death is not None and death.kind == THINNED):
            continue
        weight = recording.weight(number)
        size, type_ = (birth.size, 0) if death is None else (death.size, death.type)
        live = _Live(birth, weight, size, type_)
        totals.exact = totals.exact and birth.weight == 1
        totals._allocate(live)
        if death is not None and death.kind in (FREED, COLLECTED, LOST):
            totals._end(live, death)
        else:
            totals.live[number] = live
    totals.end_ns = recording.end_ns
    return totals


def difference(new: Rows, old: Rows) -> Rows:
    """What came between two looks, row by row. Objects in use may have become fewer: negative."""
    zeros = next(iter([*new.values(), *old.values()]), ())
    zeros = tuple(0.0 for _ in zeros)
    rows = {
        key: tuple(a - b for a, b in zip(new.get(key, zeros), old.get(key, zeros), strict=True))
        for key in {**old, **new}
    }
    return {key: values for key, values in rows.items() if any(values)}


def step(number: int) -> int:
    """The largest of 0, 1, 2, 5, 10, 20, 50, … that is not above a number.

    >>> [step(n) for n in (0, 1, 4, 5, 9, 10, 1999)]
    [0, 1, 2, 5, 5, 10, 1000]
    """
    if number < 1:
        return 0
    decade: int = 10 ** (len(str(number)) - 1)
    lead = number // decade
    return decade * (5 if lead >= 5 else 2 if lead >= 2 else 1)
