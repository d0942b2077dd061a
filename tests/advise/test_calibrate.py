"""Prices of this machine: plausible by ratio, kept between runs, measured again when in doubt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.advise import calibrate
from poolwise.advise.calibrate import Calibration, CalibrationError, Curve, Price

KIB, MIB = 1 << 10, 1 << 20
SECONDS = 2.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def silent(done: int, total: int) -> None:
    """No progress wanted."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return calibrate.load(seconds=SECONDS, progress=silent)


@pytest.fixture
def cache(
    measured: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:  # a cache that holds the measured prices
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = calibrate.cache_path(calibrate.machine())
    path.parent.mkdir()
    path.write_text(json.dumps(measured.to_json()))
    return path


def counted(calls: list[int]) -> calibrate.Progress:
    return lambda done, total: calls.append(done)


@pytest.mark.parametrize("size", [32 * KIB, MIB, 16 * MIB])
def test_fresh_pages_cost_more_than_zeroing_them(measured: Calibration, size: int) -> None:
    fresh = measured.fault(size) * (size / PAGE)
    assert fresh.low > measured.zero(size).high


def test_costs_grow_with_the_bytes(measured: Calibration) -> None:
    sizes = [64, 16 * KIB, 256 * KIB, 4 * MIB, 64 * MIB]
    for price in (measured.zero, measured.copy):
        values = [price(size).value for size in sizes]
        assert values == sorted(values)
        assert values[-1] > 100 * values[1]


def test_small_warm_things_are_cheap(measured: Calibration) -> None:
    page = measured.fault(MIB).value
    for price in (
        measured.allocate(64),
        measured.allocate(MIB),
        measured.obj_allocate(64),
        measured.construct_overhead,
        measured.pool_pair,
        measured.pool_lease,
        measured.buffer_pair,
        measured.gc_object(),
        measured.gc_object(full=True),
    ):
        assert 0 < price.value < page
    assert measured.obj_allocate(64).value > measured.allocate(64).value


def test_a_huge_page_is_cheaper_than_its_small_ones(measured: Calibration) -> None:
    size = 32 * MIB
    if calibrate.huge_pages() == "never":
        assert measured.fault(size, huge=True) == measured.fault(size)
        return
    small, inside = measured.fault(size), measured.huge_page(size)
    assert inside.high < small.low
    mixed = measured.fault(size, huge=True)
    assert inside.value < mixed.value < small.value
    # One of the sixteen huge pages comes in small ones.
    assert mixed.value == pytest.approx(inside.value * 15 / 16 + small.value / 16)


def test_the_range_spans_both_regimes(measured: Calibration) -> None:
    both = measured.fault(MIB)
    mmap, trim = measured.fault(MIB, regime="mmap"), measured.fault(MIB, regime="trim")
    assert both.low == min(mmap.low, trim.low)
    assert both.high == max(mmap.high, trim.high)
    assert min(mmap.value, trim.value) <= both.value <= max(mmap.value, trim.value)


def test_every_price_lies_in_its_range(measured: Calibration) -> None:
    prices = [*measured.prices.values()]
    for curve in measured.curves.values():
        prices += curve.prices
    assert len(prices) > 40
    for price in prices:
        assert 0 < price.low <= price.value <= price.high


def test_between_two_sizes_the_line_is_straight_on_log_paper() -> None:
    def square(x: int) -> Price:
        return Price(3.0 * x * x, 2.0 * x * x, 5.0 * x * x)

    curve = Curve((16, 256, 1024), (square(16), square(256), square(1024)))
    for size in (16, 31, 255, 256, 700, 1024):
        assert curve.at(size).value == pytest.approx(square(size).value)
        assert curve.at(size).high == pytest.approx(square(size).high)
    assert curve.at(1) == square(16)
    assert curve.at(1 << 30) == square(1024)
    assert curve.in_proportion(4).value == pytest.approx(square(16).value / 4)
    assert curve.in_proportion(4096).low == pytest.approx(square(1024).low * 4)


def test_measured_once_then_read(cache: Path, measured: Calibration) -> None:
    calls: list[int] = []
    assert calibrate.load(progress=counted(calls)) == measured
    assert calls == []


def test_refresh_measures_whatever_the_cache_holds(cache: Path) -> None:
    before = cache.read_text()
    calls: list[int] = []
    calibrate.load(refresh=True, seconds=0, progress=counted(calls))
    assert calls[0] == 0
    assert cache.read_text() != before


@pytest.mark.parametrize("damage", ["cut", "schema", "price", "empty", "list"])
def test_a_damaged_cache_is_said_and_replaced(
    cache: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    data = json.loads(cache.read_text())
    data["schema"] += damage == "schema"
    if damage == "price":
        data["prices"]["object"]["low"] = 2 * data["prices"]["object"]["high"]
    text = json.dumps(data)
    cache.write_text({"cut": text[: len(text) // 2], "empty": "", "list": "[]"}.get(damage, text))
    calls: list[int] = []
    fresh = calibrate.load(seconds=0, progress=counted(calls))
    assert calls
    said = capsys.readouterr().err
    assert said == f"poolwise: calibration cache {cache} is damaged: measuring again\n"
    assert Calibration.from_json(json.loads(cache.read_text())) == fresh


def test_another_machine_is_measured_anew(cache: Path) -> None:
    here = calibrate.machine()
    assert calibrate.cache_path({**here, "kernel": "another"}) != cache
    data = json.loads(cache.read_text())
    data["machine"]["kernel"] = "another"  # a home directory shared by two machines
    cache.write_text(json.dumps(data))
    calls: list[int] = []
    assert calibrate.load(seconds=0, progress=counted(calls)).machine == here
    assert calls


def test_without_a_writable_cache_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert calibrate.load(seconds=0, progress=silent).fault(MIB).value > 0
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"poolwise: calibration cannot be kept in {tmp_path}/file/poolwise")
    assert said[-1].endswith("unless XDG_CACHE_HOME names a writable folder")


def test_nothing_that_changes_malloc_reaches_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "PYTHONMALLOC", "PYTHONTRACEMALLOC"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    environment = calibrate.child_environment()
    assert environment["PYTHONPATH"] == "/somewhere"
    assert environment["PATH"] == os.environ["PATH"]
    assert not any(name.startswith(("MALLOC_", "GLIBC", "PYTHONM")) for name in environment)


def test_a_child_that_fails_is_one_sentence() -> None:
    with pytest.raises(CalibrationError, match=r"calibration of 'nonsense' failed: KeyError"):
        calibrate._run_child("nonsense", 0)


def test_command_writes_json(cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "poolwise", "calibrate", "--seconds", "0", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Calibration.from_json(json.loads(ended.stdout)).machine == calibrate.machine()
    assert "measuring what memory costs" in ended.stderr
    ended = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"cannot write {tmp_path} (Is a directory)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_command_prints_a_table(cache: Path) -> None:
    command = [sys.executable, "-m", "poolwise", "calibrate", "--seconds", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    for title in (
        "fresh page",
        "huge pages",
        "zero",
        "copy",
        "Pool get, put",
        "full collection, an object",
    ):
        assert any(line.strip().startswith(title) for line in lines)
    assert lines[-1] == "next: poolwise advise my_program.py"
    assert "\x1b" not in ended.stdout
