"""Damaged, cut and foreign recordings: one clear sentence, or what is whole of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampled_programs import run_program, write_program

from poolwise.errors import RecordingError
from poolwise.profile import recording, sites
from poolwise.profile.child import END_NAME, LOG_NAME
from poolwise.profile.recording import MAGIC, Recording

PROGRAM = """
    class Point:
        def __init__(self, x):
            self.x = x
    held = []
    for i in range(1000):
        made = bytes(700)
        held.append(Point(i))
        if i % 100 == 0:
            held.clear()
            big = bytearray(100_000)
    raise SystemExit(0)
"""
HEADER = struct.Struct("=IIII")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The log of a program that ended well, of several flushes."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_program(write_program(folder, PROGRAM), folder / "recording", exact=True)
    assert done.returncode == 0, done.stderr
    return (folder / "recording" / LOG_NAME).read_bytes()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def chunks(log: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, end, kind) of each chunk."""
    at = len(MAGIC)
    while at < len(log):
        kind, size, _, _ = HEADER.unpack_from(log, at)
        yield at, at + HEADER.size + size, kind
        at += HEADER.size + size


def chunk(kind: str, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(struct.pack("=II", ord(kind), len(payload))))
    return HEADER.pack(ord(kind), len(payload), crc, 0) + payload


def read(directory: Path, log: bytes) -> Recording | None:
    """What is read of a log, used as the reports use it; None if it is refused in a sentence."""
    (directory / LOG_NAME).write_bytes(log)
    try:
        found = recording.read(directory)
    except RecordingError as refused:
        error = refused
    else:
        for site in sites.find(found)[:5]:
            assert site.count >= 1
            assert site.concurrency() > 0
        return found
    assert str(error).startswith(str(directory / LOG_NAME))
    assert "\n" not in str(error)
    assert error.__suppress_context__ or error.__context__ is None
    return None


def check_prefix(found: Recording, full: Recording) -> None:
    """All that was read is a beginning of the whole."""
    for name in ("births", "nodes", "codes", "types"):
        part = getattr(found, name)
        assert part == getattr(full, name)[: len(part)]
    # A death may be written anew, as alive at a flush and freed later, so not always the last.
    assert found.deaths.keys() <= set(range(len(found.births)))
    assert found.deaths.keys() <= full.deaths.keys()


def test_the_whole_is_read_to_its_end(directory: Path, whole: bytes) -> None:
    found = read(directory, whole)
    assert found is not None
    assert found.cut_bytes == 0
    assert found.summary is not None
    assert found.summary.finished
    assert len(found.births) == found.summary.samples > 2000
    assert len(list(chunks(whole))) > 10


def test_cut_at_each_chunk(directory: Path, whole: bytes) -> None:
    full = read(directory, whole)
    assert full is not None
    summarised, readable = False, 0
    for start, end, kind in chunks(whole):
        found = read(directory, whole[:start])
        assert (found is not None) == summarised
        for cut in (1, HEADER.size + 1):
            part = read(directory, whole[: min(start + cut, end - 1)])
            assert (part is None) == (found is None)
            if found is not None and part is not None:
                assert part.cut_bytes == min(cut, end - 1 - start)
                assert part.births == found.births
        if found is not None:
            readable += 1
            assert found.cut_bytes == 0
            check_prefix(found, full)
        summarised = summarised or kind == ord("S")
    assert summarised
    assert readable > 0


@given(data=st.data())
def test_cut_anywhere(directory: Path, whole: bytes, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(whole)))
    found = read(directory, whole[:size])
    ends = [end for _, end, kind in chunks(whole) if end <= size]
    summaries = [end for _, end, kind in chunks(whole) if end <= size and kind == ord("S")]
    assert (found is not None) == bool(summaries)
    if found is not None:
        assert found.cut_bytes == size - ends[-1]


@given(data=st.data())
def test_flipped_bytes(directory: Path, whole: bytes, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=4))
    damaged = bytearray(whole)
    for place in places:
        damaged[place] ^= data.draw(st.integers(1, 255))
    found = read(directory, bytes(damaged))
    if found is not None:
        # The last word of a chunk's header is reserved and checked by nothing.
        reserved = {start + 12 + k for start, _, _ in chunks(whole) for k in range(4)}
        harmful = places - reserved
        reached = len(whole) - found.cut_bytes
        assert all(place >= reached for place in harmful)
        assert not harmful or found.cut_bytes > 0


@given(st.binary(max_size=400))
def test_rubbish_after_the_magic_line(directory: Path, rubbish: bytes) -> None:
    assert read(directory, MAGIC + rubbish) is None


@given(kind=st.sampled_from("TNBDCOSX"), payload=st.binary(max_size=300))
def test_whole_chunks_of_another_version(
    directory: Path, whole: bytes, kind: str, payload: bytes
) -> None:
    """Rubbish with a good checksum: not damage, but a writer that we do not know."""
    # Before anything else, where no number in it can refer to anything.
    read(directory, MAGIC + chunk(kind, payload))
    if (
        kind in "NBDCOS"
        and len(payload) % {"N": 12, "B": 64, "D": 64, "C": 24, "O": 24, "S": 256}[kind]
    ):
        assert read(directory, whole + chunk(kind, payload)) is None


def test_empty_missing_and_not_ours(directory: Path, tmp_path: Path, whole: bytes) -> None:
    cases = [(b"", "this is not a poolwise recording")]
    cases += [(whole[len(MAGIC) :], "this is not a poolwise recording")]
    cases += [(b"\x7fELF" + bytes(100), "this is not a poolwise recording")]
    cases += [(MAGIC[:-2], "this is not a poolwise recording")]
    cases += [(MAGIC, "the program ended before anything was recorded")]
    for log, words in cases:
        (directory / LOG_NAME).write_bytes(log)
        with pytest.raises(RecordingError, match=words):
            recording.read(directory)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RecordingError, match="cannot be read"):
            recording.read(missing)
    (tmp_path / LOG_NAME).mkdir()
    with pytest.raises(RecordingError, match="cannot be read"):
        recording.read(tmp_path)


def test_what_was_seen_alive_outlives_a_later_thinning() -> None:
    """A record of its state is no end: in a program that was killed it may be the last one."""
    born = recording.Birth(1, 0, 0, 100, 3.0, 0, 1, 0, 0, 0, 0)
    looked_at = recording.Death(0, 5, 0, 0, 100, 0, 1, 0, 0, 0, recording.ALIVE, 0)
    freed = looked_at._replace(kind=recording.FREED)
    for death, weight in ((None, 6.0), (looked_at, 6.0), (freed, 3.0)):
        deaths = {} if death is None else {0: death}
        found = Recording("", births=[born], deaths=deaths)
        found.double_living()
        assert found.weight(0) == weight


@pytest.mark.parametrize("text", ["", "700 10", "a b c d e", "700 10 10 1", "\0\xff"])
def test_a_damaged_account_of_the_collector(tmp_path: Path, whole: bytes, text: str) -> None:
    (tmp_path / END_NAME).write_text(text, encoding="latin-1")
    found = read(tmp_path, whole)
    assert found is not None
    assert found.thresholds == (700, 10, 10)
    (tmp_path / END_NAME).write_text("500 5 6 0 0\n")
    found = read(tmp_path, whole)
    assert found is not None
    assert found.thresholds == (0, 5, 6)
