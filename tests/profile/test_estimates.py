"""Intervals of totals, medians and peaks: they hold what they promise, and nothing is lost."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.profile import estimates
from poolwise.profile.estimates import (
    Block,
    Estimate,
    Interval,
    Life,
    MedianLifetime,
    Pair,
    Peak,
    Total,
    Weighted,
    difference,
    discoveries,
    ratio,
)

SEEDS = 2000
CERTAIN = Weighted.of(1.0, 1.0)


def spread(weight: float) -> float:
    return weight * (weight - 1)


def at_most(rate: float, seeds: int) -> float:
    """What a rate may be seen as, within four standard errors."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / seeds)


@pytest.mark.parametrize("number", [10, 100, 1000])
@pytest.mark.parametrize("chance", [0.02, 0.3, 0.95, 0.986])
def test_totals_are_covered_and_equal_ones_do_not_differ(number: int, chance: float) -> None:
    draw = random.Random(number)
    weighted = Weighted.of(1 / chance, 1.0)

    @lru_cache(None)
    def interval(seen: int, error: float) -> Interval:
        return Total([weighted] * seen, weighted).interval(error)

    drawn = [
        [sum(draw.random() < chance for _ in range(number)) for _ in "ab"] for _ in range(SEEDS)
    ]
    for error in (0.05, 0.005):
        missed = alarms = 0
        for seen, other in drawn:
            one, two = interval(seen, error), interval(other, error)
            missed += not one.low <= number * (1 + 1e-9) or not one.high >= number * (1 - 1e-9)
            change = difference(two, one)
            alarms += change.low > 1e-6 or change.high < -1e-6
        assert missed / SEEDS <= at_most(error, SEEDS)
        assert alarms / SEEDS <= at_most(1.3 * error, SEEDS)  # counts are no fine measure


def test_totals_of_different_sizes_are_covered() -> None:
    draw = random.Random(3)
    sizes = [draw.choice([40, 60, 500, 3000]) for _ in range(2000)] + [1 << 20] * 3
    chances = {size: 1 - math.exp(-(size + 256) / 20_000) for size in set(sizes)}
    heaviest = max(
        (Weighted.of(1 / chances[size], size) for size in chances), key=lambda w: w.unseen
    )
    missed = 0
    widths = []
    for _ in range(SEEDS // 4):
        seen = [Weighted.of(1 / chances[s], s) for s in sizes if draw.random() < chances[s]]
        found = Total(seen, heaviest).interval(0.05)
        missed += not found.low <= sum(sizes) <= found.high
        widths.append(found.high - found.low)
        assert found.low >= 3 << 20  # what was seen is certain
    assert missed / (SEEDS // 4) <= at_most(0.05, SEEDS // 4)
    assert max(widths) < 2_000_000  # and the rest is about that much


def test_gamma_quantiles_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for shape in (0.01, 0.3, 1, 5, 19.9, 20.1, 400):
        for part in (0.001, 0.025, 0.5, 0.975, 0.9995):
            found = estimates._gamma_quantile(3 * shape, 9 * shape, part)
            assert found == pytest.approx(stats.gamma.ppf(part, shape, scale=3), rel=2e-3, abs=1e-6)


def exponential(number: int, censored: float) -> list[tuple[float, bool]]:
    draw = random.Random(number)
    lives = []
    for _ in range(number):
        life = draw.expovariate(0.01)
        seen_for = draw.expovariate(0.01 * censored / (1 - censored)) if censored else math.inf
        lives.append((min(life, seen_for), seen_for < life))
    return lives


@pytest.mark.parametrize(
    ("lives", "chance"),
    [
        (exponential(60, 0), 0.1),
        (exponential(1000, 0), 0.05),
        (exponential(1000, 0.3), 0.1),
        (exponential(300, 0.3), 0.9),
        ([(100.0, False)] * 300 + [(200.0, False)] * 300, 0.05),
    ],
    ids=["few", "many", "censored", "nearly all", "two values"],
)
def test_medians_are_covered(lives: list[tuple[float, bool]], chance: float) -> None:
    truth = MedianLifetime((Life(t, alive, 1.0, 0.0) for t, alive in lives), CERTAIN).interval(0.05)
    assert truth.low == truth.value == truth.high  # nothing is open where all were taken
    draw = random.Random(5)
    weight = 1 / chance
    missed = alarms = 0
    seeds = SEEDS // 4
    for _ in range(seeds):
        found = [
            MedianLifetime(
                [
                    Life(t, alive, weight, spread(weight))
                    for t, alive in lives
                    if draw.random() < chance
                ],
                Weighted.of(weight, 1.0),
            ).interval(0.05)
            for _ in "ab"
        ]
        missed += not found[0].low <= truth.value <= found[0].high
        change = ratio(found[1], found[0])
        alarms += change.low > 1 or change.high < 1
    assert missed / seeds <= at_most(0.05, seeds)
    assert alarms / seeds <= at_most(0.05, seeds)


def test_a_median_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for number in (5, 40, 301):
        lives = exponential(number, 0.3)
        data = stats.CensoredData(
            [t for t, alive in lives if not alive], right=[t for t, alive in lives if alive]
        )
        curve = stats.ecdf(data).sf
        expected = next(
            (q for q, p in zip(curve.quantiles, curve.probabilities, strict=True) if p <= 0.5),
            math.inf,
        )
        assert MedianLifetime([Life(t, a, 1.0, 0.0) for t, a in lives], CERTAIN).value == expected


def test_a_median_that_was_not_reached() -> None:
    lives = [Life(float(n), n > 30, 1.0, 0.0) for n in range(100)]
    assert MedianLifetime(lives, CERTAIN).interval(0.05) == (math.inf, 99.0, math.inf)
    few = [Life(float(n), False, 20.0, spread(20.0)) for n in range(4)]
    assert MedianLifetime(few, Weighted.of(20.0, 1.0)).interval(0.05) == (1.0, 0.0, math.inf)
    certain = [Life(7.0, False, 1.0, 0.0)]
    assert MedianLifetime(certain, CERTAIN).interval(0.05) == (7.0, 7.0, 7.0)
    assert MedianLifetime(certain, Weighted.of(20.0, 1.0)).interval(0.05) == (7.0, 0.0, math.inf)
    assert MedianLifetime([], CERTAIN).interval(0.05) == (math.inf, 0.0, math.inf)


@pytest.mark.parametrize(("number", "chance"), [(1000, 0.05), (200, 0.986), (5, 0.1)])
@pytest.mark.parametrize("kind", ["kept", "queue", "bursts"])
def test_peaks_are_covered(kind: str, number: int, chance: float) -> None:
    ends = {
        "kept": lambda n: None,
        "queue": lambda n: 10 * n + 500,
        "bursts": lambda n: (10 * n // 2000 + 1) * 2000,
    }[kind]

    def blocks(weight: float, keep: Callable[[], bool]) -> list[Block]:
        return [
            Block(10 * n, ends(n), weight, spread(weight), 100.0) for n in range(number) if keep()
        ]

    truth = Peak(blocks(1.0, lambda: True), Weighted.of(1.0, 100.0)).interval(0.05)
    expected = {"kept": number, "queue": min(number, 50), "bursts": min(number, 200)}[kind]
    assert truth == (expected * 100,) * 3
    draw = random.Random(9)
    weight = 1 / chance
    missed = alarms = 0
    seeds = 150
    for _ in range(seeds):
        one, two = (
            Peak(
                blocks(weight, lambda: draw.random() < chance), Weighted.of(weight, 100.0)
            ).interval(0.05)
            for _ in "ab"
        )
        missed += not one.low <= truth.value * (1 + 1e-9) or not one.high >= truth.value - 1e-6
        change = difference(two, one)
        alarms += change.low > 0 or change.high < 0
    assert missed / seeds <= at_most(0.05, seeds)
    assert alarms / seeds <= at_most(0.05, seeds)


POSITIVE = st.just(0.0) | st.floats(1e-3, 1e12)


@st.composite
def interval_of(draw: st.DrawFn) -> Interval:
    low, value, high = sorted(draw(st.tuples(POSITIVE, POSITIVE, POSITIVE)))
    return Interval(value, low, high)


@given(interval_of(), interval_of())
def test_a_difference_the_other_way_round(a: Interval, b: Interval) -> None:
    one, two = difference(a, b), difference(b, a)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    assert one.low <= one.value <= one.high


@given(interval_of(), interval_of(), st.floats(1e-6, 1e6))
def test_a_ratio_holds_the_factors_that_bring_both_together(
    new: Interval, old: Interval, factor: float
) -> None:
    share = ratio(new, old)
    change = difference(new, old, factor)
    size = 1e-6 * (new.high + factor * old.high)
    if share.low * (1 + 1e-6) < factor < share.high * (1 - 1e-6):
        assert change.low <= size
        assert change.high >= -size
    elif factor < share.low * (1 - 1e-6):
        assert change.low >= -size
    elif factor > share.high * (1 + 1e-6):
        assert change.high <= size


def test_what_has_no_upper_limit() -> None:
    never = Interval(math.inf, 90.0, math.inf)
    soon = Interval(5.0, 4.0, 6.0)
    assert ratio(never, soon) == (math.inf, 15.0, math.inf)
    assert difference(never, soon).low == 84.0
    assert ratio(soon, never) == (0.0, 0.0, pytest.approx(6 / 90))
    assert ratio(never, never).low < 1 < ratio(never, never).high
    assert ratio(Interval(2.0, 1.0, math.inf), soon).high == math.inf
    assert ratio(soon, Interval(2.0, 0.0, math.inf)).low == 0
    assert ratio(Interval(0, 0, 0), Interval(0, 0, 0)) == (1.0, 1.0, 1.0)
    assert ratio(Interval(3, 2, 4), Interval(0, 0, 1)).high == math.inf


class Normal(Estimate):
    """An estimate that is normal, with standard deviation 1."""

    def __init__(self, value: float) -> None:
        self.value = value

    def interval(self, error: float) -> Interval:
        half = -NormalDist().inv_cdf(error / 2)
        return Interval(self.value, self.value - half, self.value + half)


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=60))
def test_discoveries_are_those_of_benjamini_and_hochberg(values: list[float]) -> None:
    pairs = [Pair(Normal(0.0), Normal(value)) for value in values]
    found, error = discoveries(pairs, 0.05)
    p = [2 * NormalDist().cdf(-abs(value) / math.sqrt(2)) for value in values]
    ranked = sorted(range(len(p)), key=p.__getitem__)
    passing = [rank for rank, n in enumerate(ranked, 1) if p[n] <= 0.05 * rank / len(p)]
    expected = set(ranked[: max(passing, default=0)])
    if all(abs(p[n] - 0.05 * k / len(p)) > 1e-9 for n in range(len(p)) for k in range(len(p) + 1)):
        assert found == expected
        assert error == pytest.approx(0.05 * max(len(expected), 1) / len(p))


def test_a_tolerance_is_no_difference() -> None:
    def pair(new: float, tolerance: float) -> Pair:
        exact = Weighted.of(1.0, 1.0)
        return Pair(
            Total([exact._replace(amount=100.0)], exact),
            Total([exact._replace(amount=new)], exact),
            tolerance,
        )

    assert pair(101.0, 0.0).differ(0.05)
    assert pair(99.0, 0.0).differ(0.05)
    assert not pair(100.0, 0.0).differ(0.05)
    assert not pair(124.0, 0.25).differ(0.05)
    assert not pair(81.0, 0.25).differ(0.05)
    assert pair(126.0, 0.25).differ(0.05)
    assert pair(79.0, 0.25).differ(0.05)
