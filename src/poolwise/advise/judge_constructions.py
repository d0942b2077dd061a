"""The verdict on the objects that a class call makes: `pool` or `don't`."""

from __future__ import annotations

from collections.abc import Sequence

from poolwise.advise.calibrate import Price
from poolwise.advise.case import Case, bounds, in_use, longer
from poolwise.advise.gain import Gain, Seconds
from poolwise.advise.verdicts import DONT, POOL, RECORD_LONGER, WORTH, Verdict
from poolwise.profile.lifetimes import weighted_quantile
from poolwise.profile.sites import Sample, Site

UNSEEN = 1.2  # an object may set itself up at its first use: up to so much more than its making
WORTH_LEASES = 5  # a construction is dear from so many leases of a pool upwards
# Values and what a buffer verdict is for: never objects to pool.
# fmt: off
PLAIN_TYPES = frozenset({
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
    "memoryview", "object", "set", "slice", "str", "tuple", "type", "range",
})
# fmt: on


def construction_verdict(case: Case, site: Site) -> Verdict | None:
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
    capacity = site.threads if cyclic else in_use(case, site)

    def verdict(word: str, reason: str, code: str = "", keep: int = 0) -> Verdict:
        return Verdict(
            verdict=word,
            site=site,
            gain=gain if word != DONT else Gain(0.0, min(0.0, gain.low), 0.0),
            memory_bytes=0,
            capacity=keep,
            reason=reason,
            code=code,
            bounds=bounds(case, site, keep) if keep else None,
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
        return verdict(RECORD_LONGER, longer(case, gain))
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


def _left_behind(case: Case, made: Sequence[Sample]) -> tuple[float, float]:
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
