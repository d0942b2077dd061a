"""One recording with its prices: what each sampled block costs, and what reuse could keep of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.gain import Gain, Seconds
from poolwise.advise.verdicts import Bounds
from poolwise.profile.recording import Recording, Summary
from poolwise.profile.sites import LARGE_BYTES, PAGE_BYTES, Sample, Site
from poolwise.program import settings

ARENA_BYTES = 64 << 20  # blocks above are always mapped on other threads than the main one
HUGE_BYTES = 4 << 20  # numpy asks for huge pages from this size
START_UP_FAULTS = 3000  # code, stacks, small objects
KEPT_BYTES = dict(settings.MALLOC)[settings.M_MMAP_THRESHOLD]
MAIN_THREAD = 1  # the sampler numbers threads as they come


@dataclass(slots=True)
class Case:
    """One recording being judged."""

    recording: Recording
    summary: Summary
    sites: Sequence[Site]
    prices: Calibration
    cpu_seconds: float
    page_faults: int
    words: str
    cool_down: float
    notes: list[str] = field(default_factory=list)
    fault_prices: dict[tuple[int, bool], Price] = field(default_factory=dict)
    huge_share: float = 0.0  # of the pages in blocks that may be huge, those that are
    malloc: Seconds = field(default_factory=Seconds)  # what malloc's settings save
    kept_share: float = 0.0  # of the large blocks' faults, that malloc's settings leave

    @property
    def block_faults(self) -> float:
        """The most faults that blocks can have had: beside them is about what a start-up takes."""
        return max(0.0, self.page_faults - START_UP_FAULTS)

    def fault(self, sample: Sample, kind: str) -> Price:
        """What a page costs that this block takes from the kernel."""
        shift = max(sample.size.bit_length() - 4, 0)
        key = sample.size >> shift << shift, self.may_be_huge(sample, kind)
        if key not in self.fault_prices:
            price = self.prices.fault(key[0])
            if key[1]:
                inside, share = self.prices.huge_page(key[0]), self.huge_share
                price = inside * share + price * (1 - share)
            self.fault_prices[key] = price
        return self.fault_prices[key]

    def may_be_huge(self, sample: Sample, kind: str) -> bool:
        """Whether the kernel was asked to back this block with huge pages."""
        if sample.size < HUGE_BYTES:
            return False
        setting = self.prices.machine["huge_pages"]
        return setting == "always" or (setting == "madvise" and kind == "array")

    def limit(self, sample: Sample) -> int:
        """The size from which malloc's settings cannot keep this block."""
        return KEPT_BYTES if sample.thread == MAIN_THREAD else min(KEPT_BYTES, ARENA_BYTES)

    def faults(self, site: Site, *, kept_by_settings: bool = False) -> Seconds:
        """What the page faults of a site cost; of those blocks only that settings would keep."""
        cost = Seconds()
        for sample in site.samples:
            if sample.touched_pages and not (
                kept_by_settings and sample.size >= self.limit(sample)
            ):
                cost.add(sample.weight, self.fault(sample, site.kind), units=sample.touched_pages)
        return cost

    def add_zeroing(self, cost: Seconds, sample: Sample) -> None:
        """Fresh pages are zero; a block from calloc used again has to be made so, all of it."""
        if sample.zeroed and sample.nonresident_pages:
            cost.add(sample.weight, self.prices.zero(sample.nonresident_pages * PAGE_BYTES))


def huge_share(case: Case) -> float:
    """How many of the pages that may be huge are, from the number of faults there were in all.

    A small page makes a fault each, a huge one brings 512 in one.
    """
    small = large = 0.0
    for site in case.sites:
        for sample in site.samples:
            touched = sample.weight * sample.touched_pages
            if case.may_be_huge(sample, site.kind):
                large += touched
            else:
                small += touched
    if large == 0:
        return 0.0
    faults = max(0.0, case.block_faults - small)
    return min(1.0, max(0.0, (large - faults) / (large * 511 / 512)))


def longer(case: Case, gain: Gain) -> str:
    times = (2 * gain.sampling / gain.allowed) ** 2
    more = max(1.0, case.summary.seconds * (times - 1))
    return (
        f"the gain is between {100 * gain.low:.0f} % and {100 * gain.high:.0f} %: record about "
        f"{more:.0f} s more, with more of the same to do"
    )


def held_bytes(case: Case, sites: Sequence[Site]) -> float:
    """The most bytes in large blocks, those that settings can keep, that were alive at once."""
    levels: list[tuple[int, float]] = []
    for site in sites:
        for sample in site.samples:
            if LARGE_BYTES <= sample.size < case.limit(sample):
                levels.append((sample.birth_ns, sample.weight * sample.size))
                if sample.death_ns is not None:
                    levels.append((sample.death_ns, -sample.weight * sample.size))
    peak = held = 0.0
    for _, change in sorted(levels):
        held += change
        peak = max(peak, held)
    return peak


def bounds(case: Case, site: Site, capacity: int) -> Bounds:
    lifetimes = site.lifetimes("ns", case.recording.end_ns)
    return Bounds(site.hit_bound(capacity), 1 - lifetimes.share_within(case.cool_down * 1e9))


def in_use(case: Case, site: Site) -> int:
    """How many objects of a site are in use at once."""
    return max(1, round(site.concurrency()) - site.is_rebound(case.recording))
