"""Read this process's own recording while it goes on, each piece of its log once."""

from __future__ import annotations

import os
from typing import BinaryIO

from poolwise.errors import PoolwiseError
from poolwise.profile import child
from poolwise.profile.recording import (
    BIRTHS,
    CONSTRUCTIONS,
    DEATHS,
    Recording,
    add_chunk,
    births_of,
    chunks,
    deaths_of,
    open_log,
)
from poolwise.profile.totals import Totals


class NotRecording(PoolwiseError, RuntimeError):
    """There is no recording under way in this process."""


class Follower:
    """The sums of the recording under way. Not for two threads at once."""

    def __init__(self) -> None:
        self.recording = Recording("")
        self.totals = Totals()
        self.number = 0  # of the recording in this process
        self._log: BinaryIO | None = None

    def catch_up(self) -> None:
        """Take in what was recorded up to now; begin anew if it is another recording.

        Raises:
            NotRecording: none is under way.
            RecordingError: it could not be written, or not be read.
        """
        found = child.flush()
        if found is None:
            raise NotRecording(
                "no recording is under way in this process: start one with "
                "poolwise.profile.start(), or run the program with poolwise profile"
            )
        directory, number = found
        if number != self.number or self._log is None:
            self.close()
            self._log = open_log(directory)
            self.recording, self.totals, self.number = Recording(directory), Totals(), number
        size = os.fstat(self._log.fileno()).st_size  # what comes after it is for the next time
        for chunk in chunks(self._log, size):
            if chunk.kind == BIRTHS:
                self.totals.add_births(births_of(chunk.payload))
            elif chunk.kind == DEATHS:
                self.totals.add_deaths(deaths_of(chunk.payload))
            elif chunk.kind != CONSTRUCTIONS:  # they may become many, and are no allocations
                add_chunk(self.recording, chunk)

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None
