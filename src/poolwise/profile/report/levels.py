"""How much is alive over time: the mean over each of some hundreds of equal intervals."""

from __future__ import annotations

from itertools import accumulate

from poolwise.profile.sites import Site

INTERVALS = 240


class Level:
    """Objects and bytes alive. A change is seen in part by the interval that it falls into, and in
    full by all after it, so that a change costs O(1) however long the rest is.

    >>> level = Level(0, 100, intervals=4)
    >>> level.change(25, 2, 200)  # two are born as the second interval begins
    >>> level.change(60, -1, -100)  # one dies in the third, after 10 of its 25
    >>> [round(mean, 2) for mean in level.objects()]
    [0.0, 2.0, 1.4, 1.0]
    """

    def __init__(self, start_ns: int, end_ns: int, intervals: int = INTERVALS) -> None:
        self.start_ns = start_ns
        self.per_ns = intervals / max(end_ns - start_ns, 1)
        self.last = intervals - 1
        self._objects = [0.0] * (intervals + 1), [0.0] * (intervals + 1)
        self._bytes = [0.0] * (intervals + 1), [0.0] * (intervals + 1)

    def change(self, time_ns: int, objects: float, size: float) -> None:
        """At this time so many more are alive, of so many bytes in all."""
        at = (time_ns - self.start_ns) * self.per_ns
        interval = min(int(at), self.last)
        part = 1 - at + interval
        self._objects[0][interval] += objects * part
        self._objects[1][interval + 1] += objects
        self._bytes[0][interval] += size * part
        self._bytes[1][interval + 1] += size

    def add(self, site: Site) -> None:
        """All that a site's samples stand for."""
        for sample in site.samples:
            weight, size = sample.weight, sample.weight * sample.size
            self.change(sample.birth_ns, weight, size)
            if sample.death_ns is not None:
                self.change(sample.death_ns, -weight, -size)

    def join(self, other: Level) -> None:
        """What another level of the same time holds is alive, too."""
        for own, others in ((self._objects, other._objects), (self._bytes, other._bytes)):
            for into, values in zip(own, others, strict=True):
                into[:] = map(float.__add__, into, values)

    def objects(self) -> list[float]:
        """The mean number alive, by interval."""
        return self._means(*self._objects)

    def bytes(self) -> list[float]:
        """The mean number of bytes held, by interval."""
        return self._means(*self._bytes)

    def _means(self, part: list[float], full: list[float]) -> list[float]:
        # Sums of what was added and taken again may miss 0 by their rounding.
        return [max(0.0, a + b) for a, b in zip(part[:-1], accumulate(full[:-1]), strict=True)]
