"""From sites and prices to verdicts: what to do at which place, the cheapest remedy first.

Every gain is a subtraction of measured costs. Two rules keep it honest: what CPython and malloc
already reuse is `don't`, and a remedy that changes code is named only where it gains clearly more
than the settings, which change none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.case import Case, huge_share
from poolwise.advise.gain import WIDEST, Gain, Seconds
from poolwise.advise.judge_buffers import buffer_verdict
from poolwise.advise.judge_constructions import construction_verdict
from poolwise.advise.judge_settings import settings_verdict
from poolwise.advise.verdicts import DONT, Advice, Verdict, size_text
from poolwise.profile.life import life_of
from poolwise.profile.positions import Position
from poolwise.profile.recording import Recording
from poolwise.profile.sites import PAGE_BYTES, Site

DONT_SITES = 5  # how many busy sites are explained


def judge(
    recording: Recording,
    sites: Sequence[Site],
    prices: Calibration,
    *,
    cpu_seconds: float,
    page_faults: int,
    program: Sequence[str],
    glibc: bool = True,
    cool_down: float | None = None,
) -> Advice:
    """Judge a recording.

    Args:
        recording: with its summary.
        sites: from `poolwise.profile.sites.find`.
        prices: this machine's.
        cpu_seconds: user and system time of the program, without the sampler's.
        page_faults: minor faults of the program.
        program: the words behind `python`, for the command lines that are printed.
        glibc: whether malloc's settings can be changed at all.
        cool_down: seconds for which a reused object is busy being reused, for the reuse bound; by
            default what a pool's get and put cost.
    """
    assert recording.summary is not None
    case = Case(recording, recording.summary, sites, prices, cpu_seconds, page_faults,
                " ".join(program),
                prices.pool_pair.value if cool_down is None else cool_down)  # fmt: skip
    case.huge_share = huge_share(case)
    whole = settings_verdict(case, glibc)
    verdicts = [whole]
    for site in sites:
        verdict = (
            construction_verdict(case, site)
            if site.kind == "construction"
            else buffer_verdict(case, site)
        )
        if verdict is not None:
            verdicts.append(verdict)
    named = {_place(verdict.site) for verdict in verdicts if verdict.site is not None}
    busy = [
        site
        for site in sites
        if site.kind == "memory"
        and _place(site) not in named
        and not site.file.startswith("<frozen")  # the import system: nobody's to change
    ]
    verdicts += [_dont_small(case, site) for site in busy[:DONT_SITES]]
    verdicts = [
        verdict if verdict.site is None else replace(verdict, life=life_of(recording, verdict.site))
        for verdict in verdicts
    ]
    verdicts.sort(key=lambda verdict: -verdict.gain.value)
    _note_free_memory(case)
    _note_limits(case, page_faults)
    return Advice(
        verdicts=verdicts, notes=case.notes, cpu_seconds=cpu_seconds, page_faults=page_faults
    )


def _place(site: Site) -> tuple[str, Position, str]:
    return site.file, site.position, site.kind


def _dont_small(case: Case, site: Site) -> Verdict:
    size = site.size_quantile(0.5)
    malloc = case.prices.allocate(max(size, 1))
    pair = case.prices.pool_pair
    count = site.count
    gain = Seconds()
    gain.add(1.0, Price(malloc.value - pair.value, malloc.low - pair.high, malloc.high - pair.low),
             units=count)  # fmt: skip
    low = gain.low / case.cpu_seconds
    return Verdict(
        verdict=DONT,
        site=site,
        gain=Gain(min(0.0, gain.value / case.cpu_seconds), min(0.0, low), 0.0),
        memory_bytes=0,
        capacity=0,
        reason=f"{count:,.0f} blocks of about {size_text(size)}: making one costs "
        f"{1e9 * malloc.value:.0f} ns, a pool's get and put {1e9 * pair.value:.0f} ns",
        code="",
    )


def _note_free_memory(case: Case) -> None:
    free = case.summary.heap_free_bytes
    # Not by the peak: the kernel counts in it that of the process that started this one.
    held = case.summary.heap_bytes + case.summary.heap_mapped_bytes
    if free > 32 << 20 and free > held / 5:
        case.notes.append(
            f"{size_text(free)} are free inside malloc at the end, not leaked: "
            "MALLOC_TRIM_THRESHOLD_=131072 in the environment, or malloc_trim(0) after the peak, "
            "gives them back"
        )


def _note_limits(case: Case, page_faults: int) -> None:
    summary = case.summary
    if not summary.finished:
        case.notes.append("the program ended without its exit handlers: the last half second and "
                          "what was alive then are missing")  # fmt: skip
    if summary.forks:
        case.notes.append(
            f"the program forked {summary.forks} times: what its children allocate is not seen"
        )
    if summary.hook_removals:
        case.notes.append(
            f"something took the sampler's hook out {summary.hook_removals} times (tracemalloc "
            "stopped?): deaths in that time are unknown"
        )
    if summary.unknown_stacks:
        case.notes.append(f"{summary.unknown_stacks:,} samples have no stack: there were too many "
                          "different ones")  # fmt: skip
    seen = sum(site.touched_pages for site in case.sites if site.kind != "construction")
    unseen = page_faults - seen * (1 - case.huge_share) - summary.peak_bytes / PAGE_BYTES
    if unseen * case.prices.fault(1 << 20).value > WIDEST * case.cpu_seconds:
        case.notes.append(
            f"{unseen:,.0f} of {page_faults:,} page faults are in memory that no allocator gave: "
            "arenas of small objects that come and go, mapped files, or the program's children"
        )
