"""What the advisor's tests share: programs that are really recorded, and prices that are fixed."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from price_curves import curve, price

from poolwise.advise import judge
from poolwise.advise.calibrate import Calibration, Curve
from poolwise.advise.verdicts import Advice
from poolwise.profile import recording, sites
from poolwise.profile.recording import Recording
from poolwise.profile.sites import Site
from poolwise.program import Instructions, Outcome, Program, run_child


@pytest.fixture(scope="session")
def prices() -> Calibration:
    """About what a machine of 2020 pays; the same in every run."""
    paged = {f"{name}_{way}": curve(1e-6, 1e-6)
             for name in ("fault", "huge", "threads") for way in ("mmap", "trim")}  # fmt: skip
    return Calibration(
        machine={"huge_pages": "never"},
        curves={
            **paged,
            "zero_written": Curve((1 << 20,), (price(20e-6),)),
            "zero_alone": Curve((1 << 20,), (price(30e-6),)),
            "copy": Curve((1 << 20,), (price(60e-6),)),
            "allocate": curve(20e-9, 100e-9),
        },
        prices={
            "object": price(30e-9),
            "construct": price(50e-9),
            "gc_young": price(20e-9),
            "gc_full": price(60e-9),
            "gc_garbage": price(200e-9),
            "pool_pair": price(30e-9),
            "pool_reset": price(30e-9),
            "pool_lease": price(120e-9),
            "buffer_pair": price(40e-9),
            "probe": price(400e-6),
        },
    )


class Run(NamedTuple):
    """A program that was run under the sampler."""

    program: Program
    outcome: Outcome
    recording: Recording
    sites: list[Site]

    def judge(self, prices: Calibration, *, glibc: bool = True) -> Advice:
        """The advice on it."""
        summary = self.recording.summary
        assert summary is not None
        return judge.judge(
            self.recording,
            self.sites,
            prices,
            cpu_seconds=max(self.outcome.cpu_seconds - summary.overhead_seconds, 1e-6),
            page_faults=max(self.outcome.minor_faults - summary.own_faults, 0),
            program=self.program.command(),
            glibc=glibc,
        )


Record = Callable[..., Run]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Run source as `app.py` in a directory of its own, by default with every allocation seen."""

    def run(source: str, *, exact: bool = True) -> Run:
        directory = tmp_path / "recording"
        directory.mkdir()
        path = tmp_path / "app.py"
        path.write_text(textwrap.dedent(source))
        program = Program(str(path))
        profile = {"dir": str(directory), "exact": exact}
        outcome = run_child(program, Instructions(profile=profile))
        assert outcome.exit_code == 0, outcome.ended()
        recorded = recording.read(directory)
        return Run(program, outcome, recorded, sites.find(recorded, str(tmp_path) + os.sep))

    return run
