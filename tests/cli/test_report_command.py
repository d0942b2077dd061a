"""`poolwise report`: what it writes, and what cannot be used, in one sentence each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.profile import child
from poolwise.profile.child import LOG_NAME


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "recording"
    directory.mkdir()
    child.start({"dir": str(directory), "exact": True})
    kept = [bytes(1000) for _ in range(100)]
    child.stop()
    assert len(kept) == 100
    return directory


def report(*words: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "poolwise", "report", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_page_stands_beside_the_recording(recorded: Path, tmp_path: Path) -> None:
    code, output, errors = report(str(recorded), folder=tmp_path)
    assert (code, errors) == (0, "")
    page = recorded.with_name("recording.html")
    assert output.startswith(str(page))
    text = page.read_text("utf-8")
    assert text.rstrip().endswith("</html>")
    page.unlink()
    # By a relative name, too, even that of the directory one is in.
    assert report(".", folder=recorded)[0] == 0
    assert page.read_text("utf-8") == text


def test_the_data_is_that_of_the_page(recorded: Path, tmp_path: Path) -> None:
    code, output, _ = report(
        str(recorded), "-o", "page.html", "--json", "page.json", folder=tmp_path
    )
    assert code == 0
    assert output.startswith("page.html (")
    data = json.loads((tmp_path / "page.json").read_text())
    assert data["schema"] == 1
    text = (tmp_path / "page.html").read_text("utf-8")
    inside = text.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(inside) == data
    assert any(row["alive_bytes"] >= 100_000 for row in data["sites"])


def test_without_prices_the_page_says_how_to_get_verdicts(recorded: Path, tmp_path: Path) -> None:
    code, _, _ = report(
        str(recorded), "-o", "p.html", "--json", "p.json", folder=tmp_path,
        XDG_CACHE_HOME=str(tmp_path),
    )  # fmt: skip
    assert code == 0
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["advice"] is None
    assert "poolwise calibrate" in data["no_advice"]


def test_a_cut_recording_has_a_page_that_says_so(recorded: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.mkdir()
    log = (recorded / LOG_NAME).read_bytes()
    (cut / LOG_NAME).write_bytes(log + log[-50:])
    assert report(str(cut), "--json", "cut.json", folder=tmp_path)[0] == 0
    notes = json.loads((tmp_path / "cut.json").read_text())["notes"]
    assert "Cut recording" in [note["title"] for note in notes]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("nowhere", "nowhere/samples.log: cannot be read"),
        ("foreign", "foreign/samples.log: this is not a poolwise recording"),
        ("empty", "empty/samples.log: the program ended before anything was recorded"),
        ("good -o folder", "folder: this is a directory; name a file in it"),
        ("good -o no/page.html", "no/page.html: there is no directory"),
        ("good -o /dev/full", "/dev/full: cannot be written (No space left on device)"),
        ("good --json no/page.json", "no/page.json: there is no directory"),
        ("", "the following arguments are required: RECORDING"),
    ],
)
def test_what_cannot_be_used(recorded: Path, tmp_path: Path, words: str, sentence: str) -> None:
    for name, log in (("foreign", b"something else"), ("empty", b"poolwise recording 1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / LOG_NAME).write_bytes(log)
    (tmp_path / "folder").mkdir()
    (tmp_path / "good").symlink_to(recorded)
    code, output, errors = report(*words.split(), folder=tmp_path)
    assert (code, output) == (2, "")
    assert sentence in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors
    assert Path("/dev/full").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_to(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, errors = report(str(recorded), "-o", "locked/page.html", folder=tmp_path)
    assert code == 2
    assert "locked/page.html: cannot be written (no permission)" in errors
