"""BufferPool(checks=…): a write to a block that nobody has is seen at its next hand-out."""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import pytest

import poolwise
from poolwise import Buffer, BufferPool

POISON = 0xDB


def pool(checks: Any, **options: Any) -> BufferPool:
    return BufferPool(
        max_size=1 << 20, max_bytes=16 << 20, trim_seconds=None, checks=checks, **options
    )


def address(buffer: Buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def write_late(buffers: BufferPool, size: int, offset: int) -> None:
    """Take a block, give it back, and write to it after that."""
    buffer = buffers.acquire(size)
    at = address(buffer)
    buffer.release()
    ctypes.memset(at + offset, 7, 1)


@pytest.mark.parametrize("size", [1, 64, 5000, 1 << 20])
@pytest.mark.parametrize("clear", ["never", "acquire", "release"])
def test_strict_sees_a_late_write(size: int, clear: str) -> None:
    buffers = pool("strict", name="frames", clear=clear)
    write_late(buffers, size, size - 1)
    message = f"byte {size - 1} of a block of .* bytes of buffer pool 'frames' was written"
    with pytest.warns(poolwise.PoolMisuseWarning, match=message):
        assert len(buffers.acquire(size)) == size
    assert buffers.stats().corrupted == 1


def test_one_warning_a_pool_and_a_count_of_all() -> None:
    buffers = pool("strict")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            write_late(buffers, 100, 3)
            buffers.acquire(100).release()
    assert len(caught) == 1
    assert buffers.stats().corrupted == 4


def test_the_acquirer_is_innocent() -> None:
    buffers = pool("strict")
    write_late(buffers, 100, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unraised: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.unraisablehook", unraised.append)
            buffer = buffers.acquire(100)
    assert len(buffer) == 100
    assert [type(one.exc_value) for one in unraised] == [poolwise.PoolMisuseWarning]


@pytest.mark.parametrize("checks", ["sample", "strict"])
@pytest.mark.parametrize("clear", ["never", "acquire", "release"])
def test_honest_use_is_not_accused(checks: str, clear: str) -> None:
    buffers = pool(checks, clear=clear)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out: list[Buffer] = []
        for step in range(4000):
            buffer = buffers.acquire(step * 37 % 6000)
            if clear != "never":
                assert bytes(buffer) == bytes(len(buffer))
            memoryview(buffer)[:] = bytes([step % 251]) * len(buffer)
            out.append(buffer)
            if step % 3 == 0:
                out.pop(step % len(out)).release()
            if step % 7 == 0:
                out.clear()
            if step % 400 == 0:
                buffers.trim()
    assert buffers.stats().corrupted == 0


@pytest.mark.parametrize("size", [100, 5000])
def test_a_block_given_back_to_the_kernel_starts_afresh(size: int) -> None:
    buffers = pool("strict")
    keeper, other = buffers.acquire(size), buffers.acquire(size)  # the slab stays
    other.release()
    buffers.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = buffers.acquire(size)
    assert buffers.stats().corrupted == 0
    del keeper, again


def test_strict_fills_what_it_gets_back() -> None:
    buffers = pool("strict")
    with buffers.acquire(5000) as buffer:
        memoryview(buffer)[:] = b"s" * 5000
    assert bytes(buffers.acquire(5000)) == bytes([POISON]) * 5000


def sampled(buffers: BufferPool, writes: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(writes):
            write_late(buffers, 100, 3)
        return buffers.stats().corrupted


def test_sample_sees_one_in_128() -> None:
    seen = sampled(pool("sample"), 128 * 50)
    assert 40 <= seen <= 60


def test_sample_looks_beside_other_classes() -> None:
    buffers = pool("sample")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(128 * 50):
            buffers.acquire(3000).release()
            write_late(buffers, 100, 3)
            with buffers.acquire(200):
                buffers.acquire(300).release()
    assert buffers.stats().corrupted > 10


def test_off_looks_at_nothing() -> None:
    assert sampled(pool("off"), 300) == 0


def test_the_environment_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLWISE_CHECKS", "strict")
    assert sampled(pool(None), 3) == 2
    assert sampled(pool("off"), 3) == 0
    monkeypatch.setenv("POOLWISE_CHECKS", "lax")
    with pytest.raises(poolwise.UsageError, match="POOLWISE_CHECKS='lax' is no policy"):
        pool(None)
    with pytest.raises(poolwise.UsageError, match="checks='lax' is no policy"):
        pool("lax")
