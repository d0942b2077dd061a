"""`poolwise.profile`: start, stop, record, open, and the directory they write into."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from poolwise import PoolwiseError, UsageError, profile
from poolwise.errors import RecordingError
from poolwise.profile import child, meta
from poolwise.profile.directory import fresh_name, is_recording, prepare

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def blocks(directory: str | Path, size: int) -> list[profile.tables.SampleRow]:  # type: ignore[name-defined]
    return [row for row in profile.open(directory).samples if row.size_bytes >= size]


def test_a_block_is_recorded(tmp_path: Path) -> None:
    before = [bytes(123_456)]
    with profile.record(tmp_path / "a", exact=True) as directory:
        during = [bytes(123_457) for _ in range(3)]
        del during[0]
    after = [bytes(123_458)]
    assert directory == str(tmp_path / "a")
    found = blocks(directory, 123_456)
    assert [row.death_ns is None for row in found] == [False, True, True]
    assert len(before + during + after) == 4


def test_it_ends_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyError), profile.record(tmp_path / "a"):
        raise KeyError
    assert child.recording_into() is None
    summary = profile.open(tmp_path / "a").recording.summary
    assert summary is not None
    assert summary.finished


def test_one_after_the_other_but_not_two_at_once(tmp_path: Path) -> None:
    first = profile.start(tmp_path / "a", exact=True)
    try:
        with pytest.raises(RecordingError, match=r"recorded already, into .*/a: stop\(\) first"):
            profile.start(tmp_path / "b")
        assert not (tmp_path / "b").exists()
    finally:
        profile.stop()
    profile.stop()  # nothing to end
    with profile.record(tmp_path / "b", exact=True) as second:
        kept = bytes(123_456)
    assert (len(blocks(first, 123_456)), len(blocks(second, 123_456))) == (0, 1)
    assert kept


def test_without_a_name_it_is_a_fresh_one_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/app.py", "more"])
    with profile.record() as first, pytest.raises(RecordingError):
        profile.start()
    with profile.record() as second:
        pass
    assert sorted(os.listdir()) == sorted({first, second})
    assert first.startswith("poolwise-app-2")
    assert fresh_name("dir/").startswith("poolwise-dir-2")
    assert fresh_name("").startswith("poolwise-python-2")


@pytest.mark.parametrize("mean_bytes", [0, -1, float("nan"), float("inf"), 1e15])
def test_a_rate_that_is_none(tmp_path: Path, mean_bytes: float) -> None:
    with pytest.raises(UsageError, match=r"mean_bytes=.*: give the bytes between two samples"):
        profile.start(tmp_path / "a", mean_bytes=mean_bytes)
    assert not (tmp_path / "a").exists()


def test_the_rate_is_heeded(tmp_path: Path) -> None:
    counts = []
    for mean_bytes in (2000, 2_000_000):
        with profile.record(tmp_path / str(mean_bytes), mean_bytes=mean_bytes) as directory:
            for _ in range(3000):
                bytes(1000)
        opened = profile.open(directory)
        assert opened.meta.mean_bytes == mean_bytes
        counts.append(len(opened.samples))
    assert counts[0] > 20 * counts[1]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match=r"something else than a recording \(letter.txt\)"):
            profile.start(foreign, force=force)
    assert (foreign / "letter.txt").read_text() == "mine"
    with profile.record(tmp_path / "older"):
        pass
    (tmp_path / "older" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds a recording; name a new one, or write it anew"):
        profile.start(tmp_path / "older")
    with profile.record(tmp_path / "older", exact=True, force=True) as directory:
        kept = bytes(123_456)
    assert blocks(directory, 123_456)
    assert (tmp_path / "older" / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="this is a file; name a directory"):
        profile.start(tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot be written \(Not a directory\)"):
        profile.start(tmp_path / "file" / "below")
    assert kept


@contextmanager
def small_disk(at: Path, *, full: bool) -> Iterator[Path]:
    """A directory in a file system of 1 MiB, of which all or nothing is taken."""
    at.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(at)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        (at / "recording").mkdir()
        with suppress(OSError), open(at / "filler", "wb", buffering=0) as filler:
            while full:
                filler.write(bytes(4096))
        yield at / "recording"
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_a_full_disk_is_said_at_the_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", full=True) as directory:
        with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\)"):
            profile.start(directory)
        assert child.recording_into() is None


def test_a_disk_that_fills_up_is_said_at_the_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", full=False) as directory:
        profile.start(directory, exact=True)
        kept = [[n] for n in range(20_000)]
        with pytest.raises(RecordingError, match=r"cut short \(No space left on device\)"):
            profile.stop()
        assert child.recording_into() is None
        assert len(kept) == 20_000
        assert len(profile.open(directory).samples) > 100  # what there was room for


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UsageError, match=r"cannot be written \(Permission denied\)"):
        profile.start(tmp_path / "a")


def test_a_read_only_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        profile.start("/proc/poolwise")


@pytest.mark.parametrize("name", ["samples.log", "meta.json", "end.txt"])
def test_a_name_of_ours_that_is_a_directory(tmp_path: Path, name: str) -> None:
    prepare(tmp_path / "a")
    (tmp_path / "a" / "samples.log").write_bytes(b"poolwise recording 1\n")
    (tmp_path / "a" / name).unlink(missing_ok=True)
    (tmp_path / "a" / name).mkdir()
    with pytest.raises(UsageError, match=r"Is a directory|something else"):
        prepare(tmp_path / "a", force=True)


def test_the_child_of_a_fork_may_record_itself(tmp_path: Path, run_python: RunPython) -> None:
    done = run_python(
        f"""
        import os
        from poolwise import profile
        profile.start({str(tmp_path / "parent")!r}, exact=True)
        if os.fork() == 0:
            with profile.record({str(tmp_path / "child")!r}, exact=True):
                kept = bytes(123_456)
            os._exit(0)
        os.wait()
        kept = bytes(234_567)
        profile.stop()
        print(os.getpid())
        """
    )
    (of_parent,) = blocks(tmp_path / "parent", 123_456)
    (of_child,) = blocks(tmp_path / "child", 123_456)
    assert of_parent.process == int(done.stdout) != of_child.process > 0


def test_importing_it_costs_next_to_nothing(run_python: RunPython) -> None:
    names = run_python(
        """
        import sys
        import poolwise
        before = set(sys.modules)
        import poolwise.profile
        print(*sorted(set(sys.modules) - before))
        """
    ).stdout.split()
    assert names == ["poolwise.profile"]


def test_recording_imports_no_other_package_and_reading_neither(
    tmp_path: Path, run_python: RunPython
) -> None:
    names = run_python(
        f"""
        import sys
        before = set(sys.modules)
        from poolwise import profile
        with profile.record({str(tmp_path / "a")!r}, exact=True):
            kept = bytes(100_000)
        recording = set(sys.modules)
        opened = profile.open({str(tmp_path / "a")!r})
        opened.samples.__arrow_c_stream__(), opened.sites.__arrow_c_stream__()
        print(*sorted(recording - before))
        print(*sorted(set(sys.modules) - before))
        """
    ).stdout.splitlines()
    recording, reading = (set(line.split()) for line in names)
    own = {"poolwise", *sys.stdlib_module_names}
    foreign = {name.partition(".")[0] for name in reading} - own
    assert not {name for name in foreign if not name.startswith("_sysconfigdata")}
    assert not {"json", "pathlib", "subprocess", "ctypes"} & recording


PROGRAM_LINES = """
import sys
from poolwise import profile
with profile.record(sys.argv[1]):
    pass
"""


def account(directory: Path) -> meta.Meta:
    done = meta.read(directory)
    assert done.python == sys.version.split()[0]
    return done


def test_the_words_of_the_program(tmp_path: Path) -> None:
    app = tmp_path / "äpp.py"
    app.write_text(PROGRAM_LINES)
    strange = b'\xff\xf0\x9f\x90\x8d"\\\n'
    here = str(tmp_path / "r1")
    subprocess.run([sys.executable, "-X", "dev", app, here, "-m", strange], check=True)
    assert account(tmp_path / "r1").program == (str(app), here, "-m", os.fsdecode(strange))
    (tmp_path / "module.py").write_text(PROGRAM_LINES)
    here = str(tmp_path / "r2")
    subprocess.run([sys.executable, "-m", "module", here], check=True, cwd=tmp_path)
    assert account(tmp_path / "r2").program == ("-m", "module", here)
    here = str(tmp_path / "r3")
    subprocess.run([sys.executable, "-c", PROGRAM_LINES, here], check=True, cwd=tmp_path)
    assert account(tmp_path / "r3").program == ("-c", PROGRAM_LINES, here)


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, 1, -5, 1 << 60, 0.5, 1e-9, "", 'a"b\\c\n\x00é€🐍\udcff', [], [1, ["x"]],
     {"a": {"b": None}, "c": (1, True)}],
)  # fmt: skip
def test_its_json_is_json(value: object) -> None:
    assert json.dumps(json.loads(child._json(value))) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("\xff", "damaged"),
        ('{"schema": 2}', "another version of poolwise"),
        ("{}", "another version of poolwise"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 1, "program": 5}', "damaged"),
    ],
)
def test_a_damaged_account(tmp_path: Path, text: str, words: str) -> None:
    with profile.record(tmp_path / "a"):
        pass
    (tmp_path / "a" / "meta.json").write_text(text, encoding="latin-1")
    with pytest.raises(RecordingError, match=rf"meta.json: .*{words}") as raised:
        profile.open(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_more_is_added_to_the_account_whole_or_not_at_all(tmp_path: Path) -> None:
    with profile.record(tmp_path / "a"):
        pass
    before = meta.read(tmp_path / "a")
    usage = {"user_seconds": 1.0, "system_seconds": 0.5, "minor_faults": 3}
    meta.add(tmp_path / "a", outcome=usage, more="ü")
    after = meta.read(tmp_path / "a")
    assert after.outcome == usage
    assert after.added == {"more": "ü"}
    assert after.started_ns == before.started_ns > 0
    meta.add(tmp_path / "a", outcome={"user_seconds": "1"})
    with pytest.raises(RecordingError, match="damaged"):
        meta.read(tmp_path / "a")
    with pytest.raises(RecordingError, match=r"cannot be written \(No such file or directory\)"):
        meta.add(tmp_path / "nowhere", more=1)


@pytest.mark.parametrize("what", ["empty directory", "no directory", "a file", "foreign log"])
def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a"
    if what == "a file":
        path.write_text("x")
    elif what != "no directory":
        path.mkdir()
    if what == "foreign log":
        (path / "samples.log").write_text("something else")
    with pytest.raises(PoolwiseError) as raised:
        profile.open(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert not is_recording(path)
