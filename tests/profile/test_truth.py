"""Programs whose allocations are known: the recording must say just that."""

from __future__ import annotations

import math

import pytest
from sampled_programs import BYTEARRAY_EXTRA, Record


def test_exact_counts_sizes_and_types(record: Record) -> None:
    run = record("""
        class Slotted:
            __slots__ = ("a",)
        class Plain:
            pass
        class Failing(ValueError):
            pass
        kept = []
        for i in range(300):
            a = bytearray(1000)  # bytearrays
            b = bytes(5000)  # bytes
            c = Slotted()  # slotted
            d = Plain()  # plain
            e = Failing(i)  # exceptions
            f = [None] * 64  # lists
            kept.append(bytearray(40_000))  # kept
    """)
    made = run.site("bytes", least=5000)
    assert (made.count, made.type) == (300, "bytes")
    assert {s.size for s in made.samples} == {5033}
    content = [s for s in run.site("bytearrays").samples if s.size == 1000 + BYTEARRAY_EXTRA]
    assert len(content) == 300
    assert sum(s.death_ns is None for s in content) == 1  # the variable holds the last
    for marker, name in [("slotted", "Slotted"), ("plain", "Plain"), ("exceptions", "Failing")]:
        typed = [s for s in run.site(marker).samples if s.type and s.type.name == name]
        assert len(typed) == 300
        assert run.site(marker, "construction").type == name
    assert len([s for s in run.site("lists").samples if s.size == 512]) == 300
    kept = [s for s in run.site("kept").samples if s.size > 40_000]
    assert len(kept) == 300
    assert all(s.death_ns is None for s in kept)
    assert run.recording.summary is not None
    assert run.recording.summary.finished
    assert run.recording.summary.lost == 0


def test_lifetimes_on_the_volume_clock_are_exact(record: Record) -> None:
    run = record("""
        for i in range(200):
            a = bytearray(2999)  # first
            b = bytearray(50_000); del b  # between
            del a
    """)
    lives = {s.life_volume for s in run.site("first").samples if s.size == 2999 + BYTEARRAY_EXTRA}
    # What is allocated until its death: the large one, with its object and nothing else.
    assert min(lives) >= 50_001
    assert max(lives) < 51_500  # some rounds meet a small allocation of the interpreter's


@pytest.mark.parametrize("alive", [1, 2, 7])
def test_concurrency(record: Record, alive: int) -> None:
    run = record(f"""
        from collections import deque
        held = deque(maxlen={alive})
        for i in range(500):
            if len(held) == {alive}:
                held.popleft()
            held.append(bytes(3000))  # made
    """)
    site = run.site("made", least=3000)
    assert site.count == 500
    assert site.concurrency() == alive


def test_a_block_keeps_its_birth_through_realloc(record: Record) -> None:
    run = record("""
        for i in range(50):
            grown = []
            for k in range(5000):
                grown.append(None)  # grown
            del grown
    """)
    site = run.site("grown", least=1)
    # One block a list, from its first growth to its death, at the size it had in the end.
    assert site.count == 50
    assert {s.size >= 40_000 for s in site.samples} == {True}
    assert all(s.death_ns is not None for s in site.samples)


def test_numpy_arrays(record: Record) -> None:
    pytest.importorskip("numpy")
    run = record("""
        import numpy  # an exact recording of so large an import has more stacks than fit
        import os
        from poolwise.profile import child
        child.stop()
        child.start({"dir": os.environ["RECORDING"], "exact": True})
        base = numpy.ones(10_000)
        for i in range(100):
            a = numpy.empty(20_000)  # empty
            a.fill(1.0)
            b = base * 2.0  # temporary
            c = numpy.zeros(30_000)  # zeros
    """)
    for marker, size in [("empty", 160_000), ("temporary", 80_000), ("zeros", 240_000)]:
        site = run.site(marker, "array", least=1000)
        assert (site.count, {s.size for s in site.samples}) == (100, {size})
        assert sum(s.death_ns is None for s in site.samples) == 1


def test_what_an_extension_library_mallocs(record: Record) -> None:
    run = record("""
        import _hashlib
        _hashlib.new("sha512")  # what is made once
        for i in range(40):
            digest = _hashlib.new("sha512")  # digest
            del digest
    """)
    native = run.site("digest", "native")
    assert native.count % 40 == 0
    assert all(s.death_ns is not None for s in native.samples)
    assert 200 < native.bytes / 40 < 2000  # OpenSSL's context and the state in it


def test_threads_and_who_frees(record: Record) -> None:
    run = record("""
        import queue, threading
        handed = queue.SimpleQueue()
        def make():
            for i in range(100):
                handed.put(bytes(4000))  # handed
        def own():
            for i in range(100):
                block = bytes(4000)  # owned
                del block
        workers = [threading.Thread(target=make), threading.Thread(target=own)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        while not handed.empty():
            handed.get()
    """)
    handed = run.site("handed", least=4000).samples
    owned = run.site("owned", least=4000).samples
    assert len(handed) == len(owned) == 100
    assert not any(s.same_thread for s in handed)
    assert all(s.same_thread for s in owned)
    assert {s.thread for s in handed} != {s.thread for s in owned}


def test_freed_by_the_collector(record: Record) -> None:
    run = record("""
        import gc
        gc.disable()
        class Node:
            pass
        for i in range(100):
            node = Node()  # cycles
            node.me = node
        del node
        gc.collect()
        for i in range(100):
            node = Node()  # counted
        del node
    """)
    assert all(s.collected for s in run.site("cycles", "memory").samples if s.type)
    assert not any(s.collected for s in run.site("counted", "memory").samples)
    assert run.recording.summary is not None
    assert run.recording.summary.collections[2] >= 1


@pytest.mark.parametrize("mean_bytes", [2_000, 20_000])
def test_sampled_estimates_of_a_run(record: Record, mean_bytes: int) -> None:
    run = record(
        """
        for i in range(20_000):
            small = bytes(700)  # small
            if i % 20 == 0:
                large = bytes(30_000)  # large
        """,
        mean_bytes=mean_bytes,
        per_second=1e9,
    )
    for marker, count, size in [("small", 20_000, 733), ("large", 1_000, 30_033)]:
        site = run.site(marker, least=size)
        span = size + 256 + (size // 16384 * 16384 << 4)
        p = -math.expm1(-span / mean_bytes)
        assert [s.weight for s in site.samples] == pytest.approx([1 / p] * len(site.samples))
        # Horvitz-Thompson: the variance of the count is n (1 - p) / p.
        assert site.count == pytest.approx(count, abs=5 * math.sqrt(count * (1 - p) / p) + 1e-6)


def test_the_ceiling_leaves_estimates_unbiased(record: Record) -> None:
    run = record(
        """
        for i in range(400_000):
            block = bytes(900)  # made
        """,
        mean_bytes=1000,
        per_second=2000,
    )
    site = run.site("made", least=900)
    weights = [s.weight for s in site.samples]
    assert max(weights) > 4 * min(weights)  # the rate was changed on the way
    spread = math.sqrt(sum(w * (w - 1) for w in weights))
    assert abs(site.count - 400_000) < 5 * spread
    assert len(weights) < 100_000


def test_more_alive_than_the_table_holds(record: Record) -> None:
    run = record("""
        kept = []
        for i in range(60_000):
            kept.append(bytes(600))  # kept
        for i in range(500):
            block = bytes(601)  # after
            del block
    """)
    recording = run.recording
    assert recording.summary is not None
    assert recording.summary.thinned > 10_000
    kept = [s for s in run.site("kept").samples if s.size == 633]
    # A coin for each of the 49,152 or so that were alive at the thinning.
    assert sum(s.weight for s in kept) == pytest.approx(60_000, abs=5 * math.sqrt(49_152))
    assert {s.weight for s in kept} == {1.0, 2.0}
    after = [s for s in run.site("after").samples if s.size == 634]
    assert {s.weight for s in after} == {1.0}
    assert len(after) == 500


def test_a_refused_allocation_blinds_nothing(record: Record) -> None:
    run = record(
        """
        for exponent in (47, 55, 58, 59, 60, 61, 62):
            try:
                bytearray(2 ** exponent)  # refused
            except (MemoryError, OverflowError):
                pass
        for i in range(1000):
            block = bytes(5000)  # after
        """,
        mean_bytes=1000,
        per_second=1e9,
    )
    assert run.site("after", least=5000).count == pytest.approx(1000, rel=0.1)
    assert not [s for site in run.sites("refused") for s in site.samples if s.size > 2**40]
    summary = run.recording.summary
    assert summary is not None
    assert summary.volume < 2**40


def test_a_block_that_is_resized_counts_once(record: Record) -> None:
    source = """
        import os
        file = os.open("/dev/zero", os.O_RDONLY)
        short, out = os.pipe()
        for i in range(20_000):
            os.write(out, b"x" * 700)
            shrunk = os.read(short, 4000)  # shrunk
            os.write(out, b"x" * 100)
            tiny = os.read(short, 3000)  # tiny
            if i % 10 == 0:
                grown = bytearray()
                for k in range(40):
                    grown += b"x" * 99  # grown
    """
    run = record(source, mean_bytes=3000, per_second=1e9)
    for marker, least, count, size in [
        ("shrunk", 500, 20_000, 733),
        ("tiny", 100, 20_000, 133),
        ("grown", 0, 2_000, 3961),
    ]:
        site = run.site(marker, least=least)
        spread = math.sqrt(sum(s.weight * (s.weight - 1) for s in site.samples))
        assert site.count == pytest.approx(count, abs=5 * spread), marker
        if marker != "grown":
            assert site.bytes == pytest.approx(count * size, abs=5 * spread * size), marker
            assert site.count_estimate.low <= site.count <= site.count_estimate.high
