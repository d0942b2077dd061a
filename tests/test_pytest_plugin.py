"""The pytest plugin, in real runs of pytest: what it reports, and what it makes fail."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from poolwise import UsageError
from poolwise.profile import steady as steadiness

pytest_plugins = "pytester"
Run = Callable[..., pytest.RunResult]

TESTS = """\
    import threading
    import pytest

    kept = []

    def calm():
        return sum([i * i for i in range(200)])

    def large(size):
        return bytearray(size)
"""
NO_SIDE_EFFECTS = ("-p", "no:cacheprovider")


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run tests in a process of their own."""

    def run(source: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=dedent(TESTS) + dedent(source))
        return pytester.runpytest_subprocess(*NO_SIDE_EFFECTS, *options)

    return run


def test_a_calm_loop_is_steady(run: Run) -> None:
    result = run("""
        def test_loop(steady):
            for number in steady(rounds=7, warmup=2):
                kept.append(number)
                calm()
            assert kept == list(range(9))

        @pytest.mark.poolwise_steady(rounds=4, warmup=3)
        def test_whole(tmp_path):
            kept.append("whole")

        def test_so_often_it_ran():
            assert kept.count("whole") == 7
    """)
    result.assert_outcomes(passed=3)


def test_a_loop_with_large_blocks_fails_and_names_who_made_them(run: Run) -> None:
    result = run("""
        def test_loop(steady):
            for _ in steady(rounds=8, warmup=2):
                calm()
                large(100_000)

        @pytest.mark.poolwise_steady(rounds=6, warmup=1)
        def test_whole():
            large(50_000)
    """)
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert re.search(r"and 8 large allocations in 8 rounds after 2 of warm-up \(0 and 0 are", text)
    assert re.search(r"8 of 100,001 bytes, .*: large, .*test_it\.py:10: bytearray\(size\)", text)
    assert re.search(r"6 of 50,001 bytes, .*: large, .*test_it\.py:10: bytearray\(size\)", text)
    assert "calm, " not in text  # it is no suspect
    assert "steady.py" not in text  # nor is poolwise


def test_a_loop_that_grows_fails_by_page_faults_and_names_what_was_kept(run: Run) -> None:
    result = run("""
        def test_loop(steady):
            for number in steady(rounds=8, warmup=2):
                kept.append([str(number * i) for i in range(1000)])
    """)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    faults = int(
        re.search(r"not steady: ([\d,]+) page faults and 0 large", text)[1].replace(",", "")
    )  # type: ignore[index]
    assert faults > 50  # 8,000 strings of 53 bytes and more, on pages of 4096
    assert re.search(r"about [\d,]+ bytes: test_loop.*test_it\.py:14: str\(number \* i\)", text)


def test_another_thread_counts(run: Run) -> None:
    result = run("""
        def test_loop(steady):
            for _ in steady(rounds=3, warmup=1):
                thread = threading.Thread(target=large, args=(300_000,))
                thread.start()
                thread.join()
    """, "--tb=line")  # fmt: skip
    result.assert_outcomes(failed=1)
    assert "3 large allocations" in result.stdout.str()


def test_the_limits_allow_something(run: Run) -> None:
    result = run("""
        def work():
            large(20_000)

        def test_allowed(steady):
            for _ in steady(rounds=3, warmup=2, max_large=3):
                work()

        def test_left_early(steady):
            for number in steady(rounds=3, warmup=0):
                work()
                break

        def test_its_own_failure_is_shown(steady):
            for number in steady():
                assert number < 3, "the third"

        @pytest.mark.poolwise_steady(rounds=3)
        def test_its_own_failure_is_shown_here_too():
            raise LookupError("lost")
    """)
    result.assert_outcomes(passed=2, failed=2)
    assert "the third" in result.stdout.str()
    assert "LookupError: lost" in result.stdout.str()


def test_wrong_limits_are_said(run: Run) -> None:
    result = run("""
        def test_rounds(steady):
            for _ in steady(rounds=0):
                pass

        @pytest.mark.poolwise_steady(5)
        def test_marker():
            pass

        def test_twice(steady):
            for _ in steady(rounds=1):
                for _ in steady(rounds=1):
                    pass
    """)
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert "steady: rounds=0: give a whole number, 1 or more" in text
    assert "give its limits by name" in text
    assert "this process is being recorded already" in text


REPORTED = """
    def test_small():
        for _ in range(200):
            bytes(1000)

    @pytest.mark.parametrize("count", [20, 40])
    def test_large(count):
        for _ in range(count):
            large(100_000)

    def test_nothing():
        pass

    def test_steady(steady):
        for _ in steady(rounds=5, warmup=5):
            bytes(3000)
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_what_each_test_took_is_reported(
    run: Run, workers: tuple[str, ...], pytester: pytest.Pytester
) -> None:
    if workers:
        pytest.importorskip("xdist")
    result = run(REPORTED, "--poolwise", "--poolwise-top=3", "--poolwise-json=used.json", *workers)
    result.assert_outcomes(passed=5)
    used = json.loads((pytester.path / "used.json").read_text())
    assert used["schema"] == 1
    by_name = {test["test"].partition("::")[2]: test for test in used["tests"]}
    assert len(by_name) == 5
    for count in (20, 40):  # every block of 16 KiB is seen
        found = by_name[f"test_large[{count}]"]
        assert found["large"] == pytest.approx(count, abs=0.1)
        assert found["bytes"] == pytest.approx(count * 100_001, rel=0.2)
    assert 60 < by_name["test_small"]["objects"] < 600
    assert by_name["test_nothing"]["bytes"] < 300_000  # other threads of xdist, and few samples
    assert by_name["test_nothing"]["page_faults"] < 50
    assert by_name["test_steady"]["objects"] > 3  # its own recording is counted
    lines = result.stdout.lines
    start = next(n for n, line in enumerate(lines) if "what the bodies of tests allocated" in line)
    assert [line.split("::")[1] for line in lines[start + 2 : start + 5]][:2] == [
        "test_large[40]",
        "test_large[20]",
    ]
    assert lines[start + 5] == "and 2 tests that took less"


def test_nothing_without_the_option(run: Run) -> None:
    result = run("""
        import sys

        def test_it():
            assert not [name for name in sys.modules if name.startswith("poolwise.profile")]
    """)
    result.assert_outcomes(passed=1)
    assert "poolwise:" not in result.stdout.str()


def test_a_file_that_cannot_be_written_is_said_before_the_tests_run(run: Run) -> None:
    result = run("def test_it(): pass", "--poolwise-json=none/such.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "none/such.json: cannot be written" in result.stderr.str()


def test_the_plugin_costs_little_to_load() -> None:
    code = "import sys, pytest; before = set(sys.modules); import poolwise.pytest_plugin\n"
    code += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rooms = {name.split(".")[1] for name in done.stdout.split() if name.startswith("poolwise.")}
    assert rooms == {"_core", "errors", "pools", "pytest_plugin"}
    foreign = {n.partition(".")[0] for n in done.stdout.split()} - set(sys.stdlib_module_names)
    assert foreign == {"poolwise"}


def test_steadiness_without_pytest(tmp_path: Path) -> None:
    def loop() -> None:
        for _ in steadiness.rounds(steadiness.Limits(rounds=2), str(tmp_path)):
            bytearray(70_000)

    with pytest.raises(steadiness.NotSteady, match="2 large allocations"):
        loop()
    with pytest.raises(UsageError, match="max_faults=-1"):
        steadiness.Limits(max_faults=-1)
