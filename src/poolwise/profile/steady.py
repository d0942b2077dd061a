"""Assert that a loop has come to a steady state: no page faults, no large allocations any more.

A loop that reuses its memory needs none from the kernel once it is warm. Page faults are counted by
the kernel, for all threads of the process; allocations are sampled so closely that no block of
`LARGE_BYTES` and more is missed.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from poolwise.errors import PoolwiseError, UsageError
from poolwise.profile import child, recording, sites
from poolwise.profile.sites import LARGE_BYTES, Site

MEAN_BYTES = 8192.0  # 34 times in a block of LARGE_BYTES, by its span: one is missed in 10**14
NAMED = 5


class NotSteady(PoolwiseError, AssertionError):
    """A loop still took memory from the kernel, or large blocks, after its warm-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many rounds, and what all rounds after the warm-up may take together.

    Raises:
        UsageError: one of them is no whole number, or below 0; or there is no round.
    """

    rounds: int = 20
    warmup: int = 5
    max_faults: int = 0
    max_large: int = 0

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("warmup", 0), ("max_faults", 0), ("max_large", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise UsageError(f"steady: {name}={value!r}: give a whole number, {least} or more")


def page_faults() -> int:
    """How many page faults this process has had."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


own_faults = 0  # those of `page_faults` that poolwise itself made between rounds and tests


@contextmanager
def own() -> Iterator[None]:
    """Count the page faults of this block as poolwise's own."""
    global own_faults
    before = page_faults()
    try:
        yield
    finally:
        own_faults += page_faults() - before


def rounds(limits: Limits, directory: str) -> Iterator[int]:
    """Count rounds; after the last, raise unless those after the warm-up were steady.

    A loop that is left early is not judged. The recording stays in `directory`.

    Raises:
        NotSteady: more page faults or large allocations than the limits allow.
        UsageError: this process is being recorded already.
    """
    __tracebackhide__ = True  # for pytest: the loop is what is of interest
    with own():
        _start(directory)
    try:
        for number in range(limits.warmup):
            yield number
            page_faults()
        began_ns, before = time.monotonic_ns(), page_faults()
        for number in range(limits.rounds):
            yield limits.warmup + number
        faults, ended_ns = page_faults() - before, time.monotonic_ns()
    finally:
        with own():
            child.stop()
    with own():
        found = _Found(recording.read(directory), faults, began_ns, ended_ns)
        if faults > limits.max_faults or found.large > limits.max_large:
            raise NotSteady(found.text(limits))


def _start(directory: str) -> None:
    # Twice: the first recording of a process faults in the sampler's own code, to its end.
    for name in ("first", ""):
        path = os.path.join(directory, name)
        os.makedirs(path, exist_ok=True)
        try:
            child.start({"dir": path, "mean_bytes": MEAN_BYTES, "per_second": 1e9})
        except RuntimeError as error:
            if isinstance(error, PoolwiseError):
                raise
            raise UsageError(
                "steady: this process is being recorded already; one recording at a time"
            ) from None
        if name:
            child.stop()


class _Found:
    """What happened between two moments."""

    def __init__(self, log: recording.Recording, faults: int, began: int, ended: int) -> None:
        self.faults = faults
        self.sites: list[Site] = []
        for site in sites.find(log):
            if site.kind != "construction":
                site.samples = [s for s in site.samples if began <= s.birth_ns <= ended]
                self.sites.append(site)
        self.of_large = [(site, site.large()) for site in self.sites]
        self.large = round(sum(large.count for _, large in self.of_large))

    def text(self, limits: Limits) -> str:
        """What was found, and the sites that did it."""
        lines = [
            f"not steady: {_number(self.faults, 'page fault')} and "
            f"{_number(self.large, 'large allocation')} in {_number(limits.rounds, 'round')} after "
            f"{limits.warmup} of warm-up ({limits.max_faults} and {limits.max_large} are allowed)"
        ]
        large = sorted(
            (pair for pair in self.of_large if pair[1].samples), key=lambda pair: -pair[1].bytes
        )
        if large:
            lines.append(f"large allocations ({LARGE_BYTES // 1024} KiB and more):")
            for site, part in large[:NAMED]:
                lines.append(
                    f"  {part.count:,.0f} of {part.size_quantile(0.5):,} bytes, "
                    f"{_number(round(part.touched_pages), 'page fault')}: {_where(site)}"
                )
        others = self.faults - round(sum(part.touched_pages for _, part in large))
        if others > 0:
            lines.append(f"page faults not seen in large blocks: {others:,}")
            kept = [(sum(s.weight * s.size for s in site.samples if s.death_ns is None
                         and s.size < LARGE_BYTES), site) for site in self.sites]  # fmt: skip
            kept = sorted((pair for pair in kept if pair[0]), key=lambda pair: -pair[0])
            if kept:
                lines.append("small objects that were made and kept, so that the heap grew:")
            for size, site in kept[:NAMED]:
                lines.append(f"  about {size:,.0f} bytes: {_where(site)}")
        return "\n".join(lines)


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _where(site: Site) -> str:
    made = f" ({site.type})" if site.type else ""
    through = f" through {site.library}()" if site.library else ""
    return f"{site.function}, {site.file}:{site.position.line}: {site.expression}{made}{through}"
