"""The pytest plugin: `--poolwise`, the fixture `steady` and the marker `poolwise_steady`.

It imports nothing of the sampler before one of them is used.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from poolwise.profile.by_test import Recorder

MARKER = "poolwise_steady"
RUNNING = pytest.StashKey[bool]()
Steady = Callable[..., Iterator[int]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("poolwise", "measured memory reuse")
    group.addoption(
        "--poolwise",
        action="store_true",
        help="sample what the body of each test allocates, and list the tests that take most",
    )
    group.addoption(
        "--poolwise-top",
        type=int,
        default=10,
        metavar="N",
        help="list N tests (default: 10; 0: all)",
    )
    group.addoption(
        "--poolwise-json", type=Path, metavar="FILE", help="write what each test took to FILE"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(rounds=20, warmup=5, max_faults=0, max_large=0): run the test so often, and "
        "fail it if the rounds after the warm-up have page faults or allocate blocks of 16 KiB "
        "and more",
    )
    path: Path | None = config.getoption("poolwise_json")
    if config.getoption("poolwise") or path is not None:
        from poolwise import PoolwiseError
        from poolwise.profile.child import check_stack_reader

        try:
            check_stack_reader()
            if path is not None:
                path.open("a").close()
        except PoolwiseError as error:
            raise pytest.UsageError(f"--poolwise: {error}") from None
        except OSError as error:
            raise pytest.UsageError(
                f"--poolwise-json {path}: cannot be written ({error.strerror})"
            ) from None
        config.pluginmanager.register(_Report(config), "poolwise-report")


@pytest.fixture
def steady(request: pytest.FixtureRequest) -> Steady:
    """A loop that must come to a steady state: `for _ in steady(rounds=20, warmup=5): work()`.

    The test fails if the rounds after the warm-up have more than `max_faults` page faults, or
    allocate more than `max_large` blocks of 16 KiB and more (0 both), and names who allocated.
    """

    def rounds(**limits: int) -> Iterator[int]:
        __tracebackhide__ = True
        from poolwise.profile import steady as steadiness

        checked = steadiness.Limits(**limits)
        with _directory(request.config) as directory:
            yield from steadiness.rounds(checked, directory)

    return rounds


def _directory(config: pytest.Config) -> AbstractContextManager[str]:
    """Where a recording of its own may go, while none else runs."""
    report: _Report | None = config.pluginmanager.get_plugin("poolwise-report")
    if report is not None and report.recorder is not None:
        return report.recorder.paused()
    return tempfile.TemporaryDirectory(prefix="poolwise-steady-")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test again and again: by this hook anew, for asynchronous tests' plugins."""
    marker = pyfuncitem.get_closest_marker(MARKER)
    if marker is None or pyfuncitem.stash.get(RUNNING, False):
        return None
    __tracebackhide__ = True
    from poolwise.profile import steady as steadiness

    if marker.args:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: give its limits by name, as in rounds=20")
    limits = steadiness.Limits(**marker.kwargs)
    pyfuncitem.stash[RUNNING] = True
    found = ""
    try:
        with _directory(pyfuncitem.config) as directory:
            for _ in steadiness.rounds(limits, directory):
                pyfuncitem.ihook.pytest_pyfunc_call(pyfuncitem=pyfuncitem)
    except steadiness.NotSteady as error:
        found = str(error)
    finally:
        pyfuncitem.stash[RUNNING] = False
    if found:
        pytest.fail(found, pytrace=False)
    return True


class _Report:
    """What each test took: gathered where it runs, shown where the report is made."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.recorder: Recorder | None = None
        self.used: list[dict[str, Any]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        if self.recorder is None:
            from poolwise.profile.by_test import Recorder

            self.recorder = Recorder()
        with self.recorder.test(item.nodeid):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self.recorder is not None:
            self.used += [used.to_json() for used in self.recorder.stop()]
        if hasattr(self.config, "workeroutput"):  # a worker of pytest-xdist
            self.config.workeroutput["poolwise"] = self.used

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.used += getattr(node, "workeroutput", {}).get("poolwise", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.used.sort(key=lambda used: -used["bytes"])
        path: Path | None = self.config.getoption("poolwise_json")
        if path is not None:
            path.write_text(json.dumps({"schema": 1, "tests": self.used}, indent=1) + "\n")
        top: int = self.config.getoption("poolwise_top")
        shown = self.used[:top] if top > 0 else self.used
        terminalreporter.section("poolwise: what the bodies of tests allocated, estimated")
        terminalreporter.line(f"{'objects':>13}{'bytes':>15}{'16 KiB +':>11}{'faults':>10}  test")
        for used in shown:
            terminalreporter.line(
                f"{used['objects']:>13,.0f}{used['bytes']:>15,.0f}{used['large']:>11,.0f}"
                f"{used['page_faults']:>10,}  {used['test']}"
            )
        if len(shown) < len(self.used):
            terminalreporter.line(f"and {len(self.used) - len(shown)} tests that took less")
