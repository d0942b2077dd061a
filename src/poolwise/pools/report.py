"""What a pool says of itself: every counter and level, frozen at the moment of `stats()`."""

from __future__ import annotations

from dataclasses import dataclass, field


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counters of a `Pool` since it was made, and its levels now; counts of objects.

    `gets` = `hits` + `misses`. The `dropped_*` counters say why an object left the pool for good;
    only `dropped_trimmed` are evictions. While other threads work without the GIL, the figures
    are those of moments close to each other.

    >>> import poolwise
    >>> pool = poolwise.Pool(list)
    >>> pool.put(pool.get())
    >>> pool.stats().idle
    1
    """

    name: str
    gets: int
    hits_private: int
    """Gets served by the two objects that the calling thread put last."""
    hits_shared: int
    """Gets served by the calling thread's own queue."""
    hits_stolen: int
    """Gets served by another thread's queue; 0 with the GIL."""
    hits_depot: int
    """Gets served by what belongs to no thread: trims and dead threads leave it there."""
    hits_held: int
    """Gets served by what had been put while somebody held it."""
    hits_victim: int
    """Gets served by the victim cache, which the next trim would have dropped."""
    misses_empty: int
    """Gets that called the factory since nothing was idle."""
    misses_held: int
    """Gets that called the factory since all they looked at was in the hands of somebody."""
    puts: int
    """Objects put, whether kept or dropped."""
    high_water: int
    """The most that were out at once, or put while somebody still held them. Objects that were
    never put back count as out."""
    idle_private: int
    """Idle in the private parts, each two deep."""
    idle_shared: int
    """Idle in the shared queues."""
    idle_depot: int
    idle_victim: int
    held: int
    """Put, but found in the hands of somebody else: looked at again before a miss and at trims."""
    pinned: int
    """Held at the last trim."""
    regret: int
    """Made anew after a trim that had dropped one, before the next trim: it dropped too much."""
    waste: int
    """Objects that were idle from one trim to the next, summed over the trims: too few were
    dropped."""
    dropped_cleared: int
    dropped_full: int
    """Put while `max_idle` were idle."""
    dropped_rejected: int
    """`reset` returned False."""
    dropped_failed: int
    """`reset`, or a check at `get`, raised; or there was no memory to keep them."""
    dropped_abandoned: int
    """Their lease was entered and never left."""
    dropped_unlucky: int
    """Dropped at random by `checks="strict"`."""
    dropped_pinned: int
    """Held for three trims, or while too many others were held."""
    trims_by_reason: dict[str, int]
    """Trims by what called for them: `call`, `timer`, `collection`, `pressure`."""
    evictions_by_reason: dict[str, int]
    """Objects dropped by the trims of each reason."""
    pinned_types: dict[str, int] = field(default_factory=dict)
    """Class name to how many of `dropped_pinned` were of it."""

    @property
    def hits(self) -> int:
        """Gets that an idle object served."""
        return (
            self.hits_private
            + self.hits_shared
            + self.hits_stolen
            + self.hits_depot
            + self.hits_held
            + self.hits_victim
        )

    @property
    def misses(self) -> int:
        """Gets that called the factory."""
        return self.misses_empty + self.misses_held

    @property
    def trims(self) -> int:
        """Trims, whatever called for them."""
        return sum(self.trims_by_reason.values())

    @property
    def dropped_trimmed(self) -> int:
        """Evictions: objects dropped by trims."""
        return sum(self.evictions_by_reason.values())

    @property
    def idle(self) -> int:
        """Idle in all."""
        return self.idle_private + self.idle_shared + self.idle_depot + self.idle_victim

    @property
    def out(self) -> int:
        """Got and not put back; an estimate as `high_water` is."""
        return self.gets - self.puts - self.dropped_abandoned

    @property
    def hit_rate(self) -> float:
        """Hits per get, 0 to 1; 0 before the first get."""
        return _ratio(self.hits, self.gets)

    @property
    def evict_ratio(self) -> float:
        """Evictions per get; 0 before the first get."""
        return _ratio(self.dropped_trimmed, self.gets)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStats:
    """The part of a `Pool` that one thread owns; with the GIL, the one part there is.

    >>> import poolwise
    >>> pool = poolwise.Pool(list)
    >>> pool.put(pool.get())
    >>> [local.idle for local in pool.locals()]
    [1]
    """

    owned: bool
    """False: its thread has ended, and the next new thread takes it over."""
    idle_private: int
    idle_shared: int
    hits_private: int
    hits_shared: int
    hits_stolen: int
    """What its thread stole from others."""

    @property
    def idle(self) -> int:
        """Idle in it."""
        return self.idle_private + self.idle_shared
