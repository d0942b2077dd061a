"""poolwise export --pprof: where the files go, and what is said of what cannot be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.cli import main
from poolwise.profile import pprof, recording

PROGRAM = """
import sys
from poolwise.profile import child
child.start({"dir": sys.argv[1], "exact": True})
held = [bytes(5000) for _ in range(100)]
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, timeout=60)
    return folder


def export(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["export", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_into_the_recording_s_own_directory(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = export(capsys, recorded, "--pprof")
    assert status == 0
    heap, lifetime = recorded / "heap.pb.gz", recorded / "lifetime.pb.gz"
    assert [line.split(" (")[0] for line in out.splitlines()] == [str(heap), str(lifetime)]
    assert f"({heap.stat().st_size:,} bytes)" in out
    assert heap.read_bytes() == pprof.heap(recording.read(recorded))
    assert lifetime.read_bytes() == pprof.lifetime(recording.read(recorded))


def test_into_a_file_or_another_directory(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heap = pprof.heap(recording.read(recorded))
    assert export(capsys, recorded, "--pprof", tmp_path / "mine.pb.gz")[0] == 0
    assert (tmp_path / "mine.pb.gz").read_bytes() == heap
    assert export(capsys, "--pprof", tmp_path / "new" / "folder", recorded)[0] == 0
    assert (tmp_path / "new" / "folder" / "heap.pb.gz").read_bytes() == heap
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"heap.pb.gz", "lifetime.pb.gz"}


def test_one_sentence_for_what_cannot_be_used(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for words, sentence in (
        ((recorded,), "no format is asked for; give --parquet [FILE|DIR], --pprof [FILE|DIR]"),
        ((tmp_path / "nowhere", "--pprof"), "cannot be read (No such file or directory)"),
        ((recorded, "--pprof", tmp_path / "file"), "file: cannot be written (File exists)"),
        ((recorded, "--pprof", tmp_path / "file" / "x.pb.gz"), "x.pb.gz: cannot be written ("),
    ):
        status, out, err = export(capsys, *words)
        assert (status, out) == (2, "")
        assert sentence in err
        assert err.startswith("poolwise: ")
        assert err.count("\n") == 1
