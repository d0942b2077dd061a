"""What a pool says of itself: every counter and level, frozen at the moment of `stats()`."""

from __future__ import annotations

from dataclasses import dataclass, field


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counters of a `Pool` since it was made, and its levels now; counts of objects.

    `gets` = `hits` + `misses`. The `dropped_*` counters say why an object left the pool for good;
    only `dropped_trimmed` are evictions.

    >>> import poolwise
    >>> pool = poolwise.Pool(list)
    >>> pool.put(pool.get())
    >>> pool.stats().idle
    1
    """

    name: str
    gets: int
    hits: int
    """Gets that an idle object served."""
    misses: int
    """Gets that called the factory."""
    puts: int
    """Objects put, whether kept or dropped."""
    high_water: int
    """The most that were out at once, or put while somebody still held them. Objects that were
    never put back count as out."""
    idle_private: int
    """Idle in the private part, two deep."""
    idle_shared: int
    """Idle in the shared queue."""
    held: int
    """Put, but found in the hands of somebody else: looked at again before a miss and at trims."""
    pinned: int
    """Idle or held, and at the last trim still referenced by somebody."""
    trims: int
    dropped_trimmed: int
    """Evictions: nobody had needed them since the trim before."""
    dropped_cleared: int
    dropped_full: int
    """Put while `max_idle` were idle."""
    dropped_rejected: int
    """`reset` returned False."""
    dropped_failed: int
    """`reset` raised."""
    dropped_abandoned: int
    """Their lease was entered and never left."""
    dropped_pinned: int
    """Pinned for three trims, or when too many were held."""
    pinned_types: dict[str, int] = field(default_factory=dict)
    """Class name to how many of `dropped_pinned` were of it."""

    @property
    def idle(self) -> int:
        """Idle in all."""
        return self.idle_private + self.idle_shared

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
class BufferPoolStats:
    """Counters of a `BufferPool` since it was made, and its levels now; counts of blocks.

    `gets` = `hits` + `misses`, and a fallback is a miss. `idle_bytes` + `out_bytes` never exceed
    `max_bytes`; `fallback_bytes` stand beside it.

    >>> import poolwise
    >>> buffers = poolwise.BufferPool(max_size=4096, max_bytes=65536)
    >>> buffers.acquire(1000).release()
    >>> buffers.stats().idle_bytes
    1024
    """

    name: str
    gets: int
    hits: int
    """Acquires that an idle block served."""
    misses: int
    """Acquires that took fresh memory."""
    fallbacks: int
    """Misses that the pool may not hold, for one of the two reasons that follow."""
    fallbacks_too_big: int
    """Larger than `max_size`."""
    fallbacks_over_budget: int
    """`max_bytes` were out, or idle in blocks that could not make room."""
    out: int
    """Blocks that a buffer has, fallbacks included."""
    high_water: int
    """No more than these were out at once: the sum of what each size class had out at most."""
    idle: int
    idle_bytes: int
    """Capacity of the idle blocks: resident, if ever written."""
    out_bytes: int
    """Capacity of the blocks out, without fallbacks."""
    fallback_bytes: int
    """Capacity of the fallbacks out."""
    max_bytes: int
    """The limit of `idle_bytes` + `out_bytes`."""
    trims: int
    trimmed: int
    """Evictions: blocks whose memory went back to the kernel."""

    @property
    def hit_rate(self) -> float:
        """Hits per get, 0 to 1; 0 before the first get."""
        return _ratio(self.hits, self.gets)

    @property
    def evict_ratio(self) -> float:
        """Evictions per get; 0 before the first get."""
        return _ratio(self.trimmed, self.gets)

    @property
    def alloc_fallback_rate(self) -> float:
        """Fallbacks per get; 0 before the first get."""
        return _ratio(self.fallbacks, self.gets)
