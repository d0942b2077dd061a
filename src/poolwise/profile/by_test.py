"""What each test of a run allocated: one recording over all tests, divided by their times."""

from __future__ import annotations

import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from poolwise.profile import child, recording, steady
from poolwise.profile.sites import LARGE_BYTES

MEAN_BYTES = 16384.0  # 17 times in a large block, by its span: next to none is missed


@dataclass(slots=True)
class Used:
    """What the body of a test allocated: estimates, but for the page faults.

    `large`: blocks of 16 KiB and more.
    """

    test: str
    began_ns: int
    ended_ns: int = 0
    page_faults: int = 0
    objects: float = 0.0
    bytes: float = 0.0
    large: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Recorder:
    """Records this process from the first test on; a part of a test may have its own recording."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="poolwise-tests-")
        self.parts: list[str] = []
        self.tests: list[Used] = []

    def new_part(self) -> str:
        """A directory for the next recording; the one before must have ended."""
        path = os.path.join(self.folder.name, str(len(self.parts)))
        os.mkdir(path)
        self.parts.append(path)
        return path

    def start(self) -> None:
        """Record from now on."""
        child.start({"dir": self.new_part(), "mean_bytes": MEAN_BYTES})

    @contextmanager
    def test(self, name: str) -> Iterator[None]:
        """The body of a test."""
        if not self.parts:
            self.start()
        used = Used(name, time.monotonic_ns())
        before = steady.page_faults() - steady.own_faults
        try:
            yield
        finally:
            used.page_faults = steady.page_faults() - steady.own_faults - before
            used.ended_ns = time.monotonic_ns()
            self.tests.append(used)

    @contextmanager
    def paused(self) -> Iterator[str]:
        """A time with a recording of its own, into the directory given."""
        with steady.own():
            child.stop()
            path = self.new_part()
        try:
            yield path
        finally:
            with steady.own():
                self.start()

    def stop(self) -> list[Used]:
        """End, and say what each test used."""
        child.stop()
        starts = [used.began_ns for used in self.tests]
        for part in self.parts:
            log = recording.read(part)
            for number, birth in enumerate(log.births):
                at = bisect_right(starts, birth.time_ns) - 1
                death = log.deaths.get(number)
                counts = birth.domain != recording.CONSTRUCTION and (
                    death is None or death.kind != recording.THINNED
                )
                if counts and at >= 0 and birth.time_ns <= self.tests[at].ended_ns:
                    size = max(birth.size, death.size) if death is not None else birth.size
                    weight = log.weight(number)
                    used = self.tests[at]
                    used.objects += weight
                    used.bytes += weight * size
                    used.large += weight * (size >= LARGE_BYTES)
        self.folder.cleanup()
        return self.tests
