"""`poolwise export`: the files hold what the tables hold, and what cannot be is said in a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise import profile

EXPORT = [sys.executable, "-m", "poolwise", "export"]
pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    with profile.record(folder / "recording", exact=True):
        kept = [bytes(1000 + n) for n in range(1000)]
        del kept[::2]
    return folder / "recording"


def export(*words: str | Path, code: int = 0) -> str:
    done = subprocess.run([*EXPORT, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("poolwise: ")
    return done.stderr if code else done.stdout


def test_a_directory_holds_both_tables(recording: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as pq

    said = export(recording, "--parquet", tmp_path / "out" / "tables")
    opened = profile.open(recording)
    for table in (opened.samples, opened.sites):
        file = tmp_path / "out" / "tables" / f"{table.name}.parquet"
        assert f"{file} ({file.stat().st_size:,} bytes)" in said
        read = pq.read_table(file)
        assert read.equals(pyarrow.table(table))
        assert read.schema.metadata[b"poolwise.schema"] == b"1"
        assert read.num_rows == len(table) > 0
    assert len(os.listdir(tmp_path / "out" / "tables")) == 2


def test_a_file_holds_each_sample_with_its_site(recording: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    file = tmp_path / "flat.parquet"
    export(recording, "--parquet", file)
    opened = profile.open(recording)
    relation = duckdb.sql(f"SELECT * FROM '{file}'")
    assert relation.columns == [*opened.samples.columns, *opened.sites.columns[1:]]
    sites = list(opened.sites)
    rows = relation.fetchall()
    assert len(rows) == len(opened.samples)
    for row, sample in zip(rows, opened.samples, strict=True):
        assert row[: len(sample)] == sample
        *place, stack = row[len(sample) :]
        *expected, frames = sites[sample.site_id][1:]
        assert place == expected
        assert stack == [frame._asdict() for frame in frames]
    assert os.listdir(tmp_path) == ["flat.parquet"]


def test_a_file_is_replaced(recording: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "flat.parquet").write_text("older")
    export(recording, "--parquet", tmp_path / "flat.parquet")
    assert pq.read_table(tmp_path / "flat.parquet").num_rows > 1000


def test_what_cannot_be_exported_is_said(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no format is asked for; give --parquet" in export(recording, code=2)
    assert "nowhere/samples.log: cannot be read" in export(
        tmp_path / "nowhere", "--parquet", out, code=2
    )
    assert "cannot be read" in export(empty, "--parquet", out, code=2)
    (empty / "samples.log").write_text("PAR1")
    assert "this is not a poolwise recording" in export(empty, "--parquet", out, code=2)
    log = (recording / "samples.log").read_bytes()
    (empty / "samples.log").write_bytes(log[:40])
    assert "ended before anything was recorded" in export(empty, "--parquet", out, code=2)
    assert not out.exists()


def test_a_recording_that_was_cut_gives_what_is_whole(recording: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    log = (recording / "samples.log").read_bytes()
    (tmp_path / "samples.log").write_bytes(log[: len(log) * 9 // 10])
    export(tmp_path, "--parquet", tmp_path / "flat.parquet")
    whole, cut = profile.open(recording).samples, profile.open(tmp_path).samples
    assert pq.read_table(tmp_path / "flat.parquet").num_rows == len(cut)
    alive = [sum(row.death_ns is None for row in table) for table in (cut, whole)]
    assert alive[0] > alive[1] > 0  # the last deaths are what is missing


def test_places_that_cannot_be_written(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "this is a file; name a directory" in export(
        recording, "--parquet", tmp_path / "file", code=2
    )
    for place in (tmp_path / "file" / "below", "/proc/poolwise"):
        assert "cannot be written" in export(recording, "--parquet", place, code=2)
    assert "No such file or directory" in export(
        recording, "--parquet", tmp_path / "missing" / "a.parquet", code=2
    )
    (tmp_path / "dir.parquet").mkdir()
    assert "Is a directory" in export(recording, "--parquet", tmp_path / "dir.parquet", code=2)
    assert sorted(os.listdir(tmp_path)) == ["dir.parquet", "file"]


def test_a_full_disk_leaves_nothing_half_written(recording: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        said = export(recording, "--parquet", disk / "flat.parquet", code=2)
        assert "flat.parquet: cannot be written (No space left on device)" in said
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_without_pyarrow_it_says_what_to_install(recording: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['pyarrow'] = None\n"
            "from poolwise.cli import main\n"
            f"sys.exit(main(['export', {str(recording)!r}, '--parquet', {str(tmp_path / 'o')!r}]))",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'poolwise[parquet]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
