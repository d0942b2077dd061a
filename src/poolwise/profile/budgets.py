"""Budgets: how much of something a program may come to need, and whether two recordings keep to it.

>>> [budget.text for budget in parse("churn=10%, *:left=1MiB, decode:lifetime=50%")]
['churn=10%', '*:left=1MiB', 'decode:lifetime=50%']
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from poolwise.errors import UsageError
from poolwise.profile.diff import ERROR, QUANTITIES, Comparison, Quantity, Row
from poolwise.profile.estimates import Interval, difference

_SIZES = {"": 1.0, "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_UNITS = {
    "objects": {"": 1.0},
    "bytes": _SIZES | {"kB": 1e3, "MB": 1e6, "GB": 1e9},
    "ns": {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9},
}
_LIMIT = re.compile(r"(\d+(?:\.\d+)?)\s*([^\d\s]*)")


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a quantity may grow: by a share of what it was if `relative`, else in its unit.

    `function`: a pattern of function names, for each such function; None for the whole program.
    """

    text: str
    function: str | None
    quantity: Quantity
    limit: float
    relative: bool

    def rows(self, comparison: Comparison) -> list[Row]:
        """What it is about."""
        if self.function is None:
            return [comparison.program]
        rows = comparison.functions(self.function)
        return [row for row in rows if self.quantity.name in row.pairs]


@dataclass(frozen=True, slots=True)
class Spent:
    """One budget at one place. `beyond`: by how much the limit is exceeded, below 0 if it is not.

    All three are intervals that hold for all budgets of a check at once.
    """

    budget: Budget
    row: Row
    old: Interval
    new: Interval
    beyond: Interval

    @property
    def exceeded(self) -> bool:
        """Whether the whole interval lies beyond the limit."""
        return self.beyond.low > 0


def parse(text: str) -> list[Budget]:
    """Budgets from words: [FUNCTION:]QUANTITY=LIMIT, several with commas.

    Raises:
        UsageError: a word is not of this form, or its quantity or unit is not known.
    """
    return [_parse_one(word.strip()) for word in text.split(",")]


def _parse_one(word: str) -> Budget:
    left, equals, limit = word.partition("=")
    function, colon, name = left.rpartition(":")
    quantity = QUANTITIES.get(name.strip())
    if not equals or quantity is None or (colon and not function.strip()):
        raise UsageError(
            f"budget {word!r}: write [FUNCTION:]QUANTITY=LIMIT, as in churn=10% or *:held=5MiB; "
            f"quantities are {', '.join(QUANTITIES)}"
        )
    found = _LIMIT.fullmatch(limit.strip())
    units = {"%": 0.01, **_UNITS[quantity.unit]}
    if found is None or found[2] not in units:
        known = ", ".join(unit or "a plain number" for unit in units)
        raise UsageError(
            f"budget {word!r}: {limit.strip()!r} is no limit of {name.strip()}; "
            f"give a number of 0 or more and one of: {known}"
        )
    return Budget(
        word,
        function.strip() if colon else None,
        quantity,
        float(found[1]) * units[found[2]],
        found[2] == "%",
    )


def check(comparison: Comparison, budgets: Sequence[Budget]) -> list[Spent]:
    """Each budget at each place that it is about.

    The error of the intervals is divided by the number of places (Bonferroni): if nothing is beyond
    its limit, at most one check in twenty finds anything that is.
    """
    places = [(budget, row) for budget in budgets for row in budget.rows(comparison)]
    error = ERROR / max(len(places), 1)
    spent = []
    for budget, row in places:
        pair = row.pairs[budget.quantity.name]
        old, new = pair.old.interval(error), pair.new.interval(error)
        if budget.relative:
            beyond = difference(new, old, 1 + budget.limit)
        else:
            beyond = Interval(*(change - budget.limit for change in difference(new, old)))
        spent.append(Spent(budget, row, old, new, beyond))
    return spent
