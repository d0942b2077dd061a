"""`poolwise advise` from outside: the program stays its own, the report is true and well-formed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolwise.advise.verdicts import (
    BUFFER_POOL,
    DONT,
    POOL,
    PREALLOCATE,
    RECORD_LONGER,
    SETTINGS,
)

WORDS = {DONT, SETTINGS, PREALLOCATE, BUFFER_POOL, POOL, RECORD_LONGER}
ADVISE = [sys.executable, "-m", "poolwise", "advise"]
CHURN = "for n in range(3000):\n    a = bytearray(300_000)\n    a[0] = 1\nprint('ok')\n"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One calibration for all tests of a session."""
    return tmp_path_factory.mktemp("cache")


class Shell:
    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.scratch = folder, folder / "scratch"
        self.scratch.mkdir()
        self.env = {**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(self.scratch)}

    def advise(
        self, source: str | bytes, *words: str, stdin: bytes = b"", name: str = "app.py"
    ) -> subprocess.CompletedProcess[bytes]:
        path = self.folder / name
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return subprocess.run(
            [*ADVISE, *words, str(path)],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.env,
            timeout=120,
        )


@pytest.fixture
def shell(tmp_path: Path, cache: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path, cache)
    yield shell
    assert list(shell.scratch.iterdir()) == [], "a temporary directory was left behind"


def test_the_report_follows_its_schema(shell: Shell) -> None:
    done = shell.advise(CHURN, "--json", "r.json")
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    assert b"\nnext: " in done.stderr
    report = json.loads((shell.folder / "r.json").read_bytes())
    assert report["schema"] == 1
    assert report["program"] == [str(shell.folder / "app.py")]
    assert report["cpu_seconds"] > 0
    assert report["page_faults"] >= 0
    values = []
    for verdict in report["verdicts"]:
        assert verdict["verdict"] in WORDS
        gain = verdict["gain"]
        assert gain["unit"] == "cpu_seconds_per_cpu_second"
        assert gain["low"] <= gain["value"] <= gain["high"]
        assert verdict["memory_bytes"] >= 0
        assert verdict["capacity"] >= 0
        assert verdict["reason"]
        assert "\n" not in verdict["reason"]
        assert bool(verdict["code"]) == (verdict["verdict"] not in (DONT, RECORD_LONGER))
        site = verdict["site"]
        if site is not None:
            assert {"function", "file", "line", "expression", "type"} <= site.keys()
        values.append(gain["value"])
    assert values == sorted(values, reverse=True)
    reused = [v for v in report["verdicts"] if v["verdict"] in (PREALLOCATE, BUFFER_POOL)]
    assert [v["site"]["expression"] for v in reused] == ["bytearray(300_000)"]
    assert reused[0]["gain"]["low"] > 0


def test_the_page_has_the_recording_and_the_verdicts(shell: Shell) -> None:
    done = shell.advise(CHURN, "--html", "r.html", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    text = (shell.folder / "r.html").read_text("utf-8")
    assert "<title>app.py - poolwise</title>" in text
    inside = text.partition('type="application/json">')[2].partition("</script>")[0]
    data = json.loads(inside)
    assert data["advice"] == json.loads((shell.folder / "r.json").read_bytes())
    assert any(site["expression"] == "bytearray(300_000)" for site in data["sites"])


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; sys.exit(7)", 7),
        ("raise ValueError('its own')", 1),
        ("def f(:", 1),
        ("", 0),
        ("import os; os._exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("import gc; gc.disable(); x = [[n] for n in range(50_000)]", 0),
        ("import tracemalloc; tracemalloc.start(); x = [[]] * 9; tracemalloc.stop()", 0),
        ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", 0),
        ("import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])", 0),
    ],
)
def test_it_ends_as_the_program_ends(shell: Shell, source: str, code: int) -> None:
    done = shell.advise(source)
    assert done.returncode == code, done.stderr
    assert done.stdout == b""
    assert b"poolwise: " in done.stderr
    assert b"samples.log" not in done.stderr
    assert b"poolwise/" not in done.stderr.replace(str(shell.folder).encode(), b"")


def test_its_streams_are_its_own(shell: Shell) -> None:
    source = (
        "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1] + bytes(range(256)))"
    )
    done = shell.advise(source, stdin=b"\x00\xff\x01")
    assert done.stdout == b"\x01\xff\x00" + bytes(range(256))


def test_children_are_not_recorded(shell: Shell) -> None:
    """What that costs would count as theirs, and advice is on the program itself."""
    source = """
import os
from poolwise import _core
if os.fork() == 0:
    kept = [bytes(50_000) for _ in range(200)]
    os.write(1, b"recorded" if _core.sampler_stop() else b"left alone")
    os._exit(0)
os.wait()
"""
    assert shell.advise(source).stdout == b"left alone"


def test_strange_sources(shell: Shell) -> None:
    source = (
        "\ufeffdef f(n):\r\n\treturn bytearray(n)\r\nfor i in range(3000):\r\n\ta = f(300_000)\r\n"
    )
    done = shell.advise(source, "--json", "r.json", name="größe ü.py")
    assert done.returncode == 0, done.stderr
    report = json.loads((shell.folder / "r.json").read_bytes())
    assert any(v["site"] and v["site"]["expression"] == "bytearray(n)" for v in report["verdicts"])


def test_a_program_too_short_gets_no_remedy(shell: Shell) -> None:
    done = shell.advise("import argparse, json, logging", "--json", "r.json")
    report = json.loads((shell.folder / "r.json").read_bytes())
    assert {v["verdict"] for v in report["verdicts"]} <= {DONT, RECORD_LONGER}, done.stderr


@pytest.mark.parametrize("option", ["--json", "--html", "--patch"])
def test_a_path_that_cannot_be_written_costs_no_run(shell: Shell, option: str) -> None:
    done = shell.advise("print('ran')", option, "missing/r")
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"missing/r: cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["nothing.py"], ["-m", "no_such_module"], ["--for", "x", "a"], []]
)
def test_what_cannot_be_run_is_said_at_once(shell: Shell, words: list[str]) -> None:
    done = subprocess.run([*ADVISE, *words], capture_output=True, cwd=shell.folder, env=shell.env)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_binary_is_no_program(shell: Shell) -> None:
    done = shell.advise(b"\x7fELF\0\0", name="tool")
    assert done.returncode == 2
    assert b"not a Python file" in done.stderr


def test_a_server_is_ended_after_its_time(shell: Shell) -> None:
    source = "import time\nwhile True:\n    a = bytearray(100_000)\n    time.sleep(0.001)\n"
    done = shell.advise(source, "--for", "1")
    assert done.returncode == 0, done.stderr
    assert b"\nnext: " in done.stderr


def test_ctrl_c_ends_the_program_and_then_comes_the_report(shell: Shell) -> None:
    path = shell.folder / "app.py"
    path.write_text("print('on', flush=True)\nwhile True:\n    a = bytearray(100_000)\n")
    running = subprocess.Popen(
        [*ADVISE, str(path)], cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == b"on\n"
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in err
    assert b"poolwise: " in err
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
