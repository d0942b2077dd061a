"""Survival and quantiles: against scipy, against the closed form, and as properties."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.profile.lifetimes import Lifetimes, bucket_of, bucket_start, weighted_quantile

values = st.floats(0, 1e12) | st.integers(0, 10**12).map(float)
lives = st.tuples(values, st.booleans())
weighted_lives = st.lists(
    st.tuples(values, st.floats(0.01, 1e6), st.booleans()), min_size=1, max_size=60
)
parts = st.floats(0.01, 1)


def lifetimes_of(samples: list[tuple[float, float, bool]]) -> Lifetimes:
    lifetimes = Lifetimes()
    for life, weight, alive in samples:
        lifetimes.add(life, weight, alive=alive)
    return lifetimes


@given(values)
def test_a_bucket_holds_its_values(value: float) -> None:
    bucket = bucket_of(value)
    assert bucket_start(bucket) <= value * (1 + 1e-12)
    assert value < bucket_start(bucket + 1) * (1 + 1e-12)
    assert bucket_start(bucket + 1) <= max(1, bucket_start(bucket) * 2**0.25 * (1 + 1e-12))


@given(st.lists(lives, min_size=1, max_size=80))
def test_survival_is_that_of_scipy(samples: list[tuple[float, bool]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    data = stats.CensoredData.right_censored(
        [bucket_start(bucket_of(life) + 1) for life, _ in samples], [alive for _, alive in samples]
    )
    theirs = stats.ecdf(data).sf
    curve = lifetimes_of([(life, 1.0, alive) for life, alive in samples]).survival()
    for end, share in curve:
        assert share == pytest.approx(float(theirs.evaluate(end)), abs=1e-9)
    # They have no step where we have none.
    at = {end for end, _ in curve}
    steps = zip(theirs.quantiles, [1.0, *theirs.probabilities], theirs.probabilities, strict=False)
    assert all(end in at for end, before, after in steps if after < before - 1e-12)


@given(st.lists(st.tuples(values, st.integers(1, 9), st.booleans()), min_size=1, max_size=30))
def test_a_weight_is_a_sample_repeated(samples: list[tuple[float, int, bool]]) -> None:
    weighted = lifetimes_of([(life, float(weight), alive) for life, weight, alive in samples])
    repeated = lifetimes_of(
        [(life, 1.0, alive) for life, weight, alive in samples for _ in range(weight)]
    )
    assert dict(weighted.survival()) == pytest.approx(dict(repeated.survival()), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("censored_after", [0.5, 2.0, 1e9])
def test_exponential_lifetimes_with_random_censoring(seed: int, censored_after: float) -> None:
    draw = random.Random(seed)
    number, mean, censoring = 4000, 5000.0, 5000.0 * censored_after
    lifetimes = Lifetimes()
    for _ in range(number):
        life, watched = draw.expovariate(1 / mean), draw.expovariate(1 / censoring)
        lifetimes.add(min(life, watched), 1.0, alive=watched < life)
    for end, share in lifetimes.survival():
        truth = math.exp(-end / mean)
        if not 0.1 < truth < 0.9:
            continue
        # Greenwood's variance in closed form: S² ∫ λ / (n S C), with exponential censoring.
        rate = 1 / mean + 1 / censoring
        error = truth * math.sqrt(math.expm1(rate * end) / (mean * rate * number))
        # Those censored in a bucket count as at risk to its end; summed over all buckets.
        width = end - end * 2**-0.25
        rounding = truth * width**2 / (2 * mean * censoring) / (1 - 2**-0.5)
        assert share == pytest.approx(truth, abs=4 * error + rounding)
        assert lifetimes.share_within(end) == pytest.approx(1 - truth, abs=4 * error + rounding)


@given(weighted_lives)
def test_survival_falls_from_1_to_no_less_than_0(samples: list[tuple[float, float, bool]]) -> None:
    curve = lifetimes_of(samples).survival()
    ends, shares = [end for end, _ in curve], [1.0, *(share for _, share in curve)]
    assert ends == sorted(set(ends))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] >= 0
    if not any(alive for _, _, alive in samples):
        assert shares[-1] == pytest.approx(0, abs=1e-9)


@given(weighted_lives, parts)
def test_a_quantile_is_where_the_share_is_reached(
    samples: list[tuple[float, float, bool]], part: float
) -> None:
    lifetimes = lifetimes_of(samples)
    quantile = lifetimes.quantile(part)
    if quantile is None:
        assert lifetimes.share_within(math.inf) < part
        assert any(alive for _, _, alive in samples) or part > 1 - 1e-9
    else:
        assert lifetimes.share_within(quantile) >= part - 1e-9
        assert lifetimes.share_within(quantile * (1 - 1e-9)) < part


@given(weighted_lives, values, values)
def test_a_share_grows_with_the_lifetime(
    samples: list[tuple[float, float, bool]], one: float, other: float
) -> None:
    lifetimes = lifetimes_of(samples)
    within = [lifetimes.share_within(life) for life in sorted((one, other))]
    assert 0 <= within[0] <= within[1] <= 1


def test_nothing_known() -> None:
    assert Lifetimes().survival() == []
    assert Lifetimes().quantile(0.5) is None
    assert Lifetimes().share_within(1e9) == 0
    alive = lifetimes_of([(100.0, 3.0, True)])
    assert (alive.survival(), alive.quantile(0.5), alive.share_within(1e9)) == ([], None, 0)
    assert weighted_quantile([], 0.5) == 0


pairs = st.lists(st.tuples(values, st.integers(1, 20)), min_size=1, max_size=40)


@given(pairs, st.integers(1, 100))
def test_a_weighted_quantile_is_the_one_of_repeated_values(
    weighted: list[tuple[float, int]], percent: int
) -> None:
    repeated = sorted(value for value, weight in weighted for _ in range(weight))
    least = repeated[-(-percent * len(repeated) // 100) - 1]
    assert weighted_quantile([(v, float(w)) for v, w in weighted], percent / 100) == least


@given(pairs, parts, st.randoms())
def test_a_weighted_quantile_knows_no_order(
    weighted: list[tuple[float, float]], part: float, draw: random.Random
) -> None:
    shuffled = draw.sample(weighted, len(weighted))
    assert weighted_quantile(shuffled, part) == weighted_quantile(weighted, part)
    assert weighted_quantile(weighted, 1) == max(value for value, _ in weighted)
