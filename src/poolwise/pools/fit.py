"""Size classes that waste least, for the sizes a program really asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from operator import index

from poolwise.errors import UsageError

_LINE, _PAGE = 64, 4096  # as sizeclass.h aligns: up to a page by lines, above by pages
_LARGEST = 1 << 46


def _aligned(size: int) -> int:
    granule = _LINE if size <= _PAGE else _PAGE
    return max(granule, -(-size // granule) * granule)


def fit_classes(
    sizes: Iterable[int], weights: Iterable[float] | None = None, *, count: int = 16
) -> list[int]:
    """The at most `count` capacities for which blocks of these sizes waste the fewest bytes.

    sizes: bytes of each request, as recorded; weights: how often each was asked for (or how long
    it was held: then byte-seconds are saved), 1 each unless given. Capacities are aligned as
    blocks are, rise, and the last holds the largest size. Raises UsageError (a ValueError) for no
    or impossible sizes, weights or counts.

    The optimum, by dynamic programming over the distinct aligned sizes: the cost of one class for
    a run of neighbours satisfies the quadrangle inequality, so each row is found by divide and
    conquer (Yao 1980; Galil and Park 1992), in O(count * m log m) for m distinct sizes.

    >>> from poolwise.pools import fit_classes
    >>> fit_classes([100, 100, 5000, 70_000], count=3)
    [128, 8192, 73728]
    >>> fit_classes([100, 100, 5000, 70_000], count=2)
    [8192, 73728]
    """
    if index(count) < 1:
        raise UsageError(f"count={count} makes no class: give 1 or more")
    asked = [index(size) for size in sizes]
    weighed = [1.0] * len(asked) if weights is None else [float(one) for one in weights]
    if len(weighed) != len(asked):
        raise UsageError(f"{len(asked)} sizes but {len(weighed)} weights: give one for each")
    by_capacity: Counter[int] = Counter()
    for size, weight in zip(asked, weighed, strict=True):
        if not 0 <= size <= _LARGEST:
            raise UsageError(f"no block has {size} bytes: sizes are 0 to 2**46")
        if not 0 <= weight < float("inf"):
            raise UsageError(f"weight {weight} of size {size}: give finite weights of 0 or more")
        by_capacity[_aligned(size)] += weight  # type: ignore[assignment]  # a sum of floats
    if not asked:
        raise UsageError("fit_classes() of no sizes: record some first")
    capacities = sorted(by_capacity)
    # A request wastes its class's capacity less its size. The size itself is the same in every
    # choice of classes: what counts is the capacity, times how much falls on it.
    before = [0.0, *accumulate(float(by_capacity[capacity]) for capacity in capacities)]
    return _least(capacities, before, min(count, len(capacities)))


def _least(capacities: list[int], before: list[float], count: int) -> list[int]:
    """`before[i]` is the weight of the first i capacities."""
    many = len(capacities)

    def cost(first: int, end: int) -> float:
        """Bytes of all that fall on [first, end), in blocks of the last one's capacity."""
        return capacities[end - 1] * (before[end] - before[first])

    # best[end]: the least bytes for the first `end` capacities in the classes so far.
    best = [0.0] + [cost(0, end) for end in range(1, many + 1)]
    starts: list[list[int]] = []  # of each further class: where the last of them begins
    for classes in range(2, count + 1):
        row, start = [float("inf")] * (many + 1), [0] * (many + 1)
        todo = [(classes, many, classes - 1, many - 1)]
        while todo:
            low, high, least, most = todo.pop()
            if low > high:
                continue
            end = (low + high) // 2
            found = min(
                range(least, min(most, end - 1) + 1), key=lambda at: best[at] + cost(at, end)
            )
            row[end], start[end] = best[found] + cost(found, end), found
            todo += [(low, end - 1, least, found), (end + 1, high, found, most)]
        best = row
        starts.append(start)
    chosen, end = [], many
    for start in reversed(starts):
        chosen.append(capacities[end - 1])
        end = start[end]
    return [capacities[end - 1], *reversed(chosen)]
