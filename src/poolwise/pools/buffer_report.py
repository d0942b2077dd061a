"""What a buffer pool says of itself: every counter and level, frozen at the moment of `stats()`."""

from __future__ import annotations

from dataclasses import dataclass


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferClassStats:
    """One size class of a `BufferPool`: its blocks, and how much of them is used.

    A pool learns the use of a lease only from who sets `Buffer.used`: the sums count these leases
    alone. It cannot do better by itself: who asks for n bytes gets n bytes.

    >>> import poolwise
    >>> buffers = poolwise.BufferPool(max_size=4096, max_bytes=65536)
    >>> with buffers.acquire(4000) as buffer:
    ...     buffer.used = 1000
    >>> [one.used_ratio for one in buffers.stats().classes]
    [0.25]
    """

    capacity: int
    """Bytes of each block."""
    out: int
    idle: int
    high_water: int
    """The most that were out at once."""
    leases_told: int
    """Leases whose `used` was set."""
    asked_bytes: int
    """Bytes that these asked for."""
    used_bytes: int
    """Bytes that these used."""
    badly_used: bool
    """Each of the last 8 of these used less than half: ask for less, or look at `fit_classes`."""

    @property
    def used_ratio(self) -> float:
        """Bytes used per byte asked for, 0 to 1; 1 where nothing was told."""
        return _ratio(self.used_bytes, self.asked_bytes) if self.asked_bytes else 1.0


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
    waits: int
    """Acquires that waited for a release (`when_full="wait"`)."""
    refused: int
    """Acquires that raised `OutOfMemory` since the pool was full."""
    corrupted: int
    """Blocks written to while nobody had them (`checks`): once each time that was seen."""
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
    trims_by_reason: dict[str, int]
    """Trims by what called for them: `call`, `timer`, `collection`, `pressure`."""
    trimmed: int
    """Evictions: blocks whose memory went back to the kernel."""
    classes: tuple[BufferClassStats, ...]
    """The size classes that were ever used, by capacity."""

    @property
    def trims(self) -> int:
        """Trims, whatever called for them."""
        return sum(self.trims_by_reason.values())

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
