"""Figures as a page needs them: few digits, since what they stand for is an estimate."""

from __future__ import annotations

from collections.abc import Iterable


def short(value: float, digits: int = 4) -> float:
    """A value to so many significant digits, an int where that loses nothing.

    >>> short(1234567.0), short(0.123456), short(2.0), short(1234567.0, 6)
    (1235000, 0.1235, 2, 1234570)
    """
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def shorts(values: Iterable[float], digits: int = 4) -> list[float]:
    """Each to so many significant digits."""
    return [short(value, digits) for value in values]
