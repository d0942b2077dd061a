"""The small benches by their command: real child processes, the quick cases."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from poolwise import _sharing
from poolwise.bench import paths, sharing, sizes, tables, trims
from poolwise.bench.fresh import BenchError


def bench(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "poolwise", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", tables.NAMES)
def test_a_table_and_its_json(name: str, tmp_path: Path) -> None:
    written = tmp_path / "table.json"
    done = bench(name, "--quick", "--json", written)
    assert done.returncode == 0, done.stderr
    data = json.loads(written.read_text())
    assert (data["schema"], data["bench"], data["rounds"]) == (1, name, tables.QUICK_ROUNDS)
    assert {"cpu", "kernel", "libc", "python", "build"} <= set(data["machine"])
    module = tables.load(name)
    assert [row["case"] for row in data["rows"]] == module.cases(quick=True)
    for row in data["rows"]:
        assert set(row["figures"]) == set(module.FIGURES)
        for figure in row["figures"].values():
            assert figure is None or figure["low"] <= figure["value"] <= figure["high"]
    assert module.TITLE in done.stdout
    for title in module.FIGURES.values():
        assert title.split(",")[0] in done.stdout


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "paths.svg"
    done = bench("paths", "--quick", "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "get: private" in picture.read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("paths", "--plot", "paths.txt"), "use a name that ends in .svg, .png or .pdf"),
        (("paths", "--json", "/no/such/folder/x.json"), "cannot write /no/such/folder/x.json"),
        (("path",), "invalid choice: 'path'"),
    ],
)
def test_bad_arguments(words: tuple[str, ...], sentence: str) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_bench_leaves_no_file(tmp_path: Path) -> None:
    written = tmp_path / "table.json"
    command = [sys.executable, "-m", "poolwise", "bench", "trims", "--json", str(written)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "fresh processes in turn" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        assert "Traceback" not in running.stderr.read()
    assert running.returncode == -signal.SIGINT
    assert not written.exists()


def test_a_failing_case_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trims, "cases", lambda quick: [{"load": "none", "policy": "demand"}])
    with pytest.raises(BenchError, match=r"bench trims: .*'none'.* failed: KeyError"):
        tables.measure("trims", quick=True, progress=lambda done, total: None)


def test_sizes_hit() -> None:
    case: dict[str, Any] = {"size": 128, "load": "varying", "way": "BufferPool"}
    hit_rate = sizes.run(case)["hit_rate"]
    assert hit_rate is not None
    assert hit_rate > 0.9
    assert sizes.run({**case, "way": "bytearray"})["hit_rate"] is None


def prepared(path: str) -> list[Any]:
    make = paths.PATHS[path]
    assert make is not None
    calls = make()
    return [call.__self__ for call in calls]


@pytest.mark.parametrize(
    ("path", "counter"),
    [
        ("get: private", "hits_private"),
        ("get: shared", "hits_shared"),
        ("get: depot", "hits_depot"),
        ("get: victim", "hits_victim"),
        ("get: factory", "misses_empty"),
        ("get: steal", "hits_stolen"),
    ],
)
def test_each_path_is_the_path_it_says(path: str, counter: str) -> None:
    if paths.PATHS[path] is None:
        assert not sysconfig.get_config_var("Py_GIL_DISABLED")
        pytest.skip("nothing is stolen with the GIL")
    for pool in prepared(path):
        before = getattr(pool.stats(), counter)
        things = [pool.get()]
        assert getattr(pool.stats(), counter) == before + len(things)


def test_policies_differ_as_they_should() -> None:
    results = {policy: trims.run({"load": "bursts", "policy": policy}) for policy in trims.POLICIES}
    made = {policy: result["made"] for policy, result in results.items()}
    assert made["clear"] == max(made.values())  # type: ignore[type-var]
    assert made["clear"] != min(made.values())  # type: ignore[type-var]


def test_shared_lines_are_told_apart() -> None:
    assert sharing.run({"layout": "atomic", "threads": 2})["slowdown"] is not None
    for arguments in ((9, 1, 1), (0, 0, 1), (0, 65, 1), (0, 1, 0)):
        with pytest.raises(ValueError, match=r"count\("):
            _sharing.count(*arguments)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert _sharing.LOCAL_BYTES % _sharing.LINE_BYTES == 0
