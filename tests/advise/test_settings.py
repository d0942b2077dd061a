"""The settings remedy: its grammar, its effect, and the line that replaces it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.advise import settings
from poolwise.errors import UsageError
from poolwise.program import Instructions, Program
from poolwise.program.launch import command_line

FAULTS = """
import gc, resource, threading
def work():
    for _ in range(8):
        blocks = [bytes(range(256)) * {repeat} for _ in range(2)]
        del blocks
def faults():
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, gc.get_threshold())
if {on_thread}:
    thread = threading.Thread(target=faults); thread.start(); thread.join()
else:
    faults()
"""


def faults(
    folder: Path, parts: tuple[str, ...], block_bytes: int, on_thread: bool = False, env: str = ""
) -> tuple[int, str]:
    """Page faults of 8 rounds with two blocks alive, and the collector's thresholds."""
    source = FAULTS.format(repeat=block_bytes // 256, on_thread=on_thread)
    (folder / "app.py").write_text(source)
    command = command_line(Program(str(folder / "app.py")), Instructions(settings=parts))
    variables = dict(word.split("=") for word in env.split())
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True
    )
    count, thresholds = done.stdout.split(" ", 1)
    return int(count), thresholds.strip()


@pytest.mark.parametrize("on_thread", [False, True])
@pytest.mark.parametrize("mebibytes", [1, 8, 40])
def test_malloc_takes_the_faults_away(mebibytes: int, on_thread: bool, tmp_path: Path) -> None:
    pages = 8 * 2 * (mebibytes << 20) // os.sysconf("SC_PAGESIZE")
    after, _ = faults(tmp_path, ("malloc",), mebibytes << 20, on_thread)
    assert after < pages / 10
    if mebibytes == 40:  # smaller ones are dear or cheap by accident
        before, _ = faults(tmp_path, (), mebibytes << 20, on_thread)
        assert before > pages / 2


def test_the_line_to_write_does_the_same(tmp_path: Path) -> None:
    line = settings.describe(["malloc"])
    variables = line.partition(" python")[0]
    as_it_is, _ = faults(tmp_path, (), 40 << 20)
    with_line, _ = faults(tmp_path, (), 40 << 20, env=variables)
    assert with_line < as_it_is / 10


def test_gc_thresholds(tmp_path: Path) -> None:
    assert faults(tmp_path, ("gc",), 1024)[1] == str(settings.SETTINGS.gc_thresholds)
    source = f"import gc\n{settings.describe(['gc'])}\nprint(gc.get_threshold())"
    thresholds = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert thresholds.stdout.strip() == str(settings.SETTINGS.gc_thresholds)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("settings", ("malloc", "gc")),
        ("settings:gc", ("gc",)),
        ("settings:gc,settings:malloc", ("malloc", "gc")),
        ("settings:gc, settings", ("malloc", "gc")),
    ],
)
def test_grammar(text: str, parts: tuple[str, ...]) -> None:
    assert settings.parse_remedies(text) == parts


@pytest.mark.parametrize("text", ["pooled", "", "settings:", "settings:all", "settings,pool"])
def test_a_remedy_that_does_not_exist(text: str) -> None:
    with pytest.raises(UsageError, match=r"there is no remedy '.*'; known are settings, "):
        settings.parse_remedies(text)
