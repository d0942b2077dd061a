"""`poolwise try` from outside: what it prints, writes, returns, and leaves behind (nothing)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRY = [sys.executable, "-m", "poolwise", "try"]
WORK = """
import sys, time
def work(seconds):
    while time.process_time() < seconds:
        sum(range(1000))
"""


def poolwise_try(
    folder: Path, *words: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*TRY, *words], cwd=folder, capture_output=True, text=True, timeout=120, **source
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.py").write_text(WORK + "import helper\nwork(helper.seconds)\nprint('x')\n")
    (tmp_path / "new.py").write_text(WORK + "work(0.1)\nprint('x')\n")
    (tmp_path / "helper.py").write_text("seconds = 0.2\n")
    (tmp_path / "change.patch").write_text(
        "--- a/helper.py\n+++ b/helper.py\n@@ -1 +1 @@\n-seconds = 0.2\n+seconds = 0.1\n"
    )
    return tmp_path


@pytest.mark.parametrize("against", ["new.py", "change.patch"])
def test_a_gain_is_found_and_stands_beside_the_prediction(against: str, folder: Path) -> None:
    verdicts = [
        {"verdict": "pool", "site": {"function": "work"}, "gain": gain(0.4, 0.3, 0.5)},
        {"verdict": "buffer pool", "site": {"function": "A.other"}, "gain": gain(0.1, 0.0, 0.2)},
        {"verdict": "settings", "site": None, "gain": gain(0.9, 0.9, 0.9)},
        {"verdict": "don't", "site": None, "gain": gain(-0.9, -0.9, -0.9)},
    ]
    (folder / "advice.json").write_text(json.dumps({"schema": 1, "verdicts": verdicts}))
    done = poolwise_try(
        folder, "--json", "out.json", "--check", "--predicted", "advice.json", "old.py",
        "--against", against,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"measured gain, 95 % +\d+\.\d % +\[\d", done.stdout)
    assert re.search(
        r"predicted +50.0 %  \[30.0 %, 70.0 %\]  \(measured lies inside\)", done.stdout
    )
    assert "output: the same, 2 bytes\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("proven: ")
    assert "all side effects of the program happen in each run" in done.stderr.splitlines()[0]
    assert "\x1b" not in done.stderr
    result = json.loads((folder / "out.json").read_text())
    assert result["verdict"] == "proven"
    assert result["program"] == ["old.py"]
    assert 0.3 < result["gain"]["value"] < 0.6
    assert result["predicted"]["low"] == pytest.approx(0.3)


def gain(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def test_predictions_are_picked(folder: Path) -> None:
    from poolwise.advise.trial_predicted import predicted_gain
    from poolwise.errors import UsageError

    report = folder / "advice.json"
    verdicts = [
        {"verdict": "settings", "site": None, "gain": gain(0.3, 0.2, 0.4)},
        {"verdict": "pool", "site": {"function": "A.f"}, "gain": gain(0.1, 0.0, 0.2)},
        {"verdict": "pool", "site": {"function": "g"}, "gain": gain(0.2, 0.1, 0.3)},
    ]
    report.write_text(json.dumps({"verdicts": verdicts}))
    assert predicted_gain(report, settings=True).value == 0.3
    assert predicted_gain(report, settings=False).high == pytest.approx(0.5)
    assert predicted_gain(report, settings=False, functions=["f"]).value == 0.1
    with pytest.raises(UsageError, match="predicts no gain of a remedy at h"):
        predicted_gain(report, settings=False, functions=["h"])


def test_check_fails_unless_proven(folder: Path) -> None:
    done = poolwise_try(folder, "--pairs", "2", "--check", "new.py", "--against", "old.py")
    assert done.returncode == 1


def test_settings_and_standard_input(folder: Path) -> None:
    (folder / "app.py").write_text(WORK + "work(0.05)\nprint(len(sys.stdin.read()), sys.argv)\n")
    done = poolwise_try(
        folder, "--with", "settings:gc", "--pairs", "2", "app.py", "--", "-m", stdin="words\n" * 9
    )
    assert done.returncode == 0, done.stderr
    size = len("54 ['app.py', '--', '-m']\n")
    assert f"output: the same, {size} bytes\n" in done.stdout
    assert "as it is" in done.stdout
    assert "with settings:gc" in done.stdout


def test_a_setting_that_pays_is_named_with_what_to_write_and_to_type(folder: Path) -> None:
    """Objects that are kept: young collections walk them and find nothing."""
    (folder / "app.py").write_text("kept = [[] for _ in range(1_000_000)]\nprint(len(kept))\n")
    done = poolwise_try(folder, "--with", "settings:gc", "app.py", "-n", "two words")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "proven: with settings:gc saves CPU time",
        "without poolwise: gc.set_threshold(50_000, 20, 10)  # after: import gc",
        "next: poolwise run --with settings:gc app.py -n 'two words'",
    ]


def test_output_that_differs_from_run_to_run(folder: Path) -> None:
    (folder / "app.py").write_text(WORK + "import os; print(os.getpid()); work(0.05)\n")
    done = poolwise_try(folder, "--with", "settings:gc", "--pairs", "2", "app.py")
    assert done.returncode == 0
    assert "its output differs from run to run, so it cannot be compared\n" in done.stdout


def test_a_program_that_fails(folder: Path) -> None:
    (folder / "app.py").write_text("1 / 0\n")
    done = poolwise_try(folder, "--with", "settings", "app.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "poolwise: app.py (as it is): ended with exit code 1, so there is nothing to compare; "
        "make it succeed on its own first"
    )


STAYS = """
import os, sys, time
marker, folder = sys.argv[1:]
if os.fork() == 0:
    while True: time.sleep(1)
runs = len(os.listdir(folder))
open(f"{folder}/{os.getpid()}", "w").close()
if runs >= int(marker):
    with open("fifo", "w") as fifo: fifo.write("here")
    while True: sum(range(1000))
"""


def group_members(groups: set[int]) -> set[int]:
    """Processes, zombies aside, of these process groups."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            state, _, group = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(group) in groups and state not in "ZX":
            found.add(int(name))
    return found


@pytest.mark.parametrize("runs_before", [0, 2], ids=["in the warm-up", "in the first pair"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_process_behind(
    number: signal.Signals, runs_before: int, folder: Path
) -> None:
    (folder / "app.py").write_text(STAYS)
    (folder / "runs").mkdir()
    os.mkfifo(folder / "fifo")
    words = ["--with", "settings:gc", "app.py", str(runs_before), "runs"]
    process = subprocess.Popen(
        [*TRY, *words], cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert (folder / "fifo").read_text() == "here"
    groups = {int(name) for name in os.listdir(folder / "runs")}
    assert group_members(groups)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    # A grandchild is killed, not waited for: it may still be on its way out.
    deadline = time.monotonic() + 20
    while (left := group_members(groups)) and time.monotonic() < deadline:
        os.sched_yield()
    assert left == set()
