"""One recorded trace through the sampler's own decisions by 2,000 seeds: estimates against truth.

The driver (`tests/core/replay.c`) writes a recording for each seed; they are read and estimated
like any other. Seed 0 samples everything: the truth.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, pstdev

import pytest
import traces

from poolwise.profile import recording, sites
from poolwise.profile.intervals import Estimate
from poolwise.profile.lifetimes import Lifetimes
from poolwise.profile.sites import Site

CORE = Path(__file__).resolve().parents[2] / "src" / "poolwise" / "_core"
DRIVER = Path(__file__).resolve().parent.parent / "core" / "replay.c"
PARTS = (0.25, 0.5, 0.9)
CLOCKS = ("ns", "volume", "collections")
SMALL_TABLE = "-DPW_TABLE_BITS=6"  # full with 48 alive
UNBOUNDED = 1e12
CHANCE = 3.8  # standard errors: one in a hundred runs of 80 comparisons (Bonferroni)

Place = tuple[str, int | None, str]
Replay = Callable[..., Iterator[recording.Recording]]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    trace = traces.load()

    def run(
        first: int,
        last: int,
        *options: str,
        mean_bytes: float = 16_000,
        ceiling: float = UNBOUNDED,
    ) -> Iterator[recording.Recording]:
        folder = tmp_path_factory.mktemp("replay")
        program = folder / "driver"
        flags = ["-std=gnu11", "-O2", "-I", str(CORE), *options]
        subprocess.run(["gcc", *flags, str(DRIVER), "-o", str(program), "-lm"], check=True)
        summary_bytes = str(recording._SUMMARY.size)
        numbers = [str(first), str(last), str(mean_bytes), str(ceiling), summary_bytes]
        subprocess.run([program, *numbers, str(folder)], input=trace.events, check=True)
        for seed in range(first, last + 1):
            read = recording.read(folder / str(seed))
            trace.name(read)
            yield read
            shutil.rmtree(folder / str(seed))

    return run


def by_place(read: recording.Recording) -> dict[Place, Site]:
    return {(s.function, s.position.line, s.kind): s for s in sites.find(read)}


@dataclass
class Truth:
    """What exact mode says of the trace."""

    sites: dict[Place, Site]
    end_ns: int

    def lifetimes(self, place: Place, clock: str) -> Lifetimes:
        return self.sites[place].lifetimes(clock, self.end_ns)


@pytest.fixture(scope="module")
def truth(replay: Replay) -> Truth:
    (read,) = replay(0, 0)
    return Truth(by_place(read), read.end_ns)


@dataclass
class Found:
    """What the seeds say."""

    seeds: int
    samples: float = 0
    thinned: int = 0
    counts: dict[Place, list[Estimate]] = field(default_factory=lambda: defaultdict(list))
    bytes: dict[Place, list[Estimate]] = field(default_factory=lambda: defaultdict(list))
    pooled: dict[tuple[Place, str], Lifetimes] = field(
        default_factory=lambda: defaultdict(Lifetimes)
    )
    quantiles: dict[tuple[Place, str, float], list[Estimate]] = field(
        default_factory=lambda: defaultdict(list)
    )


def estimates(
    truth: Truth, recordings: Iterator[recording.Recording], *, quantiles: bool = False
) -> Found:
    found = Found(0)
    for read in recordings:
        found.seeds += 1
        found.samples += len(read.births)
        found.thinned += bool(read.thinnings)
        for place, site in by_place(read).items():
            found.counts[place].append(site.count_estimate)
            found.bytes[place].append(site.bytes_estimate)
            for clock in CLOCKS:
                lifetimes = site.lifetimes(clock, truth.end_ns)
                add(found.pooled[place, clock], lifetimes)
                for part in PARTS if quantiles and clock == "ns" else ():
                    estimate = lifetimes.quantile_estimate(part)
                    if estimate is not None:
                        found.quantiles[place, clock, part].append(estimate)
    return found


def add(pooled: Lifetimes, more: Lifetimes) -> None:
    for into, of in (
        (pooled.ended, more.ended),
        (pooled.censored, more.censored),
        (pooled.ended_noise, more.ended_noise),
        (pooled.censored_noise, more.censored_noise),
    ):
        for bucket, value in of.items():
            into[bucket] = into.get(bucket, 0.0) + value


@pytest.fixture(scope="module")
def found(replay: Replay, truth: Truth) -> Found:
    return estimates(truth, replay(1, 2000), quantiles=True)


def assert_unbiased(found: Found, truth: Truth, errors: float = 3) -> None:
    """The mean estimate of each site is within so many standard errors of the truth."""
    assert len(truth.sites) > 30
    for place, site in truth.sites.items():
        for estimates, value in (
            (found.counts[place], site.count),
            (found.bytes[place], site.bytes),
        ):
            values = [estimate.value for estimate in estimates]
            values += [0.0] * (found.seeds - len(values))  # not seen
            error = pstdev(values) / math.sqrt(found.seeds)
            assert mean(values) == pytest.approx(value, abs=errors * error, rel=1e-9), place


def assert_lifetimes_unbiased(found: Found, truth: Truth, errors: float = 3) -> None:
    """All seeds together say, within so many standard errors, how many live for how long."""
    compared = 0
    for (place, clock), pooled in found.pooled.items():
        exact = truth.lifetimes(place, clock)
        steps = pooled.steps()
        for part in PARTS:
            quantile = exact.quantile(part)
            if quantile is None or sum(pooled.ended.values()) < found.seeds:
                continue  # most are alive, or it died once in 2,000 seeds
            # Quantiles agree if shares do: as many are dead by then, and fewer just before.
            share = exact.share_within(quantile)
            (step,) = [s for s in steps if s.lifetime == quantile]
            assert 1 - step.share == pytest.approx(
                share, abs=errors * math.sqrt(step.variance) + 1e-9
            ), (place, clock, part)
            compared += 1
    assert compared > 100


def test_the_trace_is_worth_replaying(truth: Truth, found: Found) -> None:
    samples = [s for site in truth.sites.values() for s in site.samples]
    assert len(samples) > 4000
    assert len({s.thread for s in samples}) == 3
    assert sum(not s.same_thread for s in samples if s.death_ns) > 100
    assert sum(s.reallocs > 0 for s in samples) > 50
    assert sum(s.collected for s in samples) > 100
    assert max(s.size for s in samples) > 50_000
    assert 100 < found.samples / found.seeds < 1000


def test_counts_and_bytes_are_unbiased(truth: Truth, found: Found) -> None:
    assert_unbiased(found, truth)


def test_lifetimes_are_unbiased(truth: Truth, found: Found) -> None:
    assert_lifetimes_unbiased(found, truth)


@pytest.mark.parametrize("of", ["counts", "bytes"])
def test_intervals_of_totals_cover(truth: Truth, found: Found, of: str) -> None:
    covered = []
    for place, estimates in getattr(found, of).items():
        value = getattr(truth.sites[place], {"counts": "count"}.get(of, of))
        held = [e.low - 1e-6 <= value <= e.high + 1e-6 for e in estimates]
        covered += held
        if len(estimates) > 0.99 * found.seeds:  # the others are selected by being seen at all
            assert mean(held) > 0.9, place
    assert 0.93 <= mean(covered) <= 0.97


def test_intervals_of_lifetime_quantiles_cover(truth: Truth, found: Found) -> None:
    smooth, clumped = [], []
    for (place, clock, part), estimates in found.quantiles.items():
        exact = truth.lifetimes(place, clock)
        quantile = exact.quantile(part)
        if quantile is None or len(estimates) < 0.95 * found.seeds:
            continue
        held = [e.low <= quantile <= e.high for e in estimates]
        # Where many live equally long an interval that ends there covers too often, and must.
        clump = exact.share_within(quantile) - exact.share_within(quantile * (1 - 1e-9))
        (smooth if clump < 0.03 else clumped).append(mean(held))
    assert len(smooth) > 10
    assert 0.93 <= mean(smooth) <= 0.97
    assert mean(clumped) >= 0.95


def test_the_ceiling_leaves_estimates_unbiased(truth: Truth, replay: Replay) -> None:
    limited = estimates(truth, replay(1, 400, mean_bytes=6000, ceiling=1000))
    free = estimates(truth, replay(1, 20, mean_bytes=6000))
    assert limited.samples / limited.seeds < 0.8 * free.samples / free.seeds
    assert_unbiased(limited, truth, CHANCE)
    assert_lifetimes_unbiased(limited, truth, CHANCE)


def test_thinning_leaves_estimates_unbiased(truth: Truth, replay: Replay) -> None:
    thinned = estimates(truth, replay(1, 400, SMALL_TABLE, mean_bytes=6000))
    assert thinned.thinned > 0.9 * thinned.seeds
    assert_unbiased(thinned, truth, CHANCE)
    assert_lifetimes_unbiased(thinned, truth, CHANCE)


@pytest.mark.parametrize("options", [(), (SMALL_TABLE,)])
def test_the_driver_is_sound_under_the_sanitizers(replay: Replay, options: tuple[str, ...]) -> None:
    checked = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Werror")
    assert len(list(replay(1, 20, *checked, *options, ceiling=4000))) == 20
