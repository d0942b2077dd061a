"""The arithmetic of benchmarks/overhead.py, what it keeps, and one real run of each part of it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def imported(name: str) -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def overhead() -> Iterator[ModuleType]:
    yield from imported("overhead")


@pytest.fixture(scope="module")
def table() -> Iterator[ModuleType]:
    yield from imported("overhead_table")


def turn(bare: float, ratio: float, **more: Any) -> dict[str, Any]:
    """One of two arms; the second uses 5 MiB and 3 faults more."""
    from overhead_table import Run

    return {
        "bare": Run(cpu_seconds=bare, peak_bytes=20 << 20, page_faults=100),
        "arm": Run(cpu_seconds=bare * ratio, peak_bytes=25 << 20, page_faults=103),
        **more,
    }


CONDITIONS = {"arms": ["bare", "arm"], "machine": {"cpu": "one"}, "versions": {"memray": "1"}}


def results(table: ModuleType, **turns: list[dict[str, Any]]) -> Any:
    return table.Results(
        dict(CONDITIONS),
        dict.fromkeys(turns, 1),
        {n.replace("_", "-"): t for n, t in turns.items()},
    )


# ---- arithmetic ---------------------------------------------------------------------------


def test_the_mean_is_geometric_and_taken_within_a_turn(table: ModuleType) -> None:
    # A turn on a slow machine is slow for both arms; in each turn the mean is 2.
    found = table.summary(
        results(
            table, a=[turn(1, 1), turn(7, 2), turn(2, 4)], b=[turn(3, 4), turn(5, 2), turn(1, 1)]
        ),
        ("a", "b", "not measured"),
    )
    assert list(found["rows"]) == ["a", "b"]
    mean = found["arms"]["arm"]
    assert mean["geometric_mean"] == pytest.approx({"value": 2, "low": 2, "high": 2})
    assert mean["without_start_up"] is None
    assert (mean["benchmarks"], mean["turns"]) == (2, 3)
    assert mean["worst"]["benchmark"] == "a"
    assert mean["worst"]["value"] == 2
    assert mean["more_peak_bytes"] == {"median": 5 << 20, "most": 5 << 20, "benchmark": "a"}
    assert mean["more_page_faults"] == {"median": 3, "most": 3}
    assert found["rows"]["a"]["arms"]["arm"]["ratio"] == {"value": 2, "low": 1, "high": 4}
    assert found["rows"]["b"]["bare_seconds"] == 3


def test_the_start_up_of_an_empty_program_is_taken_off_both(table: ModuleType) -> None:
    # 1 s of 4 is start-up, 3 s of 9 with the arm: 6 s of work for 3.
    found = results(table, start_up=[turn(1, 3)] * 3, a=[turn(4, 9 / 4)] * 3)
    mean = table.summary(found, ("a",))["arms"]["arm"]
    assert mean["geometric_mean"]["value"] == pytest.approx(9 / 4)
    assert mean["without_start_up"]["value"] == pytest.approx(2)
    assert "CPU time of an empty program: bare 1.00 s, arm 3.00 s." in table.tables(found, {})


def test_a_mean_waits_for_whole_turns(table: ModuleType) -> None:
    found = results(table, a=[turn(1, 2), turn(1, 2), turn(1, 50)], b=[turn(1, 2), turn(1, 2)])
    mean = table.summary(found, ("a", "b"))["arms"]["arm"]
    assert mean["turns"] == 2
    assert mean["geometric_mean"] == pytest.approx({"value": 2, "low": 2, "high": 2})


def test_an_arm_is_named_where_it_cannot_run(table: ModuleType) -> None:
    found = results(table, a=[turn(1, 2)], b=[turn(1, 3)], c=[{}])
    del found.turns["b"][0]["arm"]
    found.failed = {"b": {"arm": "out of luck"}, "c": {"bare": "no such file"}}
    assert found.runs("a") == ["bare", "arm"]
    assert found.runs("b") == ["bare"]
    assert found.runs("c") == []
    mean = table.summary(found, ("a", "b", "c"))["arms"]["arm"]
    assert mean["benchmarks"] == 1
    assert mean["geometric_mean"]["value"] == 2
    shown = table.tables(found, {"all": ("a", "b", "c")})
    assert "| b | 1.00 | - |" in shown
    assert "arm cannot run b: out of luck\nbare cannot run c: no such file\n" in shown


def test_the_lists_are_of_twenty_and_of_ten(overhead: ModuleType) -> None:
    assert len(overhead.EVERY_KIND) == 20
    assert len(overhead.ALLOCATION_HEAVY) == 10
    assert len(overhead.BENCHMARKS) == 30
    assert set(overhead.QUICK) < set(overhead.BENCHMARKS)


# ---- what is kept -------------------------------------------------------------------------


def test_results_are_kept_and_gone_on_with(table: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    assert table.load(path, CONDITIONS) == table.Results(CONDITIONS)
    kept = results(table, a=[turn(1, 2), turn(2, 2)])
    kept.failed = {"b": {"arm": "out of luck"}}
    table.save(path, kept, {"all": ("a",)})
    assert table.load(path, CONDITIONS) == kept
    assert json.loads(path.read_text())["summary"]["all"]["arms"]["arm"]["turns"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["overhead.json"]


@pytest.mark.parametrize(
    ("text", "conditions", "sentence"),
    [
        ("{", {}, "cannot be read as results"),
        ("[]", {}, "these are no results of this version"),
        ('{"schema": 1}', {}, "these are no results of this version"),
        (None, {"arms": ["bare"]}, "measured with arms ['bare', 'arm'], now ['bare']"),
        (None, {"versions": {"memray": "2"}}, "measured with versions {'memray': '1'}, now"),
    ],
)
def test_other_results_are_not_gone_on_with(
    table: ModuleType, tmp_path: Path, text: str | None, conditions: Any, sentence: str
) -> None:
    path = tmp_path / "overhead.json"
    if text is None:
        table.save(path, results(table, a=[turn(1, 2)]), {})
    else:
        path.write_text(text)
    with pytest.raises(table.Unusable) as refused:
        table.load(path, {**CONDITIONS, **conditions})
    assert str(refused.value).startswith(f"{path}: {sentence}")
    assert str(refused.value).endswith("; remove it or name another")


def test_turns_that_are_there_are_not_measured_again(
    overhead: ModuleType, table: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "overhead.json"
    conditions = {**CONDITIONS, "arms": ["bare", "tracemalloc"]}
    names = (table.START_UP,)
    for turns, missing in ((1, 1), (3, 2), (2, 0)):
        found = table.load(path, conditions)
        before = [dict(one) for one in found.turns.get(table.START_UP, [])]
        overhead.measure(found, names, turns, 1.0, dict(os.environ), path)
        assert len(found.turns[table.START_UP]) == len(before) + missing
        assert found.turns[table.START_UP][: len(before)] == before
    assert list(found.turns[table.START_UP][1]) == ["tracemalloc", "bare"]  # they take turns


# ---- real runs ----------------------------------------------------------------------------


def program(folder: Path, text: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(text)
    return [str(path)]


def test_a_run_is_the_process_itself(overhead: ModuleType, tmp_path: Path) -> None:
    environment = dict(os.environ)
    ours = bytearray(300 << 20)
    ours[::4096] = b"x" * (300 << 8)  # what starts a process does not count as its memory
    idle = overhead.run(overhead.bare, program(tmp_path, ""), environment)
    busy = overhead.run(
        overhead.bare,
        program(tmp_path, "block = bytearray(32 << 20)\nblock[::4096] = b'x' * (32 << 8)\n"),
        environment,
    )
    assert busy.page_faults - idle.page_faults > (32 << 8) * 0.9
    assert 30 << 20 < busy.peak_bytes - idle.peak_bytes < 40 << 20
    assert 2 << 20 < idle.peak_bytes < 100 << 20
    assert busy.cpu_seconds > 0


def test_children_count(overhead: ModuleType, tmp_path: Path) -> None:
    words = program(
        tmp_path,
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'block = bytearray(64 << 20)'], check=True)",
    )
    assert overhead.run(overhead.bare, words, dict(os.environ)).peak_bytes > 64 << 20


def test_a_failing_run_is_named_by_its_last_words(
    overhead: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = program(tmp_path, "import sys\nprint('first', file=sys.stderr)\nsys.exit('no luck')")
    with pytest.raises(overhead.Failed, match=r"^no luck$"):
        overhead.run(overhead.bare, words, dict(os.environ))
    with pytest.raises(overhead.Failed, match=r"^exit code -9$"):
        overhead.run(
            overhead.bare,
            program(tmp_path, "import os; os.kill(os.getpid(), 9)"),
            dict(os.environ),
        )
    monkeypatch.setattr(overhead, "LONGEST_SECONDS", 0.2)
    with pytest.raises(overhead.Failed, match=r"^it had not ended after 0\.2 s$"):
        overhead.run(overhead.bare, program(tmp_path, "while True: pass"), dict(os.environ))


def test_last_words(overhead: ModuleType) -> None:
    said = "  line 1\nzlib.error: no\nKeyError: 'a'\n\nThe profile is empty.\n"
    assert overhead.last_words(said) == "KeyError: 'a'"
    assert overhead.last_words("one\n two \n") == "two"
    assert overhead.last_words("") == ""


def test_an_arm_that_failed_is_not_tried_again(
    overhead: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = program(tmp_path, "")
    monkeypatch.setattr(overhead, "script", lambda name, count: words)
    monkeypatch.setitem(overhead.ARMS, "ddtrace", lambda *_: [sys.executable, "-c", "1 / 0"])
    failed: dict[str, str] = {}
    for _ in range(2):
        found = overhead.one_turn("a", 1, ["ddtrace", "bare"], failed, dict(os.environ))
        assert list(found) == ["bare"]
        assert failed == {"ddtrace": "ZeroDivisionError: division by zero"}
        monkeypatch.setitem(overhead.ARMS, "ddtrace", overhead.bare)


def test_the_arm_of_poolwise_writes_a_recording(overhead: ModuleType, tmp_path: Path) -> None:
    words = program(tmp_path, "kept = [bytearray(1 << 20) for _ in range(20)]")
    command = overhead.poolwise(words, str(tmp_path))
    assert overhead.run(lambda words, _: words, command, dict(os.environ)).cpu_seconds > 0
    assert (tmp_path / "samples.log").stat().st_size > 0


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_counting_hook_counts_all_domains(
    overhead: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "BUILD", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(overhead.counting_hook())}
    # A small bytearray takes its block from obj or mem, by the version; a large one from raw.
    words = program(
        tmp_path, "for _ in range(30_000): bytearray(100); bytearray(1000)\nimport sys; sys.argv[1]"
    )
    subprocess.run(overhead.counting([*words, "x"], str(tmp_path)), check=True, env=environment)
    counts = eval((tmp_path / "counts").read_text())
    assert set(counts) == {"obj", "mem", "raw"}
    assert counts["raw"][0] >= 30_000
    assert counts["obj"][0] + counts["mem"][0] >= 90_000  # what raw gives was asked of them first
    assert all(0 < frees <= allocations for allocations, frees in counts.values())


def test_the_words_behind_the_program_are_its_own(overhead: ModuleType) -> None:
    assert overhead.scalene(["a.py", "-n", "1"], "/d")[-4:] == ["a.py", "---", "-n", "1"]
    assert overhead.memray_python(["a.py", "-n"], "/d")[-2:] == ["a.py", "-n"]
    assert overhead.ddtrace(["a.py", "-n"], "/d")[-4:] == ["ddtrace", "/d", "a.py", "-n"]
