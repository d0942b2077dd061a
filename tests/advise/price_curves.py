"""Prices for tests, known to a tenth."""

from __future__ import annotations

from poolwise.advise.calibrate import Curve, Price


def price(value: float) -> Price:
    """`value`, give or take a tenth."""
    return Price(value, 0.9 * value, 1.1 * value)


def curve(small: float, large: float) -> Curve:
    """A price at 16 B and at 1 GiB, and a straight line in between, on log-log paper."""
    return Curve((16, 1 << 30), (price(small), price(large)))
