"""Gains: arithmetic, intervals, and a sampling variance that is true."""

from __future__ import annotations

import math
import random

import pytest

from poolwise.advise.calibrate import Price
from poolwise.advise.gain import MODEL_SHARE, RUN_TO_RUN, Gain, Seconds


def test_a_sum_of_prices_keeps_its_ends_together() -> None:
    cost = Seconds()
    cost.add(1.0, Price(2.0, 1.0, 4.0))
    cost.add(3.0, Price(1.0, 0.5, 1.5), units=2.0)
    assert (cost.value, cost.low, cost.high) == (8.0, 4.0, 13.0)
    assert cost.variance == 3 * 2 * 2.0**2  # the first was certain to be sampled


def test_sums_and_differences() -> None:
    a, b = Seconds(5.0, 4.0, 7.0, 1.0), Seconds(2.0, 1.0, 2.5, 2.0)
    assert a + b == Seconds(7.0, 5.0, 9.5, 3.0)
    # The dearest of what is taken away goes with the cheapest of what it is taken from.
    assert a - b == Seconds(3.0, 1.5, 6.0, 3.0)
    assert a * 0.5 == Seconds(2.5, 2.0, 3.5, 0.25)
    assert sum([a, b], Seconds()) == a + b


def test_a_gain_holds_its_value_and_all_three_uncertainties() -> None:
    sure = Seconds(0.2, 0.2, 0.2).gain(2.0)
    assert sure.value == pytest.approx(0.1)
    assert sure.sampling == 0.0
    assert sure.high - sure.value == pytest.approx(math.hypot(MODEL_SHARE * 0.1, RUN_TO_RUN))
    priced = Seconds(0.2, 0.1, 0.4).gain(2.0)
    assert priced.high - priced.value > 0.1 >= priced.value - priced.low - 0.03 > 0
    sampled = Seconds(0.2, 0.2, 0.2, 0.01).gain(2.0)
    assert sampled.sampling == pytest.approx(1.96 * 0.1 / 2)
    assert sampled.high - sampled.value > sure.high - sure.value


@pytest.mark.parametrize("seconds", [-3.0, -0.01, 0.0, 1e-9, 0.5, 40.0])
@pytest.mark.parametrize("variance", [0.0, 0.3])
def test_low_value_high_are_in_order(seconds: float, variance: float) -> None:
    low, high = sorted((0.9 * seconds, 1.2 * seconds))
    gain = Seconds(seconds, low, high, variance).gain(10.0)
    assert gain.low <= gain.value <= gain.high
    assert math.isfinite(gain.high)


def test_of_a_program_that_hardly_runs_nothing_is_claimed() -> None:
    assert Seconds(0.002, 0.002, 0.002).gain(0.07).low < 0
    assert Seconds(0.2, 0.2, 0.2).gain(7.0).low > 0


def test_more_is_wanted_only_where_more_would_help() -> None:
    assert not Gain(0.1, 0.09, 0.11, sampling=0.01).wants_more
    assert Gain(0.1, 0.0, 0.2, sampling=0.1).wants_more
    # As wide, but from the prices: a longer recording would be as wide.
    assert not Gain(0.1, 0.0, 0.2, sampling=0.005).wants_more
    # A large gain may be less exact.
    assert not Gain(0.5, 0.36, 0.64, sampling=0.14).wants_more
    assert Gain(0.5, 0.3, 0.7, sampling=0.2).wants_more


def test_less_moves_all_three() -> None:
    assert Gain(0.5, 0.25, 0.75, 0.125).less(0.25) == Gain(0.25, 0.0, 0.5, 0.125)


def test_it_is_printed_in_percent() -> None:
    assert str(Gain(0.123, -0.004, 0.25)) == "12.3 % [-0.4, 25.0]"


def trace(seed: int) -> list[tuple[int, float]]:
    """(size, seconds) of the allocations of a program: most small, a few large ones dear."""
    chance = random.Random(seed)
    sizes = [round(chance.lognormvariate(10, 1.2)) + 16 for _ in range(4000)]
    return [(size, size * 1e-9 * chance.uniform(0.5, 2.0)) for size in sizes]


def test_the_interval_covers_the_truth_of_one_trace_in_95_of_100_samples() -> None:
    allocations = trace(1)
    truth = sum(seconds for _, seconds in allocations)
    mean_bytes = 262_144
    # The sampler's own rule: taken with 1 - exp(-size / rate), and weighted by its inverse.
    chances = [1 - math.exp(-size / mean_bytes) for size, _ in allocations]
    covered, total = 0, 0.0
    seeds = 2000
    for seed in range(seeds):
        chance = random.Random(seed)
        cost = Seconds()
        for (_, seconds), taken in zip(allocations, chances, strict=True):
            if chance.random() < taken:
                cost.add(1 / taken, Price(seconds, seconds, seconds))
        total += cost.value
        covered += abs(cost.value - truth) <= 1.96 * math.sqrt(cost.variance)
    assert total / seeds == pytest.approx(truth, rel=0.01)
    assert 0.93 <= covered / seeds <= 0.97, covered / seeds


def test_what_is_always_sampled_has_no_sampling_error() -> None:
    cost = Seconds()
    for _ in range(20):
        cost.add(1.0, Price(1.0, 0.9, 1.1))
    assert cost.variance == 0.0
    assert not cost.gain(40.0).wants_more
