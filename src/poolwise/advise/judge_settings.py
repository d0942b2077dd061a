"""The verdict on the whole program: what malloc's settings and the collector's would gain."""

from __future__ import annotations

from poolwise.advise import collector
from poolwise.advise.case import Case, held_bytes, longer
from poolwise.advise.gain import Seconds
from poolwise.advise.verdicts import (
    DONT,
    RECORD_LONGER,
    SETTINGS,
    WORTH_SETTINGS,
    Verdict,
    size_text,
)
from poolwise.profile.sites import LARGE_BYTES, PAGE_BYTES
from poolwise.program import settings


def settings_verdict(case: Case, glibc: bool) -> Verdict:
    malloc, held_bytes, saved_pages = _malloc_gain(case) if glibc else (Seconds(), 0, 0.0)
    case.malloc = malloc
    gc, garbage_bytes = collector.saved(
        case.summary, case.sites, case.prices, settings.GC, case.recording.thresholds
    )
    parts = {"malloc": malloc, "gc": gc}
    paying = {
        name: seconds
        for name, seconds in parts.items()
        if seconds.value >= WORTH_SETTINGS * case.cpu_seconds
        and seconds.gain(case.cpu_seconds).low > 0
    }
    gain = sum((paying or parts).values(), Seconds()).gain(case.cpu_seconds)

    def verdict(word: str, reason: str, code: str = "") -> Verdict:
        return Verdict(
            verdict=word,
            site=None,
            gain=gain,
            memory_bytes=("malloc" in paying) * held_bytes + ("gc" in paying) * garbage_bytes,
            capacity=0,
            reason=reason,
            code=code,
        )

    if gain.wants_more:
        return verdict(RECORD_LONGER, longer(case, gain))
    collecting = sum(case.summary.collection_seconds)
    if not paying:
        return verdict(
            DONT,
            f"malloc keeps what it has ({saved_pages:,.0f} avoidable page faults) and the garbage "
            f"collector takes {100 * collecting / case.cpu_seconds:.1f} % of the time",
        )
    reasons = []
    if "malloc" in paying:
        reasons.append(
            f"{saved_pages:,.0f} pages are handed back to the kernel by malloc and taken again "
            f"({malloc.gain(case.cpu_seconds)})"
        )
    if "gc" in paying:
        reasons.append(
            f"the garbage collector takes {collecting:.2f} s to find "
            f"{sum(case.summary.collected):,} objects ({gc.gain(case.cpu_seconds)})"
            + (
                f", and would leave up to {size_text(garbage_bytes)} of garbage"
                if garbage_bytes
                else ""
            )
        )
    remedy = SETTINGS if len(paying) == 2 else f"{SETTINGS}:{next(iter(paying))}"
    return verdict(SETTINGS, "; ".join(reasons), f"poolwise run --with {remedy} {case.words}")


def _malloc_gain(case: Case) -> tuple[Seconds, int, float]:
    """What malloc's settings save, bytes that stay held, pages not faulted any more."""
    cost, zeroing = Seconds(), Seconds()
    pages = 0.0
    blocks = [site for site in case.sites if site.kind != "construction"]
    for site in blocks:
        for sample in site.samples:
            if not LARGE_BYTES <= sample.size < case.limit(sample):
                continue
            if sample.touched_pages:
                cost.add(sample.weight, case.fault(sample, site.kind), units=sample.touched_pages)
                pages += sample.weight * sample.touched_pages
            case.add_zeroing(zeroing, sample)
    # Sampling may find more pages than there were faults in all; nothing can save more than those.
    if case.huge_share == 0 and pages > case.block_faults:
        cost, pages = cost * (case.block_faults / pages), case.block_faults
    peak = min(held_bytes(case, blocks), case.summary.peak_bytes)
    # The heap still grows to the most that is alive at once, each page of it faulted once.
    case.kept_share = min(1.0, peak / PAGE_BYTES / pages) if pages else 0.0
    return cost * (1 - case.kept_share) - zeroing, int(peak), pages * (1 - case.kept_share)
