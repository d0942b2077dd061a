"""The verdict on a place's large blocks: `preallocate`, `buffer pool`, or `don't`."""

from __future__ import annotations

from poolwise.advise.case import Case, bounds, held_bytes, in_use, longer
from poolwise.advise.forms import form_of, makes_size
from poolwise.advise.gain import Seconds
from poolwise.advise.verdicts import (
    BUFFER_POOL,
    DONT,
    PREALLOCATE,
    RECORD_LONGER,
    WORTH,
    WORTH_SETTINGS,
    Verdict,
    size_text,
)
from poolwise.profile.sites import PAGE_BYTES, Site


def buffer_verdict(case: Case, everything: Site) -> Verdict | None:
    """The verdict on a site's large blocks; None if they cost too little for a line."""
    site = everything.large()
    if not site.samples:
        return None
    first_touch = held_bytes(case, [site]) / PAGE_BYTES / max(site.touched_pages, 1.0)
    rezeroing = Seconds()
    for sample in site.samples:
        case.add_zeroing(rezeroing, sample)
    kept = 1 - min(1.0, first_touch)
    cost = case.faults(site) * kept - rezeroing + _saved_zeroing(case, site)
    gain = cost.gain(case.cpu_seconds)
    if gain.value < WORTH:
        return None
    by_settings = Seconds()
    if case.malloc.value >= WORTH_SETTINGS * case.cpu_seconds:
        by_settings = case.faults(site, kept_by_settings=True) * (1 - case.kept_share) - rezeroing
    taken = by_settings.value / case.cpu_seconds
    beyond = gain.less(taken)
    capacity = in_use(case, site)
    biggest = max(s.size for s in site.samples)

    def verdict(word: str, reason: str, code: str = "") -> Verdict:
        named = word in (PREALLOCATE, BUFFER_POOL)
        return Verdict(
            verdict=word,
            site=site,
            gain=gain if word != DONT else beyond,
            memory_bytes=biggest * capacity if named else 0,
            capacity=capacity if named else 0,
            reason=reason,
            code=code,
            bounds=bounds(case, site, capacity) if named else None,
        )

    if beyond.value < max(WORTH, 0.1 * gain.value):
        return verdict(
            DONT,
            f"its page faults cost {100 * gain.value:.1f} %, and malloc's settings take them away "
            "without a change of code",
        )
    if gain.wants_more:
        return verdict(RECORD_LONGER, longer(case, gain))
    what = f"{site.count:,.0f} blocks of up to {size_text(biggest)}, {capacity} at once"
    if taken > 0:
        what += f"; malloc's settings alone would gain {100 * taken:.1f} %"
    # Text cannot be written into a buffer: a text file has no readinto.
    text = site.type == "str"
    form = None if text else form_of(site.expression, array=site.kind == "array")
    if form is not None and capacity == 1 and site.threads == 1:
        return verdict(PREALLOCATE, what, form.code())
    if form is not None:
        return verdict(BUFFER_POOL, what, _buffer_pool_code(site, biggest, capacity))
    return verdict(DONT, f"{what}; no form of this call writes into memory of yours")


def _saved_zeroing(case: Case, site: Site) -> Seconds:
    """What it costs to zero these blocks, where a reused one need not be zeroed."""
    cost = Seconds()
    if makes_size(site.expression):
        for sample in site.samples:
            cost.add(sample.weight, case.prices.zero(sample.size))
    return cost


def _buffer_pool_code(site: Site, biggest: int, capacity: int) -> str:
    size = 1 << max(biggest - 1, 1).bit_length()
    lines = f"buffers = poolwise.BufferPool(max_size={size}, max_bytes={size * (capacity + 1)})"
    if makes_size(site.expression):
        return f"{lines}\nmemoryview(buffers.acquire({site.expression[10:-1]}))"
    return f"{lines}\nbuffer = buffers.acquire({biggest})  # and write into it"
