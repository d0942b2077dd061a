"""The sampling formula, simulated: estimates are unbiased and their intervals cover.

The formula is that of `_core/sampler.c`: gaps between samples are exponential with mean R in span,
an allocation of n bytes spans n + 256 + 16 times its whole 16 KiB, and a sample weighs
1 / (1 - exp(-span / R)), as the gap is drawn anew after each.
"""

from __future__ import annotations

import math

import pytest

from poolwise.profile.recording import FREED, Birth, Death, Recording

np = pytest.importorskip("numpy")

SEEDS = 2000
MEAN_BYTES = 65_536.0
SIZES = np.array([24, 600, 4_000, 16_383, 16_384, 70_000, 1 << 20])
SHARES = np.array([0.45, 0.25, 0.15, 0.05, 0.05, 0.04, 0.01])


def span(sizes: np.ndarray) -> np.ndarray:
    return sizes + 256 + ((sizes & ~0x3FFF) << 4)


@pytest.fixture(scope="module")
def trace() -> np.ndarray:
    """Runs of equal sizes, as programs have them, besides a mixture."""
    draw = np.random.default_rng(11)
    mixed = draw.choice(SIZES, 4000, p=SHARES)
    return np.concatenate([mixed, np.repeat(SIZES, 40), draw.choice(SIZES, 4000, p=SHARES)])


@pytest.fixture(scope="module")
def estimates(trace: np.ndarray) -> np.ndarray:
    """Estimated count and its estimated variance, by seed and size."""
    draw = np.random.default_rng(12)
    p = -np.expm1(-span(SIZES) / MEAN_BYTES)
    seen = np.zeros((SEEDS, len(SIZES)))
    left = draw.exponential(MEAN_BYTES, SEEDS)
    for number in np.searchsorted(SIZES, trace):
        left -= span(SIZES[number])
        due = np.flatnonzero(left < 0)
        seen[due, number] += 1
        left[due] = draw.exponential(MEAN_BYTES, len(due))
    return np.stack([seen / p, seen * (1 - p) / p**2], axis=1)


def test_counts_and_bytes_are_unbiased(trace: np.ndarray, estimates: np.ndarray) -> None:
    for number, size in enumerate(SIZES):
        count = estimates[:, 0, number]
        truth = int((trace == size).sum())
        error = count.std() / math.sqrt(SEEDS)
        assert count.mean() == pytest.approx(truth, abs=3 * error, rel=1e-6), size
        held = (count * size).mean()
        assert held == pytest.approx(truth * size, abs=3 * error * size, rel=1e-6), size


def test_total_bytes_are_unbiased(trace: np.ndarray, estimates: np.ndarray) -> None:
    total = estimates[:, 0] @ SIZES
    assert total.mean() == pytest.approx(trace.sum(), abs=3 * total.std() / math.sqrt(SEEDS))


def test_allocations_are_sampled_independently(trace: np.ndarray, estimates: np.ndarray) -> None:
    # The gaps have no memory: the variance of a count is n (1 - p) / p, and nothing is shared.
    p = -np.expm1(-span(SIZES) / MEAN_BYTES)
    for number, size in enumerate(SIZES):
        truth = (trace == size).sum() * (1 - p[number]) / p[number]
        assert estimates[:, 0, number].var() == pytest.approx(truth, rel=0.2, abs=1e-4), size
    together = estimates[:, 0].sum(axis=1).var()
    assert together == pytest.approx(estimates[:, 0].var(axis=0).sum(), rel=0.15)


@pytest.mark.parametrize("of", ["count", "bytes"])
def test_nominal_95_percent_intervals_cover(
    trace: np.ndarray, estimates: np.ndarray, of: str
) -> None:
    value = np.ones(len(SIZES)) if of == "count" else SIZES
    truth = len(trace) if of == "count" else trace.sum()
    total = estimates[:, 0] @ value
    # Horvitz-Thompson: the sum over samples of weight (weight - 1) value².
    half = 1.96 * np.sqrt(estimates[:, 1] @ value**2)
    covered = float((abs(total - truth) <= half).mean())
    assert 0.93 <= covered <= 0.97


def test_blocks_that_grow_are_counted_once() -> None:
    """Each growth of a block that is not sampled yet is a chance, by the size it then has."""
    draw = np.random.default_rng(13)
    sizes = [64, 600]
    while sizes[-1] < 60_000:
        sizes.append(sizes[-1] * 9 // 8)
    blocks, steps = 300, len(sizes)
    chances = -np.expm1(-span(np.array(sizes)) / (4 * MEAN_BYTES))
    counts = []
    for _ in range(SEEDS):
        drawn = draw.random((blocks, steps)) < chances
        taken = drawn.any(axis=1)
        births = [
            Birth(0, 0, 0, sizes[step], 1 / chances[step], *[0] * 6)
            for step in drawn.argmax(axis=1)[taken]
        ]
        last = [step == steps - 1 for step in drawn.argmax(axis=1)[taken]]
        deaths = {
            n: Death(n, 1, 0, 0, sizes[-1], *[0] * 5, FREED, 0 if ended else 1)
            for n, ended in enumerate(last)
        }
        recording = Recording("", births=births, deaths=deaths)
        counts.append(sum(recording.weight(n) for n in range(len(births))))
    error = float(np.std(counts)) / math.sqrt(SEEDS)
    assert float(np.mean(counts)) == pytest.approx(blocks, abs=3 * error)
    assert float(np.std(counts)) < blocks / 5  # and no single one counts for hundreds
