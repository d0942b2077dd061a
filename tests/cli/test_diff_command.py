"""`poolwise diff` from outside: what it prints and writes, and its exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from poolwise.profile import expressions, recording
from poolwise.program import Instructions, Program
from poolwise.program.launch import CHILD

SOURCE = """
kept = []

def fill(number):
    return bytearray(number)

def main():
    for number in range(60):
        block = fill(50_000)
        words = [str(number * i) for i in range(20)]
        if KEEP:
            kept.append(block)

main()
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings `old`, `same` and `leaky` of two versions of a program."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, keep in (("old", "False"), ("same", "False"), ("leaky", "True")):
        version = folder / f"source of {name}"
        version.mkdir()
        file = version / "app.py"
        moved = "\n\n\n" if name == "leaky" else ""
        file.write_text(moved + textwrap.dedent(SOURCE).replace("KEEP", keep))
        (folder / name).mkdir()
        profile = {"dir": str(folder / name), "mean_bytes": 2000.0, "per_second": 1e9}
        words = [CHILD, Instructions(profile=profile).encode(), *Program(str(file)).command()]
        subprocess.run([sys.executable, *words], check=True, timeout=120)
        expressions.keep(recording.read(folder / name))
    return folder


def poolwise_diff(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poolwise", "diff", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_the_same(recordings: Path) -> None:
    done = poolwise_diff(
        recordings, "old", "old", "--budget", "churn=0%,held=0,*:left=0", "--budget", "objects=0"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no site differs by more than the sampling explains" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("kept")] == [
        "kept: budget churn=0%",
        "kept: budget held=0",
        "kept: budget *:left=0",
        "kept: budget objects=0",
    ]
    assert done.stdout.endswith("next: nothing: they are as alike as their samples can tell\n")
    assert "\x1b" not in done.stdout


def test_a_leak_exceeds_its_budget(recordings: Path) -> None:
    done = poolwise_diff(
        recordings,
        "old",
        "leaky",
        "--budget",
        "left=1MiB,f*l:left=10%,churn=30%",
        "--json",
        "d.json",
    )
    assert (done.returncode, done.stderr) == (1, "")
    text = done.stdout
    assert "1 site holds more" in text
    assert "fill app.py:8: bytearray(number) (bytearray)" in text
    assert "exceeded: budget left=1MiB: bytes still alive at the end" in text
    assert "exceeded: budget f*l:left=10%: bytes still alive at the end" in text
    assert ": fill app.py\n" in text
    assert "kept: budget churn=30%" in text
    assert text.splitlines()[-1] == "next: poolwise report leaky"
    report = json.loads((recordings / "d.json").read_text())
    assert list(report) == [
        "schema", "old", "new", "per_cpu_second", "error", "program", "sites", "budgets",
    ]  # fmt: skip
    (site,) = [s for s in report["sites"] if s["site"]["function"] == "fill"]
    place = site["site"]
    assert (place["line"], place["old_line"], place["in"]) == (8, 5, "both")
    assert (place["expression"], place["type"]) == ("bytearray(number)", "bytearray")
    left = site["quantities"]["left"]
    assert left["differs"]
    assert left["difference"]["low"] > 2_500_000
    assert left["new"]["value"] == pytest.approx(60 * 50_001, rel=0.02)
    assert left["ratio"]["low"] > 10
    assert left["ratio"]["high"] is None  # of nothing
    assert not site["quantities"]["objects"]["differs"]
    lifetime = site["quantities"]["lifetime_bytes"]
    assert lifetime["differs"]
    assert lifetime["new"]["value"] is None  # most are alive at the end
    assert [budget["exceeded"] for budget in report["budgets"]] == [True, True, False]
    assert report["program"]["site"] is None


def test_the_leak_the_other_way_round_is_none(recordings: Path) -> None:
    done = poolwise_diff(recordings, "leaky", "old", "--budget", "left=0,held=0,peak=0")
    assert done.returncode == 0
    assert "1 site holds less" in done.stdout
    assert "exceeded" not in done.stdout


def test_top_and_rates(recordings: Path) -> None:
    done = poolwise_diff(recordings, "old", "leaky", "--per-cpu-second", "--top", "0")
    assert done.returncode == 0
    assert "1 site holds more, the first 0" in done.stdout
    assert "bytearray(number)" not in done.stdout
    assert "/s" in done.stdout


def test_two_versions_with_the_file_gone(recordings: Path, tmp_path: Path) -> None:
    for name in ("old", "leaky"):
        shutil.copytree(recordings / name, tmp_path / name)
        os.rename(recordings / f"source of {name}", recordings / f"moved {name}")
    try:
        done = poolwise_diff(tmp_path, "old", "leaky")
    finally:
        for name in ("old", "leaky"):
            os.rename(recordings / f"moved {name}", recordings / f"source of {name}")
    assert "fill app.py:8: bytearray(number) (bytearray)" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("old", "gone"), "gone/samples.log: cannot be read"),
        (("old", "old", "--budget", "speed=1"), "budget 'speed=1'"),
        (("old", "old", "--top", "few"), "'few' is no number of sites"),
        (("old", "old", "--json", "no/such/place"), "no/such/place: cannot be written"),
    ],
)
def test_what_cannot_be_used(recordings: Path, words: tuple[str, ...], said: str) -> None:
    done = poolwise_diff(recordings, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recording_that_was_cut_short(recordings: Path, tmp_path: Path) -> None:
    shutil.copytree(recordings / "old", tmp_path / "cut")
    log = tmp_path / "cut" / "samples.log"
    log.write_bytes(log.read_bytes()[:-100])  # the last summary
    done = poolwise_diff(tmp_path, str(recordings / "old"), "cut")
    if done.returncode == 2:
        assert "ended before anything was recorded" in done.stderr
    else:
        assert "note: NEW was cut short" in done.stdout
    log.write_bytes(b"something else")
    done = poolwise_diff(tmp_path, str(recordings / "old"), "cut")
    assert done.returncode == 2
    assert "this is not a poolwise recording" in done.stderr
