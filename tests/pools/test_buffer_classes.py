"""Size classes of a BufferPool: fitted to recorded sizes, and how much of them is used."""

from __future__ import annotations

import ctypes
import itertools
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import poolwise
from poolwise import BufferPool
from poolwise.pools import fit_classes

MIB = 1 << 20


def pool(**options: Any) -> BufferPool:
    return BufferPool(**{"max_bytes": 64 * MIB, "trim_seconds": None, **options})


def capacities(buffers: BufferPool) -> list[int]:
    return [one.capacity for one in buffers.stats().classes]


# ---- given classes


def test_a_size_takes_the_smallest_class_that_holds_it() -> None:
    given_classes = [128, 1024, 4096, 12288, 16384, MIB]
    buffers = pool(classes=given_classes)
    sizes = [0, 1, 127, 128, 129, 1024, 1025, 4096, 4097, 12288, 12289, 16384, 16385, MIB]
    for size in sizes:
        buffer = buffers.acquire(size)
        fitting = min(one for one in given_classes if one >= size)
        assert buffers.stats().out_bytes == fitting
        memoryview(buffer)[:] = b"x" * size
        buffer.release()
        buffers.clear()


@given(
    st.lists(st.integers(1, 100_000), min_size=1, max_size=30),
    st.lists(st.integers(0, 100_000), min_size=1, max_size=30),
)
def test_any_classes(classes: list[int], sizes: list[int]) -> None:
    buffers = pool(classes=classes)
    aligned = sorted(
        {-(-one // 64) * 64 if one <= 4096 else -(-one // 4096) * 4096 for one in classes}
    )
    for size in sizes * 2:  # the second time they are hits
        buffer = buffers.acquire(size)
        memoryview(buffer)[:] = b"x" * size
        stats = buffers.stats()
        if size > max(classes):
            assert stats.fallback_bytes >= size
        else:
            assert stats.out_bytes == min(one for one in aligned if one >= size)
        buffer.release()
    assert set(capacities(buffers)) <= set(aligned)


def test_unaligned_unsorted_and_double_classes() -> None:
    buffers = pool(classes=[5000, 100, 100, 101])
    for size in (100, 5000):
        buffers.acquire(size).release()
    assert capacities(buffers) == [128, 8192]
    with buffers.acquire(5001):
        assert buffers.stats().fallbacks_too_big == 1  # max_size is the largest that was given


def test_max_size_beside_classes_has_a_class() -> None:
    buffers = pool(classes=[100], max_size=MIB)
    buffers.acquire(129).release()
    assert capacities(buffers) == [MIB]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"classes": []}, ValueError, "classes= has 0 capacities: give 1 to 1024"),
        ({"classes": [64] * 1025}, ValueError, "classes= has 1025 capacities"),
        ({"classes": [0]}, ValueError, "a size in classes=0 is out of range"),
        ({"classes": [1 << 47]}, ValueError, "is out of range"),
        ({"classes": [64.0]}, TypeError, "a size in classes=64.0 is not an int"),
        ({"classes": 64}, TypeError, "classes=64 is not a sequence of ints"),
        ({"classes": [64, 8192], "max_size": 4096}, ValueError, "has 8192, which is above max_s"),
        ({"classes": [MIB], "max_bytes": 4096}, ValueError, "max_bytes=4096 cannot hold one"),
    ],
)
def test_bad_classes(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        pool(**arguments)
    assert isinstance(caught.value, poolwise.PoolwiseError)


# ---- fitted classes


def wasted(classes: list[int], sizes: list[int], weights: list[float]) -> float:
    return sum(
        weight * (min(one for one in classes if one >= size) - size)
        for size, weight in zip(sizes, weights, strict=True)
    )


SIZES = st.lists(st.integers(0, 40_000), min_size=1, max_size=9)


@given(SIZES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_choice_of_classes_wastes_less(sizes: list[int], count: int, rng: random.Random) -> None:
    weights = [float(rng.randrange(6)) for _ in sizes]
    fitted = fit_classes(sizes, weights, count=count)
    assert fitted == sorted(set(fitted))
    assert len(fitted) <= count
    assert fitted[-1] >= max(sizes)
    possible = sorted({fit_classes([size])[0] for size in sizes})
    best = min(
        wasted([*some, possible[-1]], sizes, weights)
        for taken in range(min(count, len(possible)))
        for some in itertools.combinations(possible[:-1], taken)
    )
    assert wasted(fitted, sizes, weights) == pytest.approx(best)


def waste_of(buffers: BufferPool, sizes: list[int]) -> int:
    total = 0
    for size in sizes:
        with buffers.acquire(size):
            total += buffers.stats().out_bytes - size
    return total


def test_as_many_fitted_classes_waste_less_than_the_standard_ones() -> None:
    rng = random.Random(7)
    sizes = [int(rng.lognormvariate(10, 1.2)) for _ in range(2000)]
    standard = pool(max_size=max(sizes))
    waste = waste_of(standard, sizes)
    count = len(capacities(standard))
    fitted = pool(classes=fit_classes(sizes, count=count))
    assert waste_of(fitted, sizes) < 0.8 * waste
    assert len(capacities(fitted)) <= count


def test_blocks_of_fitted_classes_have_their_capacities() -> None:
    sizes = [70, 3000, 5000, 5100, 70_000]
    fitted = fit_classes(sizes)
    buffers = pool(classes=fitted)
    for size in sizes:
        buffers.acquire(size).release()
    assert capacities(buffers) == fitted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "fit_classes() of no sizes"),
        (([1], [1, 2]), "1 sizes but 2 weights"),
        (([-1],), "no block has -1 bytes"),
        (([1], [float("nan")]), "weight nan of size 1"),
        (([1], [-1]), "weight -1.0 of size 1"),
    ],
)
def test_bad_sizes(arguments: Any, message: str) -> None:
    with pytest.raises(poolwise.UsageError, match=re.escape(message)):
        fit_classes(*arguments)


def test_bad_count() -> None:
    with pytest.raises(poolwise.UsageError, match="count=0 makes no class"):
        fit_classes([1], count=0)


# ---- the used part


def test_used_is_all_until_told() -> None:
    buffers = pool(max_size=MIB)
    with buffers.acquire(1000) as buffer:
        assert buffer.used == 1000
        buffer.used = 10
        assert buffer.used == 10
    with buffers.acquire(1000) as buffer:
        assert buffer.used == 1000
    (one,) = buffers.stats().classes
    assert (one.leases_told, one.asked_bytes, one.used_bytes) == (1, 1000, 10)
    assert one.used_ratio == 0.01


def test_use_is_counted_once_a_lease() -> None:
    buffers = pool(max_size=MIB)
    for end in ("release", "drop", "view"):
        buffer = buffers.acquire(1000)
        buffer.used = 10
        buffer.used = 400
        if end == "release":
            buffer.release()
        view = memoryview(buffer) if end == "view" else None
        del buffer, view
    (one,) = buffers.stats().classes
    assert (one.leases_told, one.used_bytes, one.out, one.idle) == (3, 1200, 0, 1)


def test_badly_used_classes_are_named() -> None:
    buffers = pool(max_size=MIB)
    for _ in range(7):
        with buffers.acquire(64 << 10) as buffer:
            buffer.used = 3000
    assert not buffers.stats().classes[0].badly_used
    with buffers.acquire(64 << 10) as buffer:
        buffer.used = 3000
    with buffers.acquire(100) as buffer:
        buffer.used = 100
    assert [one.badly_used for one in buffers.stats().classes] == [False, True]
    with buffers.acquire(64 << 10) as buffer:
        buffer.used = 32 << 10
    assert not any(one.badly_used for one in buffers.stats().classes)


def test_use_of_what_is_outside_is_not_counted() -> None:
    buffers = pool(max_size=1000)
    with buffers.acquire(5000) as buffer:
        buffer.used = 5
        assert buffer.used == 5
    del buffer
    assert buffers.stats().classes == ()
    assert buffers.acquire(1000).used == 1000  # in the same buffer


def test_bad_use() -> None:
    buffer: Any = pool(max_size=MIB).acquire(10)
    for value in (-1, 11, 1 << 100):
        with pytest.raises(poolwise.UsageError, match="this buffer has 10 bytes; give 0 to 10"):
            buffer.used = value
    with pytest.raises(poolwise.UsageTypeError, match=r"used=1\.0: give an int"):
        buffer.used = 1.0
    with pytest.raises(poolwise.UsageTypeError, match="used=None"):
        del buffer.used
    assert buffer.used == 10
    buffer.release()
    with pytest.raises(poolwise.BufferReleased):
        buffer.used = 1
    with pytest.raises(poolwise.BufferReleased):
        _ = buffer.used


# ---- huge pages


def advised(at: int) -> bool:
    """Whether the mapping of this address was advised to have huge pages (smaps: VmFlags hg)."""
    within = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            low, high = (int(part, 16) for part in first.split("-"))
            within = low <= at < high
        elif within and first == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError("no mapping holds this address")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="this kernel has no transparent huge pages",
)
def test_huge_pages_where_asked() -> None:
    def address(buffer: poolwise.Buffer) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))

    plain = pool(max_size=8 * MIB)
    huge = pool(max_size=8 * MIB, huge_pages=True)
    large = [huge.acquire(size * MIB) for size in (2, 4, 8)]
    assert all(advised(address(buffer)) for buffer in large)
    assert all(address(buffer) % (2 * MIB) == 0 for buffer in large)
    small = huge.acquire(MIB)
    assert not advised(address(small))
    ordinary = plain.acquire(4 * MIB)
    assert not advised(address(ordinary))
    memoryview(large[1])[:] = b"x" * (4 * MIB)
    large.clear()
    assert huge.clear() == 14 * MIB


def test_huge_pages_are_a_wish() -> None:
    """With or without them the bytes are there."""
    buffers = pool(max_size=4 * MIB, huge_pages=True)
    with buffers.acquire(3 * MIB) as buffer:
        memoryview(buffer)[:] = b"x" * (3 * MIB)
        assert memoryview(buffer)[-1] == ord("x")
