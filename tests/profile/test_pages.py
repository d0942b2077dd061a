"""Pages: what an allocation took afresh from the kernel, and that the sampler adds none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sampled_programs import Record, write_program

from poolwise.profile import recording
from poolwise.program import Instructions, Program, run_child

pytestmark = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="counts the pages of glibc's malloc, which the sanitizer replaces",
)

# More than any hole that start-up leaves in the heap, and less than numpy asks huge pages for.
PAGES = 896
ROUNDS = 20


def test_pages_are_counted_when_they_are_written(record: Record) -> None:
    pytest.importorskip("numpy")
    # glibc's first regime, held: each such block is mapped afresh.
    run = record(
        f"""
        import numpy, os
        from poolwise.profile import child
        child.stop()
        child.start({{"dir": os.environ["RECORDING"], "exact": True}})
        size = {PAGES * 4096}
        for i in range({ROUNDS}):
            block = numpy.empty(size, numpy.uint8)  # untouched
            del block
            block = numpy.empty(size, numpy.uint8)  # half
            block[: size // 2] = 1
            del block
            block = numpy.empty(size, numpy.uint8)  # full
            block[:] = 1
            del block
            block = numpy.zeros(size, numpy.uint8)  # zeros
            del block
            block = bytes(size)  # bytes
            del block
            block = bytearray(size)  # bytearray
            del block
        """,
        env={"MALLOC_MMAP_THRESHOLD_": str(128 << 10)},
    )
    wanted = {"untouched": 0, "half": PAGES / 2, "full": PAGES, "zeros": 0}
    for marker, pages in wanted.items():
        site = run.site(marker, "array", least=PAGES * 4096)
        assert len(site.samples) == ROUNDS
        for sample in site.samples:
            # What a mapping begins with is touched by malloc itself: the header's page.
            assert sample.nonresident_pages == pytest.approx(PAGES, abs=2)
            assert sample.touched_pages == pytest.approx(pages, abs=2)
    for marker in ("bytes", "bytearray"):
        site = run.site(marker, least=PAGES * 4096)
        assert len(site.samples) == ROUNDS
        # Their zeroes come from calloc, and of a fresh mapping it writes none.
        assert site.samples[0].nonresident_pages == pytest.approx(PAGES, abs=2)


def test_a_block_that_is_used_again_takes_no_pages(record: Record) -> None:
    run = record(
        f"""
        for i in range({ROUNDS}):
            block = b"x" * {PAGES * 4096}  # again
            del block
        """,
        env={
            "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
            "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
            "MALLOC_TOP_PAD_": "0",
        },
    )
    samples = run.site("again", least=PAGES * 4096).samples
    assert len(samples) == ROUNDS
    # The heap's top was there in part; the rest came from the kernel once.
    assert samples[0].touched_pages == pytest.approx(samples[0].nonresident_pages, abs=2)
    assert samples[0].touched_pages > PAGES / 4
    assert [s.touched_pages for s in samples[1:]] == [0] * (ROUNDS - 1)
    assert max(s.nonresident_pages for s in samples[1:]) == 0


def test_pages_stay_counted_when_a_block_shrinks(record: Record, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 10_000)
    run = record(
        f"""
        import os
        file = os.open({str(tmp_path / "short")!r}, os.O_RDONLY)
        for i in range({ROUNDS}):
            # Made at the size asked for, then cut to what was there.
            data = os.pread(file, {PAGES * 4096}, 0)  # read
            del data
        """,
        env={"MALLOC_MMAP_THRESHOLD_": str(128 << 10)},
    )
    site = run.site("read", least=10_000)
    assert len(site.samples) == ROUNDS
    for sample in site.samples:
        assert sample.nonresident_pages == pytest.approx(PAGES, abs=2)
        assert sample.touched_pages <= 5  # 10,000 bytes of them were written


@pytest.mark.parametrize("options", [{}, {"mean_bytes": 4096}], ids=["default", "dense"])
def test_the_sampler_adds_no_faults(tmp_path: Path, options: dict[str, object]) -> None:
    program = write_program(
        tmp_path,
        f"""
        import sys
        for i in range(int(sys.argv[1])):
            one = b"x" * {PAGES * 4096}
            other = b"y" * {PAGES * 4096}
            del one, other
        """,
    )
    directory = tmp_path / "recording"
    directory.mkdir()
    env = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "PYTHONHASHSEED": "0"}

    def faults(rounds: int, profile: dict[str, object] | None) -> int:
        """The program's minor faults, without the sampler's own."""
        outcome = run_child(
            Program(str(program), (str(rounds),)), Instructions(profile=profile), env=env
        )
        assert outcome.exit_code == 0
        if profile is None:
            return outcome.minor_faults
        summary = recording.read(directory).summary
        assert summary is not None
        assert summary.own_faults > 0
        return outcome.minor_faults - summary.own_faults

    profile = {"dir": str(directory), **options}
    bare, ours = faults(300, None), faults(300, profile)
    assert bare > 2 * 300 * PAGES
    assert ours == pytest.approx(bare, rel=0.02)
    # What is left is the start's, its imports: none of it grows with the program.
    grown = bare - faults(100, None)
    assert ours - faults(100, profile) == pytest.approx(grown, rel=0.001)
