"""benchmarks/loads.py: each load takes and gives back by the way it says; one quick run of all."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loads.py"
TAKES = 2000


@pytest.fixture(scope="module")
def loads() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loads", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["loads"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip


CASES = [
    (load, thing)
    for load, things in {
        "larson": ("record", "64 KiB"),
        "xmalloc": ("record", "64 KiB"),
        "scratch": ("cell", "8 B"),
    }.items()
    for thing in things
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("load", "thing"), CASES)
def test_a_pool_gets_all_back(loads: ModuleType, load: str, thing: str, threads: int) -> None:
    run, _, at_once = loads.LOADS[load]
    kind = loads.KINDS[thing]
    most = threads * at_once(kind)
    way = loads.way_of("Pool", kind, most)
    run(loads.loops_of(way, kind), kind, threads, TAKES)
    pool = way.names["pool"]
    stats = pool.stats()
    assert stats.gets == stats.puts
    assert TAKES * 0.9 < stats.gets <= TAKES + most
    assert 0 < stats.hits < stats.gets
    if kind.reset is not None:
        assert pool.get() == loads.Record()


@pytest.mark.parametrize(("load", "thing"), [case for case in CASES if case[1].endswith("B")])
def test_buffers_come_back_and_are_reused(loads: ModuleType, load: str, thing: str) -> None:
    run, _, at_once = loads.LOADS[load]
    kind = loads.KINDS[thing]
    way = loads.way_of("BufferPool", kind, 2 * at_once(kind))
    run(loads.loops_of(way, kind), kind, 2, TAKES)
    stats = way.names["pool"].stats()
    assert stats.hits > stats.misses
    assert stats.fallbacks == 0
    assert stats.out == 0


def test_the_deque_holds_each_thing_once_and_empty(loads: ModuleType) -> None:
    kind = loads.KINDS["record"]
    way = loads.way_of("deque", kind, 1)
    loads.larson(loads.loops_of(way, kind), kind, 2, TAKES)
    spare = way.names["spare"]
    assert len({id(record) for record in spare}) == len(spare) >= 2 * kind.held
    assert all(record == loads.Record() for record in spare)


@pytest.mark.parametrize("name", ["object-pool", "pondpond"])
def test_a_peer_holds_each_thing_once_and_empty(loads: ModuleType, name: str) -> None:
    if find_spec(loads.PEERS[name]) is None:
        pytest.skip(f"{name} is not installed")
    kind = loads.KINDS["record"]
    way = loads.way_of(name, kind, 2 * (kind.held + 1))
    loops = loads.loops_of(way, kind)
    loads.larson(loops, kind, 2, TAKES)
    out = loops.fill(2 * kind.held)
    records = [wrapper.use() for wrapper in out] if name == "pondpond" else out
    assert len({id(record) for record in records}) == 2 * kind.held
    assert all(record.names == ["name"] for record in records)  # once: by fill


def test_larson_threads_end_and_new_ones_inherit(loads: ModuleType) -> None:
    kind = loads.KINDS["cell"]
    seen: list[tuple[int, threading.Thread, int]] = []
    anew = loads.loops_of(loads.way_of("anew", kind, 1), kind)

    def replace(slots: list[Any], order: list[int]) -> None:
        seen.append((id(slots), threading.current_thread(), len(order)))

    loads.larson(loads.Loops(anew.fill, anew.drain, replace, anew.scratch), kind, 3, TAKES)
    assert len({slots for slots, _, _ in seen}) == 3
    assert len({thread for _, thread, _ in seen}) == 3 * loads.GENERATIONS
    assert {count for _, _, count in seen} == {TAKES // (3 * loads.GENERATIONS)}


def test_ratios_are_taken_within_a_round(loads: ModuleType) -> None:
    def measured(nanoseconds: float) -> dict[str, Any]:
        figures = dict.fromkeys(("cpu_ns", "clock_ns"), nanoseconds)
        return {**figures, "peak_mib": 3.0, "idle_mib": 1.0, "gil": True}

    # The machine is three times as slow in the second round, for both.
    rounds = [
        {("larson", "cell", "anew"): measured(slow), ("larson", "cell", "Pool"): measured(slow / 2)}
        for slow in (100.0, 300.0)
    ]
    anew, pool = loads.summary(rounds)
    assert anew["cpu"] == {"value": 1, "low": 1, "high": 1}
    assert pool["clock"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert (pool["cpu_ns"], pool["peak_mib"], pool["idle_mib"]) == (100, 3, 1)


def test_a_quick_run_and_its_json(loads: ModuleType, tmp_path: Path) -> None:
    written = tmp_path / "loads.json"
    done = command("--quick", "--rounds", 1, "--json", written)
    assert done.returncode == 0, done.stderr
    data = json.loads(written.read_text())
    assert (data["schema"], data["rounds"], data["threads"]) == (1, 1, 2)
    assert {"cpu", "kernel", "libc", "python", "build"} <= set(data["machine"])
    here = {name for name, module in loads.PEERS.items() if find_spec(module) is not None}
    assert set(data["peers"]) == here
    for name in loads.PEERS:
        assert (f"{name} is left out: pip install {name}" in done.stderr) == (name not in here)
    rows = {(row["load"], row["thing"], row["way"]): row for row in data["rows"]}
    assert set(rows) == set(loads.cases([name for name in loads.WAYS if name not in loads.PEERS
                                         or name in here]))  # fmt: skip
    for row in rows.values():
        for clock in ("cpu", "clock"):
            assert 0 < row[clock]["low"] <= row[clock]["value"] <= row[clock]["high"]
        assert row["peak_mib"] >= row["idle_mib"] - 1
        assert row["cpu_ns"] > 0
    # What is held is seen: 200 blocks of 64 KiB by each of two threads.
    assert rows["larson", "64 KiB", "BufferPool"]["peak_mib"] > 2 * 200 / 16
    assert rows["larson", "record", "Pool"]["peak_mib"] < 2 * 200 / 16
    assert done.stdout.count("larson") == sum(load == "larson" for load, _, _ in rows)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--rounds", "0"), "--rounds 0 measures nothing: give 1 or more"),
        (("--threads", "0"), "--threads 0: give 1 to 64"),
        (("--threads", "65"), "--threads 65: give 1 to 64"),
        (("--json", "/no/such/folder/x.json"), "cannot write /no/such/folder/x.json"),
    ],
)
def test_bad_arguments(words: tuple[str, ...], sentence: str) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_process_is_named(loads: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"loads: larson nothing Pool failed:\n[^$]*'nothing'"):
        loads.in_a_fresh_process(("larson", "nothing", "Pool"), 1, 100)


def test_a_failing_thread_ends_the_process() -> None:
    """Not so that its partner waits for ever."""
    program = (
        "import sys, threading; sys.path.insert(0, sys.argv[1]); import loads\n"
        "threading.excepthook = loads.fatal\n"
        "kind = loads.Kind(lambda: 1 / 0, 'pass', 1)\n"
        "way = loads.way_of('anew', kind, 1)\n"
        "loads.xmalloc(loads.loops_of(way, kind), kind, 1, 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPT.parent)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
