"""Survival and quantiles: against scipy, against the closed form, and as properties."""

from __future__ import annotations

import math
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.profile.lifetimes import (
    Lifetimes,
    bucket_middle,
    bucket_of,
    bucket_start,
    weighted_quantile,
)

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
    assert bucket_start(bucket) <= value < bucket_start(bucket + 1)
    assert bucket_middle(bucket) == pytest.approx(int(value), rel=1 / 64)
    if value < 64:
        assert bucket_middle(bucket) == int(value)


@given(st.lists(lives, min_size=1, max_size=80))
def test_survival_is_that_of_scipy(samples: list[tuple[float, bool]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    data = stats.CensoredData.right_censored(
        [bucket_middle(bucket_of(life)) for life, _ in samples], [alive for _, alive in samples]
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
        # Those censored in a bucket count as at risk to its end, and it stands for its values.
        width = end / 32
        rounding = width * truth * (1 / mean + 1 / censoring)
        assert share == pytest.approx(truth, abs=4 * error + rounding)
        assert lifetimes.share_within(end) == pytest.approx(1 - truth, abs=4 * error + rounding)


@pytest.mark.parametrize("seed", range(3))
def test_bimodal_lifetimes(seed: int) -> None:
    """Most die at once, some much later, and some are still alive when the watch ends."""
    draw = random.Random(seed)
    number, short, long, watched = 6000, 100.0, 1e6, 5e5
    lifetimes = Lifetimes()
    for _ in range(number):
        life = draw.expovariate(1 / (short if draw.random() < 0.8 else long))
        lifetimes.add(min(life, watched), 1.0, alive=life > watched)
    for at in (50.0, 100.0, 500.0, 1e4, 1e5, 4e5):
        truth = 1 - 0.8 * math.exp(-at / short) - 0.2 * math.exp(-at / long)
        error = math.sqrt(truth * (1 - truth) / number)
        density = 0.8 / short * math.exp(-at / short) + 0.2 / long * math.exp(-at / long)
        rounding = density * at / 32 + 0.5 * density  # lifetimes are whole numbers here
        assert lifetimes.share_within(at) == pytest.approx(truth, abs=4 * error + rounding)
    assert lifetimes.quantile(0.5) == pytest.approx(-short * math.log(0.3 / 0.8), rel=0.1)
    assert lifetimes.quantile(0.95) is None


@pytest.mark.parametrize("censored_after", [0.5, 1e9])
def test_the_variance_is_greenwoods_where_weights_are_equal_and_large(
    censored_after: float,
) -> None:
    stats = pytest.importorskip("scipy.stats")
    draw = random.Random(3)
    lives = []
    for _ in range(400):
        life, watched = draw.expovariate(1 / 5000), draw.expovariate(1 / (5000 * censored_after))
        lives.append((min(life, watched), watched < life))
    data = stats.CensoredData.right_censored(
        [bucket_middle(bucket_of(life)) for life, _ in lives], [alive for _, alive in lives]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not defined where all are dead
        interval = stats.ecdf(data).sf.confidence_interval(method="linear")
    weight = 1e6
    steps = lifetimes_of([(life, weight, alive) for life, alive in lives]).steps()
    for step in steps:
        if step.share > 0.05:
            high = float(interval.high.evaluate(step.lifetime))
            if high < 1:
                greenwood = ((high - step.share) / 1.959964) ** 2
                assert step.variance == pytest.approx(greenwood, rel=1e-3)


@pytest.mark.parametrize("part", [0.25, 0.5, 0.9])
def test_intervals_of_quantiles_cover_if_weights_differ_and_some_are_alive(part: float) -> None:
    """Poisson sampling of a fixed population: large blocks are sampled more, and live longer."""
    draw = random.Random(8)
    population = []
    for _ in range(3000):
        chance = draw.choice([0.02, 0.1, 0.5])
        life = draw.expovariate(1 / (1e5 * (1 + chance)))
        watched = draw.expovariate(1 / 4e5)
        population.append((min(life, watched), chance, watched < life))
    truth = lifetimes_of([(life, 1.0, alive) for life, _, alive in population]).quantile(part)
    assert truth is not None
    covered = []
    for _ in range(400):
        taken = [one for one in population if draw.random() < one[1]]
        lifetimes = lifetimes_of([(life, 1 / chance, alive) for life, chance, alive in taken])
        estimate = lifetimes.quantile_estimate(part)
        covered.append(estimate is not None and estimate.low <= truth <= estimate.high)
    assert 0.92 <= sum(covered) / len(covered) <= 0.99


def test_an_interval_has_no_width_where_everything_was_sampled() -> None:
    lifetimes = lifetimes_of([(float(life), 1.0, False) for life in range(60)])
    assert lifetimes.quantile_estimate(0.5) == (29, 29, 29)
    assert lifetimes_of([(5.0, 1.0, True)]).quantile_estimate(0.5) is None
    few = lifetimes_of([(5.0, 100.0, False)] * 3).quantile_estimate(0.5)
    assert few == (5, 0, math.inf)


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
        assert lifetimes.share_within(quantile * (1 - 1e-9) - 1e-9) < part


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
