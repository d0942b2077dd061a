"""Intervals of paired ratios: exact for small counts, and never too narrow."""

from __future__ import annotations

import random
from itertools import product
from statistics import median

import pytest

from poolwise.bench.ratios import Ratio, median_interval


@pytest.mark.parametrize(("count", "cut"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2)])
def test_ends_are_order_statistics(count: int, cut: int) -> None:
    values = [float(value) for value in range(count)]
    random.Random(count).shuffle(values)
    found = median_interval(values)
    assert found == Ratio(median(values), float(cut), float(count - 1 - cut))


@pytest.mark.parametrize("count", [6, 7, 9, 12, 14])
def test_it_holds_the_true_median_by_enumeration(count: int) -> None:
    # Each value lies below the true median (0) or above it with probability one half.
    held = 0
    for signs in product((-1, 1), repeat=count):
        values = [sign * (1 + place) for place, sign in enumerate(signs)]
        found = median_interval([float(value) for value in values])
        held += found.low <= 0 <= found.high
    assert held / 2**count >= 0.95


def test_no_difference_where_it_holds_one() -> None:
    assert Ratio(1.1, 0.9, 1.2).undecided
    assert not Ratio(1.1, 1.05, 1.2).undecided
    assert str(Ratio(0.123456, 0.1, 12.3456)) == "0.123 [0.1, 12.3]"
