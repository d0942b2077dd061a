"""`poolwise advise RECORDING`: what is judged later is judged as it would have been at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.advise import session
from poolwise.advise.calibrate import Calibration
from poolwise.advise.verdicts import DONT, Advice
from poolwise.errors import RecordingError
from poolwise.profile import meta, recording
from poolwise.program import Program

POOLWISE = [sys.executable, "-m", "poolwise"]
CHURN = """\
def work():
    for n in range(3000):
        a = bytearray(300_000)
        a[0] = 1
work()
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A program's recording, made as `poolwise profile` makes it."""
    (tmp_path / "app.py").write_text(CHURN)
    (tmp_path / "recording").mkdir()
    outcome, error = session.record(
        Program(str(tmp_path / "app.py"), ("--its", "own")), str(tmp_path / "recording")
    )
    assert (outcome.exit_code, error) == (0, None)
    return tmp_path / "recording"


def test_the_figures_are_the_programs_own(recorded: Path, prices: Calibration) -> None:
    about, advice = session.advice_on(str(recorded), prices)
    summary = recording.read(recorded).summary
    assert summary is not None
    assert about.outcome is not None
    used = about.outcome["user_seconds"] + about.outcome["system_seconds"]
    assert advice.cpu_seconds == pytest.approx(used - summary.overhead_seconds)
    assert advice.page_faults == about.outcome["minor_faults"] - summary.own_faults
    assert about.program[1:] == ("--its", "own")
    first = advice.verdicts[0]
    assert first.verdict != DONT
    assert first.site is not None
    assert first.site.expression == "bytearray(300_000)"
    assert not any("not known" in note for note in advice.notes)


def test_the_disturbance_of_the_machine_is_that_of_the_run(
    recorded: Path, prices: Calibration
) -> None:
    gains = []
    for times in (1.0, 2.0):
        mean = times * prices.prices["probe"].value
        meta.add(recorded, probes={"count": 1000, "mean": mean, "deviation": mean / 100})
        gains.append(session.advice_on(str(recorded), prices)[1].verdicts[0].gain.value)
    assert gains[1] == pytest.approx(2 * gains[0], rel=0.02)


def test_what_is_not_known_is_said(recorded: Path, prices: Calibration) -> None:
    known = meta.read(recorded)
    assert known.added["machine"] != prices.machine  # the fixture's prices are no machine's
    assert any("another machine" in n for n in session.advice_on(str(recorded), prices)[1].notes)
    given = json.loads((recorded / "meta.json").read_text())
    for key in ("probes", "machine", "outcome"):
        del given[key]
    (recorded / "meta.json").write_text(json.dumps(given))
    _, advice = session.advice_on(str(recorded), prices)
    assert any(
        "busy the machine was while this was recorded is not known" in n for n in advice.notes
    )
    assert not any("another machine" in note for note in advice.notes)
    # What the process itself told at its last flush, less what it had used before.
    assert 0 < advice.cpu_seconds <= known.outcome["user_seconds"] + known.outcome["system_seconds"]  # type: ignore[index]
    assert 0 < advice.page_faults <= known.outcome["minor_faults"]  # type: ignore[index]


def test_a_part_of_a_program_is_judged_by_that_part(tmp_path: Path, prices: Calibration) -> None:
    (tmp_path / "app.py").write_text(
        "import sys\nfrom poolwise import profile\n"
        "for n in range(1_500_000): bytes(10)\n"
        "kept = [bytearray(1 << 20) for n in range(64)]\n"
        "for block in kept: block[::4096] = bytes(256)\n"
        "with profile.record(sys.argv[1]):\n    for n in range(3000): bytes(10_000)\n"
    )
    subprocess.run(
        [sys.executable, tmp_path / "app.py", tmp_path / "part"], check=True, timeout=120
    )
    about, advice = session.advice_on(str(tmp_path / "part"), prices)
    assert about.cpu_seconds_before > advice.cpu_seconds > 0
    assert about.page_faults_before > 10_000 > advice.page_faults


def test_advise_and_profile_with_advise_say_the_same_words(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "app.py").write_text(CHURN)
    cache = tmp_path_factory.mktemp("cache")
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*POOLWISE, *words], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    run("advise", "--json", "at-once.json", "--patch", "at-once.patch", "app.py", "x")
    run("profile", "-o", "rec", "app.py", "x")
    said = run("advise", "--json", "later.json", "--patch", "later.patch", "rec")
    assert "app.py x: " in said
    assert "\nnext: " in said
    later, at_once = (
        json.loads((tmp_path / name).read_text()) for name in ("later.json", "at-once.json")
    )
    assert later["program"] == at_once["program"] == ["app.py", "x"]
    sites = [
        {v["site"]["expression"] for v in report["verdicts"] if v["site"] and v["code"]}
        for report in (later, at_once)
    ]
    assert sites[0] == sites[1] == {"bytearray(300_000)"}
    patches = [(tmp_path / f"{name}.patch").read_text() for name in ("later", "at-once")]
    changed = [re.findall(r"^[+-].*", patch, re.MULTILINE) for patch in patches]
    assert changed[0] == changed[1] != []

    # What does not go together is said, and nothing runs or is written.
    assert "takes no arguments (more)" in run("advise", "rec", "more", code=2)
    assert "--exact: rec is a recording" in run("advise", "--exact", "rec", code=2)
    assert "--for: rec is a recording" in run("advise", "--for", "3", "rec", code=2)
    (tmp_path / "rec" / "samples.log").write_bytes(b"")
    assert "not a poolwise recording" in run("advise", "rec", code=2)
    (tmp_path / "neither").mkdir()
    for content in (None, b"foreign"):
        if content is not None:
            (tmp_path / "neither" / "samples.log").write_bytes(content)
        said = run("advise", "neither", code=2)
        assert "neither: this directory holds neither a program (__main__.py) nor a rec" in said
        assert len(said.splitlines()) == 1


def test_a_recording_that_cannot_be_read(tmp_path: Path, prices: Calibration) -> None:
    for content in (b"", b"foreign", b"poolwise recording 1\n"):
        (tmp_path / "samples.log").write_bytes(content)
        with pytest.raises(RecordingError):
            session.advice_on(str(tmp_path), prices)


def test_what_the_program_could_not_write_is_no_failure_of_the_run(
    tmp_path: Path, prices: Calibration
) -> None:
    (tmp_path / "app.py").write_text(
        "import sys, os\nfrom poolwise.profile import child\n"
        "os.unlink(os.path.join(child.recording_into(), 'samples.log'))\nsys.exit(4)\n"
    )
    outcome, advice = session.run(Program(str(tmp_path / "app.py")), prices)
    assert outcome.exit_code == 4
    assert not isinstance(advice, Advice)
    assert "exit code 4: cannot be read" in str(advice)
