"""From sites and prices to verdicts: what to do at which place, the cheapest remedy first.

Every gain is a subtraction of measured costs. Two rules keep it honest: what CPython and malloc
already reuse is `don't`, and a remedy that changes code is named only where it gains clearly more
than the settings, which change none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from poolwise.advise import collector
from poolwise.advise.calibrate import Calibration, Price
from poolwise.advise.forms import form_of, makes_size
from poolwise.advise.gain import WIDEST, Gain, Seconds
from poolwise.profile.lifetimes import weighted_quantile
from poolwise.profile.positions import Position
from poolwise.profile.recording import Recording, Summary
from poolwise.profile.sites import LARGE_BYTES, PAGE_BYTES, Sample, Site
from poolwise.program import settings

DONT, SETTINGS, PREALLOCATE = "don't", "settings", "preallocate"
BUFFER_POOL, POOL, RECORD_LONGER = "buffer pool", "pool", "record longer"

WORTH = 0.01  # of the CPU time: below, no change of code is named
WORTH_SETTINGS = 0.015  # a setting is one line, but it is one more thing to know
UNSEEN = 1.2  # an object may set itself up at its first use: up to so much more than its making
WORTH_LEASES = 5  # a construction is dear from so many leases of a pool upwards
ARENA_BYTES = 64 << 20  # blocks above are always mapped on other threads than the main one
HUGE_BYTES = 4 << 20  # numpy asks for huge pages from this size
START_UP_FAULTS = 3000
KEPT_BYTES = dict(settings.MALLOC)[settings.M_MMAP_THRESHOLD]
MAIN_THREAD = 1  # the sampler numbers threads as they come
# Values and what a buffer verdict is for: never objects to pool.
# fmt: off
PLAIN_TYPES = frozenset({
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
    "memoryview", "object", "set", "slice", "str", "tuple", "type", "range",
})
# fmt: on
DONT_SITES = 5  # how many busy sites are explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the report. `site` is None for the whole program."""

    verdict: str
    site: Site | None
    gain: Gain
    memory_bytes: int
    capacity: int
    reason: str
    code: str
    bounds: Bounds | None = None


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


@dataclass(slots=True)
class _Case:
    """One recording being judged."""

    recording: Recording
    summary: Summary
    sites: Sequence[Site]
    prices: Calibration
    cpu_seconds: float
    words: str
    cool_down: float
    notes: list[str] = field(default_factory=list)
    fault_prices: dict[tuple[int, bool], Price] = field(default_factory=dict)
    huge_share: float = 0.0  # of the pages in blocks that may be huge, those that are
    malloc: Seconds = field(default_factory=Seconds)  # what malloc's settings save
    kept_share: float = 0.0  # of the large blocks' faults, that malloc's settings leave

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
    case = _Case(recording, recording.summary, sites, prices, cpu_seconds, " ".join(program),
                 prices.pool_pair.value if cool_down is None else cool_down)  # fmt: skip
    case.huge_share = _huge_share(case, page_faults)
    whole = _settings(case, glibc)
    verdicts = [whole]
    for site in sites:
        verdict = _pool(case, site) if site.kind == "construction" else _buffer(case, site)
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
    verdicts.sort(key=lambda verdict: -verdict.gain.value)
    _note_free_memory(case)
    _note_limits(case, page_faults)
    return Advice(
        verdicts=verdicts, notes=case.notes, cpu_seconds=cpu_seconds, page_faults=page_faults
    )


def _place(site: Site) -> tuple[str, Position, str]:
    return site.file, site.position, site.kind


def _huge_share(case: _Case, page_faults: int) -> float:
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
    # What faults beside blocks (code, stacks, small objects) is about what a start-up takes.
    faults = max(0.0, page_faults - small - START_UP_FAULTS)
    return min(1.0, max(0.0, (large - faults) / (large * 511 / 512)))


# ---- settings --------------------------------------------------------------------------------


def _settings(case: _Case, glibc: bool) -> Verdict:
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
        return verdict(RECORD_LONGER, _longer(case, gain))
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


def _malloc_gain(case: _Case) -> tuple[Seconds, int, float]:
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
    peak = _held_bytes(case, blocks)
    # The heap still grows to the most that is alive at once, each page of it faulted once.
    case.kept_share = min(1.0, peak / PAGE_BYTES / pages) if pages else 0.0
    return cost * (1 - case.kept_share) - zeroing, int(peak), pages * (1 - case.kept_share)


def _longer(case: _Case, gain: Gain) -> str:
    more = case.summary.seconds * ((2 * gain.sampling / gain.allowed) ** 2 - 1)
    return (
        f"the gain is between {100 * gain.low:.0f} % and {100 * gain.high:.0f} %: "
        f"record about {max(1.0, more):.0f} s more"
    )


# ---- one site's buffers -----------------------------------------------------------------------


def _buffer(case: _Case, everything: Site) -> Verdict | None:
    """The verdict on a site's large blocks; None if they cost too little for a line."""
    site = everything.large()
    if not site.samples:
        return None
    first_touch = _held_bytes(case, [site]) / PAGE_BYTES / max(site.touched_pages, 1.0)
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
    capacity = _in_use(case, site)
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
            bounds=_bounds(case, site, capacity) if named else None,
        )

    if beyond.value < max(WORTH, 0.1 * gain.value):
        return verdict(
            DONT,
            f"its page faults cost {100 * gain.value:.1f} %, and malloc's settings take them away "
            "without a change of code",
        )
    if gain.wants_more:
        return verdict(RECORD_LONGER, _longer(case, gain))
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


def _held_bytes(case: _Case, sites: Sequence[Site]) -> float:
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


def _bounds(case: _Case, site: Site, capacity: int) -> Bounds:
    lifetimes = site.lifetimes("ns", case.recording.end_ns)
    return Bounds(site.hit_bound(capacity), 1 - lifetimes.share_within(case.cool_down * 1e9))


def _in_use(case: _Case, site: Site) -> int:
    """How many objects of a site are in use at once."""
    return max(1, round(site.concurrency()) - site.is_rebound(case.recording))


def _saved_zeroing(case: _Case, site: Site) -> Seconds:
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


# ---- constructions ----------------------------------------------------------------------------


def _pool(case: _Case, site: Site) -> Verdict | None:
    """The verdict on the objects that a class call makes; None if the calls cost too little."""
    made_here = [s for s in site.samples if not (s.type and s.type.is_exception)]
    if not made_here or site.type in PLAIN_TYPES:
        return None
    lease = case.prices.pool_lease
    kept_blocks, kept_share = _left_behind(case, made_here)
    freeing = case.prices.construct_overhead * kept_blocks
    cost = Seconds()
    for sample in made_here:
        # The call's own time and that of freeing what it built, less the lease's. Not seen, and so
        # above: what the object sets up at its first use. A reset, if it needs one, is below.
        seconds = sample.duration_ns * 1e-9
        cost.add(
            sample.weight,
            Price(
                seconds + freeing.value / 2 - lease.value,
                0.95 * seconds - lease.high,
                UNSEEN * seconds + freeing.high,
            ),
        )
    collecting = sum(case.summary.collection_seconds) * kept_share
    cost += Seconds(collecting, 0.5 * collecting, collecting)
    if cost.value / case.cpu_seconds < WORTH:
        return None
    gain = cost.gain(case.cpu_seconds)
    weight = sum(s.weight for s in made_here)
    by_arguments: dict[int, float] = {}
    for sample in made_here:
        key = sample.arguments or 0
        by_arguments[key] = by_arguments.get(key, 0.0) + sample.weight
    same = max(by_arguments.values()) / weight
    living = sum(s.weight for s in made_here if s.death_ns is None) / weight
    name = site.type or "object"
    each = weighted_quantile(((float(s.duration_ns), s.weight) for s in made_here), 0.5) * 1e-3
    # In a reference cycle an object waits for the collector long after its last use.
    cyclic = sum(s.weight for s in made_here if s.collected) > weight / 2
    capacity = site.threads if cyclic else _in_use(case, site)

    def verdict(word: str, reason: str, code: str = "", keep: int = 0) -> Verdict:
        return Verdict(
            verdict=word,
            site=site,
            gain=gain if word != DONT else Gain(0.0, min(0.0, gain.low), 0.0),
            memory_bytes=0,
            capacity=keep,
            reason=reason,
            code=code,
            bounds=_bounds(case, site, keep) if keep else None,
        )

    made = f"{weight:,.0f} x {name}, {each:,.1f} µs each"
    if each * 1e-6 < WORTH_LEASES * lease.value:
        return verdict(
            DONT,
            f"{made}: a lease costs {1e6 * lease.value:.2f} µs, and what else it takes to reuse "
            "one eats up the rest",
        )
    if same < 0.9:
        return verdict(
            DONT,
            f"{made}, from different arguments each time: the work is theirs, not the object's",
        )
    if living > 0.5 or capacity > weight / 2:
        return verdict(DONT, f"{made}, but they stay alive: there is nothing to reuse")
    if gain.wants_more:
        return verdict(RECORD_LONGER, _longer(case, gain))
    arguments = site.expression
    code = (
        f"pool = poolwise.Pool(lambda: {arguments})  # once; reset=… if a used one differs\n"
        f"with pool.lease() as it:  # in place of {arguments}"
    )
    return verdict(
        POOL,
        f"{made}, always from the same arguments, "
        + ("freed by the collector only" if cyclic else f"{capacity} at once"),
        code,
        capacity,
    )


def _left_behind(case: _Case, made: Sequence[Sample]) -> tuple[float, float]:
    """What a construction leaves to be freed with its object: how many blocks, and which share of
    all that the garbage collector gets to see.
    """
    nodes = case.recording.nodes
    calls = {nodes[sample.stack - 1][1:] for sample in made}
    inside = [False]
    for node in nodes:  # a caller comes before its callees
        inside.append(inside[node.caller] or node[1:] in calls)
    duration_ns = weighted_quantile(((float(s.duration_ns), s.weight) for s in made), 0.5)
    blocks = tracked = all_tracked = 0.0
    for site in case.sites:
        if site.kind != "memory":
            continue
        for sample in site.samples:
            if sample.death_ns is not None and sample.death_ns - sample.birth_ns <= duration_ns:
                continue
            here = sample.stack < len(inside) and inside[sample.stack]
            is_tracked = sample.type is not None and sample.type.collected
            blocks += here * sample.weight
            tracked += (here and is_tracked) * sample.weight
            all_tracked += is_tracked * sample.weight
    constructions = sum(sample.weight for sample in made)
    return blocks / constructions, tracked / all_tracked if all_tracked else 0.0


# ---- don't ------------------------------------------------------------------------------------


def _dont_small(case: _Case, site: Site) -> Verdict:
    size = site.size_quantile(0.5)
    malloc = case.prices.allocate(max(size, 1))
    pair = case.prices.pool_pair
    count = site.count
    gain = Seconds()
    gain.add(1.0, Price(malloc.value - pair.value, malloc.low - pair.high, malloc.high - pair.low),
             units=count)  # fmt: skip
    low = gain.low / case.cpu_seconds
    median_ns = site.lifetimes("ns", case.recording.end_ns).quantile(0.5)
    lives = "most outlive the program" if median_ns is None else f"half live {_time(median_ns)}"
    return Verdict(
        verdict=DONT,
        site=site,
        gain=Gain(min(0.0, gain.value / case.cpu_seconds), min(0.0, low), 0.0),
        memory_bytes=0,
        capacity=0,
        reason=f"{count:,.0f} blocks of about {size_text(size)}, {lives}: making one costs "
        f"{1e9 * malloc.value:.0f} ns, a pool's get and put {1e9 * pair.value:.0f} ns",
        code="",
    )


# ---- notes ------------------------------------------------------------------------------------


def _note_free_memory(case: _Case) -> None:
    free = case.summary.heap_free_bytes
    if free > 32 << 20 and free > case.summary.peak_bytes / 5:
        case.notes.append(
            f"{size_text(free)} are free inside malloc at the end, not leaked: "
            "MALLOC_TRIM_THRESHOLD_=131072 in the environment, or malloc_trim(0) after the peak, "
            "gives them back"
        )


def _note_limits(case: _Case, page_faults: int) -> None:
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


def size_text(count: float) -> str:
    """Bytes as people read them: "12 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _time(ns: float) -> str:
    for limit, unit, size in ((1e3, "ns", 1.0), (1e6, "µs", 1e3), (1e9, "ms", 1e6)):
        if ns < limit:
            return f"{ns / size:.0f} {unit}"
    return f"{ns / 1e9:.1f} s"
