"""One allocation, one sample: large requests fall through to another domain, or to malloc."""

from __future__ import annotations

from collections import Counter

import pytest
from sampled_programs import BYTEARRAY_EXTRA, Record, Run

from poolwise.profile.recording import CONSTRUCTION, MEMORY, NATIVE, NUMPY, OBJECT, RAW

# Python's own allocators below us: what falls through to what differs.
MALLOCS = ["default", "malloc", "debug", "malloc_debug"]
EDGES = [100, 400, 512, 513, 600, 4096, 100_000, 300_000, 2_000_000]


def domains(run: Run, least: int, most: int, function: str) -> Counter[int]:
    """How many samples of such a size were taken while a function of this name was innermost."""
    read = run.recording
    return Counter(
        birth.domain
        for birth in read.births
        if least <= birth.size <= most
        and birth.domain != CONSTRUCTION
        and any(read.code(node).function == function for node in read.stack(birth.stack))
    )


@pytest.mark.parametrize("malloc", MALLOCS)
def test_each_size_once(record: Record, malloc: str) -> None:
    lines = "\n".join(
        f"def size_{size}():\n    for i in range(50): block = bytearray({size - BYTEARRAY_EXTRA})"
        for size in EDGES
    )
    calls = "\n".join(f"size_{size}()" for size in EDGES)
    run = record(lines + "\n" + calls, env={"PYTHONMALLOC": malloc})
    for size in EDGES:
        found = domains(run, max(size - 8, 0), size + 24, f"size_{size}")
        assert sum(found.values()) == 50, (size, found)
        large = size + 24 > 512 and malloc not in ("malloc", "malloc_debug")
        assert set(found) <= ({OBJECT, MEMORY, RAW} if large else {OBJECT, MEMORY})
        if size > 600 and malloc == "default":
            assert set(found) == {RAW}


@pytest.mark.parametrize("malloc", MALLOCS)
def test_growth_across_the_domains_is_one_block(record: Record, malloc: str) -> None:
    run = record(
        """
        def grow():
            for i in range(50):
                block = bytearray(100)
                for size in (300, 600, 5000, 200_000, 3_000_000):
                    block.extend(bytes(size - len(block)))
        grow()
        """,
        env={"PYTHONMALLOC": malloc},
    )
    read = run.recording
    grown = [death for death in read.deaths.values() if death.size > 3_000_000]
    assert len(grown) == 50
    # Each began small: its first size is what it was born with.
    assert {read.births[death.birth].size for death in grown} == {100 + BYTEARRAY_EXTRA}


def test_numpy_buffers_once(record: Record) -> None:
    run = record("""
        import os, numpy
        from poolwise.profile import child
        child.stop()  # without the import, which fills the table of stacks
        child.start({"dir": os.environ["RECORDING"], "exact": True})
        def arrays():
            for i in range(50):
                small = numpy.empty(90, dtype="u1")
                large = numpy.zeros(700_000, dtype="u1")
                copy = large.copy()
        arrays()
    """)
    small, large = domains(run, 90, 90, "arrays"), domains(run, 700_000, 700_000, "arrays")
    assert small[NUMPY] == 50
    assert large[NUMPY] == 100
    assert small[NATIVE] == large[NATIVE] == 0


def test_what_a_library_mallocs_once(record: Record) -> None:
    """zlib's memory is malloc'ed by its library, its objects and results by CPython."""
    run = record(
        """
        import zlib
        def compress():
            for i in range(20):
                packed = zlib.compress(bytes(300_000), 1)
        compress()
        """,
        env={"PYTHONMALLOC": "default"},
    )
    assert domains(run, 300_033, 300_033, "compress") == {RAW: 20}
    native = domains(run, 5000, 10_000_000, "compress")
    assert native[RAW] >= 20  # the input
    # Windows and tables of deflate: by CPython's own domain (zalloc), not malloc as well.
    read = run.recording
    births: dict[tuple[int, int], int] = {}
    for birth in read.births:
        key = (birth.time_ns, birth.size)
        births[key] = births.get(key, 0) + 1
    assert max(births.values()) == 1
    assert native[NATIVE] + native[RAW] == sum(native.values())
