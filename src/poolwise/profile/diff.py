"""Two recordings compared: which sites allocate more, hold more, and whose allocations live longer.

A site is told by its function, the source text of its expression and the kind of memory, so that
lines may move; the same expression twice in a function counts as one site.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from poolwise.profile import expressions, sites
from poolwise.profile.estimates import (
    Block,
    Estimate,
    Life,
    MedianLifetime,
    Pair,
    Peak,
    Total,
    Weighted,
    discoveries,
)
from poolwise.profile.intervals import weight_of
from poolwise.profile.recording import CONSTRUCTION, Recording
from poolwise.profile.sites import Sample

CERTAIN_SAMPLES = 10  # a site with so many would be seen again, but once in 20,000 times
ERROR = 0.05  # what all intervals may miss: they are 95 % intervals


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is compared. Less than a share `tolerance` of it is no difference.

    Mean bytes alive and lifetimes move with all that is allocated meanwhile, and nanoseconds with
    the machine: by a factor of two between two runs on a busy one.
    """

    name: str
    unit: str  # "objects", "bytes" or "ns"
    meaning: str
    tolerance: float = 0.0


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("objects", "objects", "allocations"),
        Quantity("churn", "bytes", "bytes allocated"),
        Quantity("held", "bytes", "mean bytes alive", 0.25),
        Quantity("peak", "bytes", "most bytes alive at a moment"),
        Quantity("left", "bytes", "bytes still alive at the end"),
        Quantity("lifetime", "ns", "median lifetime", 3.0),
        Quantity("lifetime_bytes", "bytes", "median lifetime, in bytes allocated meanwhile", 0.25),
    )
}


@dataclass(slots=True, eq=False)
class Group:
    """What one recording has of a site. `line`: where most of it is, if it stands on several."""

    file: str
    function: str
    expression: str
    kind: str
    line: int | None
    place: str  # its text, or else its position
    library: str | None = None
    samples: list[Sample] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)

    @property
    def type(self) -> str | None:
        """The commonest type of what is allocated."""
        return max(self.types, key=self.types.__getitem__) if self.types else None


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two recordings. `mean_bytes` lie between two samples, 0 if all were taken."""

    directory: str
    cpu_seconds: float
    volume: int  # bytes allocated in all
    end_ns: int
    mean_bytes: float
    cut_short: bool
    groups: list[Group]

    def age_ns(self, sample: Sample) -> int:
        """How long it lived, or has lived so far."""
        return (self.end_ns if sample.death_ns is None else sample.death_ns) - sample.birth_ns

    def weight_of(self, size: int) -> float:
        """How many allocations of a size one sample stands for."""
        return weight_of(size, self.mean_bytes)

    def variance(self, sample: Sample) -> float:
        """The variance of how many allocations a sample stands for.

        A block that was resized counts for itself, see `recording.first_weight`; how many like it
        were missed is as unsure as for one that was sampled at the size it has now.
        """
        weight = (
            max(sample.weight, self.weight_of(sample.size)) if sample.reallocs else sample.weight
        )
        return weight * (weight - 1)


@dataclass(slots=True)
class Row:
    """A site, or the whole program, in both; None where it was not seen."""

    old: Group | None
    new: Group | None
    pairs: dict[str, Pair]
    differing: set[str] = field(default_factory=set)

    @property
    def groups(self) -> list[Group]:
        """Those that were seen, the newer first."""
        return [group for group in (self.new, self.old) if group is not None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The program's row and the sites'; `error` is that of the intervals of differing sites."""

    old: Side
    new: Side
    per_cpu_second: bool
    program: Row
    rows: list[Row]
    error: float

    def functions(self, pattern: str) -> list[Row]:
        """Each function whose name matches the pattern, all of its sites as one."""
        by_name: dict[tuple[str, str], tuple[list[Group], list[Group]]] = {}
        for row in self.rows:
            group = row.groups[0]
            if fnmatchcase(group.function, pattern):
                key = (os.path.basename(group.file), group.function)
                olds, news = by_name.setdefault(key, ([], []))
                olds += [row.old] if row.old is not None else []
                news += [row.new] if row.new is not None else []
        rows = []
        for olds, news in by_name.values():
            old, new = _as_one(olds), _as_one(news)
            rows.append(Row(old, new, _pairs(self.old, self.new, old, new, self.per_cpu_second)))
        return rows


def read_side(recording: Recording, program: str | None = None) -> Side:
    """What is compared of a recording.

    `program`: a file or directory whose code counts as the user's own, see `sites.find`.
    """
    assert recording.summary is not None
    text_of = expressions.reader(recording.directory)
    groups: dict[tuple[str, str, str, str], Group] = {}
    most: dict[tuple[str, str, str, str], float] = {}
    for site in sites.find(recording, program):
        if site.kind == "construction":
            continue  # a call that was timed: its memory is sampled beside it
        text = text_of(site)
        place = text or str(site.position)
        key = (site.file, site.function, place, site.kind)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(site.file, site.function, text, site.kind, None, place)
        if site.bytes > most.get(key, 0.0):
            most[key] = site.bytes
            group.line, group.library = site.position.line, site.library
        group.samples += site.samples
        group.types.update(site.types)
    exact = all(b.weight == 1 for b in recording.births if b.domain != CONSTRUCTION)
    return Side(
        recording.directory,
        recording.summary.cpu_seconds,
        max(recording.summary.volume, 1),
        recording.end_ns,
        0.0 if exact else recording.summary.rate,
        not recording.summary.finished,
        list(groups.values()),
    )


def match(
    old: Sequence[Group], new: Sequence[Group], least: int = 0
) -> list[tuple[Group | None, Group | None]]:
    """Pair the sites of two versions of a program, and then those that have no partner.

    First by file, function, expression and kind; the file by ever less of its path, for versions
    in two directories. Where the text is not known it is the position. What is left then is paired
    by line, and if only one site of this kind and type is left in a function, it has changed its
    expression; but only sites of `least` samples: others may be there and not have been sampled.
    """
    left_old, left_new = list(old), list(new)
    found: list[tuple[Group | None, Group | None]] = []
    stages = [(_by_place(depth), 0) for depth in (0, 4, 3, 2, 1)]
    stages += [(by(depth), least) for depth in (0, 1) for by in (_by_line, _by_type)]
    for key, needed in stages:
        olds, news = _unique(left_old, key), _unique(left_new, key)
        pairs = [
            (olds[k], news[k])
            for k in olds
            if k in news and min(len(olds[k].samples), len(news[k].samples)) >= needed
        ]
        found += pairs
        paired = {group for pair in pairs for group in pair}
        left_old = [group for group in left_old if group not in paired]
        left_new = [group for group in left_new if group not in paired]
    found += [(group, None) for group in left_old]
    found += [(None, group) for group in left_new]
    return found


Key = Callable[[Group], tuple[object, ...]]


def _by_place(depth: int) -> Key:
    return lambda group: (_tail(group.file, depth), group.function, group.place, group.kind)


def _by_line(depth: int) -> Key:
    return lambda group: (_tail(group.file, depth), group.function, group.line, group.kind)


def _by_type(depth: int) -> Key:
    return lambda group: (_tail(group.file, depth), group.function, group.type, group.kind)


def _tail(path: str, depth: int) -> str:
    """The last parts of a path; all of it for 0."""
    return os.sep.join(path.split(os.sep)[-depth:])


def _unique(groups: Sequence[Group], key: Key) -> dict[tuple[object, ...], Group]:
    """The groups that have a key of their own."""
    counts = Counter(map(key, groups))
    return {k: g for g in groups if counts[k := key(g)] == 1}


def compare(
    old: Side,
    new: Side,
    *,
    per_cpu_second: bool = False,
) -> Comparison:
    """Compare two recordings, site by site.

    `per_cpu_second`: objects and churn by second of CPU time, for programs that run as long as
    they are let, not in total.
    """

    def row(left: Group | None, right: Group | None) -> Row:
        return Row(left, right, _pairs(old, new, left, right, per_cpu_second))

    least = CERTAIN_SAMPLES if old.mean_bytes or new.mean_bytes else 0
    rows = [row(left, right) for left, right in match(old.groups, new.groups, least)]
    tests = [(r, name) for r in rows for name in r.pairs]
    found, error = discoveries([r.pairs[name] for r, name in tests], ERROR)
    for number in found:
        r, name = tests[number]
        r.differing.add(name)
    program = row(_whole(old.groups), _whole(new.groups))
    program.differing = {name for name, pair in program.pairs.items() if pair.differ(ERROR)}
    return Comparison(old, new, per_cpu_second, program, rows, error)


def _as_one(groups: Sequence[Group]) -> Group | None:
    """All sites of a function."""
    if not groups:
        return None
    whole = Group(groups[0].file, groups[0].function, "", "", None, "")
    whole.samples = [sample for group in groups for sample in group.samples]
    return whole


def _whole(groups: Sequence[Group]) -> Group:
    """All sites of a program."""
    whole = Group("", "", "", "", None, "")
    whole.samples = [sample for group in groups for sample in group.samples]
    return whole


def _pairs(
    old: Side, new: Side, left: Group | None, right: Group | None, per_cpu_second: bool
) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    for name in ("objects", "churn", "held", "peak", "left"):
        before = _amounts(name, old, left, per_cpu_second)
        after = _amounts(name, new, right, per_cpu_second)
        most: dict[int, float] = {}  # by size: what one that was not sampled may add
        for sample, amount in (*before, *after):
            most[sample.size] = max(amount, most.get(sample.size, 0.0))
        pairs[name] = Pair(_estimate(name, old, before, most), _estimate(name, new, after, most))
    if left is not None and right is not None:
        smallest = min(s.size for s in (*left.samples, *right.samples))
        for name in ("lifetime", "lifetime_bytes"):
            pairs[name] = Pair(
                _median(name, old, left, smallest), _median(name, new, right, smallest)
            )
    return {
        name: pair._replace(tolerance=QUANTITIES[name].tolerance) for name, pair in pairs.items()
    }


def _amounts(
    name: str, side: Side, group: Group | None, per_cpu_second: bool
) -> list[tuple[Sample, float]]:
    """What an allocation like each sample adds to a quantity."""
    samples = group.samples if group is not None else []
    if name == "peak":
        return [(s, s.size) for s in samples]
    if name == "left":
        return [(s, s.size if s.death_ns is None else 0.0) for s in samples]
    if name == "held":
        return [(s, s.size * s.life_total_volume / side.volume) for s in samples]
    unit = side.cpu_seconds if per_cpu_second else 1.0
    return [(s, (1 if name == "objects" else s.size) / unit) for s in samples]


def _estimate(
    name: str, side: Side, amounts: list[tuple[Sample, float]], most: dict[int, float]
) -> Estimate:
    heaviest = max(
        (Weighted.of(side.weight_of(size), amount) for size, amount in most.items()),
        key=lambda weighted: weighted.unseen,
        default=Weighted.of(1.0, 0.0),
    )
    if name == "peak":
        return Peak(
            [
                Block(s.birth_ns, s.death_ns, s.weight, side.variance(s), size)
                for s, size in amounts
            ],
            heaviest,
        )
    return Total((Weighted(s.weight, side.variance(s), amount) for s, amount in amounts), heaviest)


def _median(name: str, side: Side, group: Group, smallest: int) -> Estimate:
    lives = (
        Life(
            side.age_ns(s) if name == "lifetime" else s.life_volume,
            s.death_ns is None,
            s.weight,
            side.variance(s),
        )
        for s in group.samples
    )
    return MedianLifetime(lives, Weighted.of(side.weight_of(smallest), 1.0))
