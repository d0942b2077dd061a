"""The paradox bench: real child processes, a few cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.bench import paradox
from poolwise.bench.fresh import BenchError
from poolwise.bench.paradox import Case, Paradox
from poolwise.errors import UsageError

MIB = 1 << 20


def silent(done: int, total: int) -> None:
    """No progress wanted."""


def case(kind: str, size: int | None, alive: int, settings: bool = False) -> Case:
    return Case(kind=kind, size=size, alive=alive, settings=settings)


@pytest.fixture(scope="module")
def measured() -> Paradox:
    chosen = [
        case("bytearray", MIB, 4),
        case("bytearray", MIB, 4, settings=True),
        case("bytearray", 16, 1),
        case("slotted class", None, 1),
    ]
    return paradox.measure(chosen, pairs=2, progress=silent)


def row(measured: Paradox, *, size: int | None, settings: bool, write: str) -> paradox.Row:
    (found,) = [
        row
        for row in measured.rows
        if (row.size, row.settings, row.write) == (size, settings, write)
    ]
    return found


def test_every_case_has_its_rows(measured: Paradox) -> None:
    assert [(row.kind, row.size, row.settings, row.write) for row in measured.rows] == [
        ("bytearray", MIB, False, "untouched"),
        ("bytearray", MIB, False, "written"),
        ("bytearray", MIB, True, "untouched"),
        ("bytearray", MIB, True, "written"),
        ("bytearray", 16, False, "untouched"),
        ("bytearray", 16, False, "written"),
        ("slotted class", None, False, "written"),
    ]


def test_page_faults_are_what_the_pool_and_the_settings_save(measured: Paradox) -> None:
    plain = row(measured, size=MIB, settings=False, write="written")
    told = row(measured, size=MIB, settings=True, write="written")
    assert plain.allocation_faults > 200
    assert plain.pool_faults < 1
    assert told.allocation_faults < 1
    assert plain.ratio.high < 0.1
    assert plain.outcome == "wins"
    # The thresholds take most of the pool's advantage away.
    assert plain.ratio.high < told.ratio.low


def test_json_is_the_table(measured: Paradox) -> None:
    data = json.loads(json.dumps(measured.to_json()))
    assert data["schema"] == 1
    assert data["pairs"] == 2
    assert {"cpu", "kernel", "libc", "python", "build"} <= set(data["machine"])
    assert len(data["rows"]) == len(measured.rows)
    first = data["rows"][0]
    assert first["ratio"]["low"] <= first["ratio"]["value"] <= first["ratio"]["high"]
    assert first["outcome"] == measured.rows[0].outcome


def test_quick_is_a_part_of_the_whole() -> None:
    whole, quick = paradox.cases(), paradox.cases(quick=True)
    assert set(quick) < set(whole)
    assert len(quick) * 4 < len(whole)
    assert not any(one.kind == "numpy.empty" for one in paradox.cases(numpy=False))


def test_outcome_needs_an_interval_off_one(measured: Paradox) -> None:
    fields = {name: getattr(measured.rows[0], name) for name in measured.rows[0].__slots__}
    outcomes = [
        paradox.Row(**{**fields, "ratio": paradox.Ratio(*ends)}).outcome
        for ends in [(0.9, 0.8, 0.99), (0.9, 0.8, 1.01), (1.2, 1.1, 1.3)]
    ]
    assert outcomes == ["wins", "no difference", "loses"]


def test_a_failing_arm_says_which(measured: Paradox) -> None:
    with pytest.raises(BenchError, match=r"the pool arm of Case\(kind='bytearray', size=-1"):
        paradox.run_child(case("bytearray", -1, 1), pooled=True)


def test_plot_is_written(measured: Paradox, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paradox.plot(measured, tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    with pytest.raises(UsageError, match=r"cannot write .* \(No such file or directory\)"):
        paradox.plot(measured, tmp_path / "nowhere" / "plot.svg")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "poolwise", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_unwritable_file_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    ended = bench("paradox", "--json", str(tmp_path / "nowhere" / "x.json"))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"poolwise: cannot write {tmp_path}/nowhere/x.json (No such file or directory): "
        "name another file\n"
    )


def test_a_plot_of_unknown_kind_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    ended = bench("paradox", "--plot", str(tmp_path / "x.nonsense"))
    assert ended.returncode == 2
    assert ended.stderr.endswith("x.nonsense: use a name that ends in .svg, .png or .pdf\n")


def test_help_names_the_benches() -> None:
    ended = bench("--help")
    assert ended.returncode == 0
    assert "paradox" in ended.stdout
    assert bench().returncode == 2
