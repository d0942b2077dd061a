"""The timer that trims idle pools: one daemon thread, `poolwise-trimmer`, for all of them.

A timer is the base trigger, since full garbage collections may never come. The standard period is
60 seconds: shorter than the pause between two bursts of work, and a trim drops what the second
burst needs. The thread starts with the first pool that has something to keep, holds pools by weak
references only, and takes the GIL once a period. After a fork the child starts its own; a
sub-interpreter has none.
"""

from __future__ import annotations

import atexit
import contextlib
import heapq
import os
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poolwise._core import BufferPool, Pool

    _AnyPool = Pool[Any] | BufferPool

STOP_SECONDS = 1.0  # how long the end of the program may wait for a trim under way


class Trimmer:
    """Trims every watched pool once a period, until the pool or the program ends."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._turns = 0  # breaks ties in the heap
        self._due: list[tuple[float, int, float, weakref.ref[_AnyPool]]] = []

    def watch(self, pool: _AnyPool, seconds: float) -> None:
        """Trim `pool` every `seconds` from now on."""
        with self._wake:
            self._turns += 1
            first = (time.monotonic() + seconds, self._turns, seconds, weakref.ref(pool))
            heapq.heappush(self._due, first)
            self._start()
            self._wake.notify()

    def _start(self) -> None:
        if self._thread is not None or self._stopping:
            return
        thread = threading.Thread(target=self._run, name="poolwise-trimmer", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self._stopping = True
            warnings.warn(
                f"pools are not trimmed by the timer here ({error}): call trim() yourself",
                RuntimeWarning,
                stacklevel=3,
            )
        else:
            self._thread = thread

    def _run(self) -> None:
        while (pool := self._next()) is not None:
            with contextlib.suppress(MemoryError):  # the next trim may find some
                pool.trim()
            del pool  # hold no pool while asleep

    def _next(self) -> _AnyPool | None:
        """The next pool whose time has come; None when the program, or the last pool, ends."""
        with self._wake:
            while not self._stopping and self._due:
                at, _, seconds, reference = self._due[0]
                wait = at - time.monotonic()
                if wait > 0:
                    self._wake.wait(wait)
                    continue
                pool = reference()
                if pool is None:
                    heapq.heappop(self._due)
                    continue
                # Replaced in one step: a fork in between would lose the pool to the child.
                self._turns += 1
                again = (time.monotonic() + seconds, self._turns, seconds, reference)
                heapq.heapreplace(self._due, again)
                return pool
            self._thread = None
            return None

    def stop(self) -> None:
        """End the thread; no pool is trimmed by the timer any more."""
        with self._wake:
            self._stopping = True
            self._due.clear()
            thread = self._thread
            self._wake.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    def restart_after_fork(self) -> None:
        """In the child: the thread is gone, and perhaps it held the lock."""
        self._wake = threading.Condition()
        self._thread = None
        if self._due and not self._stopping:
            self._start()


_trimmer = Trimmer()
watch = _trimmer.watch
atexit.register(_trimmer.stop)
os.register_at_fork(after_in_child=_trimmer.restart_after_fork)
