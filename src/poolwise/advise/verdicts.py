"""What the advisor can say: its verdicts, and the words it says them in."""

from __future__ import annotations

from dataclasses import dataclass

from poolwise.advise.gain import Gain
from poolwise.profile.life import Life
from poolwise.profile.sites import Site

DONT, SETTINGS, PREALLOCATE = "don't", "settings", "preallocate"
BUFFER_POOL, POOL, RECORD_LONGER = "buffer pool", "pool", "record longer"

WORTH = 0.01  # of the CPU time: below, no change of code is named
WORTH_SETTINGS = 0.03  # a setting is one line, but it changes the whole program


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the report. `site` and `life` are None for the whole program."""

    verdict: str
    site: Site | None
    gain: Gain
    memory_bytes: int
    capacity: int
    reason: str
    code: str
    bounds: Bounds | None = None
    life: Life | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What reuse could reach at a site at best; printed, never the ground of a verdict.

    hit: the hit rate of a pool of the verdict's capacity on the recording. reuse: R_max, the share
    of objects that live longer than the cool-down, what getting and putting one costs.
    """

    hit: float
    reuse: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """All verdicts, sorted by gain, and what else is worth saying."""

    verdicts: list[Verdict]
    notes: list[str]
    cpu_seconds: float
    page_faults: int


def size_text(count: float) -> str:
    """Bytes as people read them: "12 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def time_text(ns: float) -> str:
    """Nanoseconds as people read them: "3 µs"."""
    for limit, unit, size in ((1e3, "ns", 1.0), (1e6, "µs", 1e3), (1e9, "ms", 1e6)):
        if ns < limit:
            return f"{ns / size:.0f} {unit}"
    return f"{ns / 1e9:.1f} s"
