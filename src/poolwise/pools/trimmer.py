"""What has idle pools trimmed: one daemon thread, `poolwise-trimmer`, for all of them.

Three triggers:

    timer       the base, since full garbage collections may never come. The standard period is 60
                seconds: shorter than the pause between two bursts of work, and a trim drops what
                the second burst needs
    collection  after a full garbage collection, but a pool no sooner than a quarter of its period
                after its last trim: a program that collects all the time shall keep its pools. The
                collector's callback only leaves a note, since a trim runs finalizers; where every
                collection is a full one (free-threaded builds) the quarter is all that counts
    pressure    memory is short (pressure.py): `medium` trims every pool once a look, `high` clears
                them

The thread starts with the first pool that has something to keep, holds pools by weak references
only, and takes the GIL for some tens of microseconds every POLL_SECONDS, to look at the notes and
at the memory. It ends before a fork and starts again after it, in parent and child: the child of a
program with several threads may deadlock, and CPython warns of it from 3.12 on (3.13.0 to 3.13.9
and 3.14.0 count the threads so late that they warn all the same). A sub-interpreter has none.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import threading
import time
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poolwise.pools import pressure

if TYPE_CHECKING:
    from poolwise._core import BufferPool, Pool

    _AnyPool = Pool[Any] | BufferPool

POLL_SECONDS = 5.0
STOP_SECONDS = 1.0  # how long the end of the program may wait for a trim under way
FORK_SECONDS = 0.1  # how long a fork may


@dataclass(slots=True)
class _Watched:
    pool: weakref.ref[_AnyPool]
    seconds: float
    trimmed: float  # when, by the monotonic clock

    @property
    def due(self) -> float:
        return self.trimmed + self.seconds


class Trimmer:
    """Trims every watched pool, until the pool or the program ends."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._forking = False
        self._watched: list[_Watched] = []
        self._collected = False
        self._tier: pressure.Tier = "low"

    def watch(self, pool: _AnyPool, seconds: float) -> None:
        """Trim `pool` every `seconds` from now on, and when the other triggers say so."""
        with self._wake:
            if not self._watched and self._note_collection not in gc.callbacks:
                gc.callbacks.append(self._note_collection)
            self._watched.append(_Watched(weakref.ref(pool), seconds, time.monotonic()))
            self._start()
            self._wake.notify()

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            self._collected = True

    def _start(self) -> None:
        if self._thread is not None or self._stopping or self._forking:
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
        looked = time.monotonic()
        while self._sleep(looked + POLL_SECONDS):
            now = time.monotonic()
            if now >= looked + POLL_SECONDS:
                looked = now
                self._look(now)
            for watched in self._all():
                if now >= watched.due:
                    self._trim(watched, "timer", now)

    def _sleep(self, until: float) -> bool:
        """Sleep until then, or until a pool is due; False: there is nothing to stay for."""
        with self._wake:
            while not (self._stopping or self._forking):
                self._watched = [one for one in self._watched if one.pool() is not None]
                if not self._watched:
                    break
                wait = min(until, *(one.due for one in self._watched)) - time.monotonic()
                if wait <= 0:
                    return True
                self._wake.wait(wait)
            self._thread = None
            return False

    def _all(self) -> list[_Watched]:
        with self._wake:
            return list(self._watched)

    def _look(self, now: float) -> None:
        """The triggers beside the timer."""
        self._tier = pressure.read(self._tier).tier
        collected, self._collected = self._collected, False
        for watched in self._all():
            if self._tier != "low":
                self._trim(watched, "pressure", now)
                if self._tier == "high" and (pool := watched.pool()) is not None:
                    pool.clear()
                    del pool
            elif collected and now >= watched.trimmed + watched.seconds / 4:
                self._trim(watched, "collection", now)

    def _trim(self, watched: _Watched, reason: Any, now: float) -> None:
        watched.trimmed = now
        pool = watched.pool()
        if pool is not None:
            with contextlib.suppress(MemoryError):  # the next trim may find some
                pool.trim(reason)

    def stop(self) -> None:
        """End the thread; no pool is trimmed by it any more."""
        with self._wake:
            self._stopping = True
            self._watched.clear()
            thread = self._thread
            self._wake.notify()
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._note_collection)
        _wait_for(thread, STOP_SECONDS)

    def before_fork(self) -> None:
        """End the thread for the time of the fork."""
        with self._wake:
            self._forking = True
            thread = self._thread
            self._wake.notify()
        _wait_for(thread, FORK_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Have the thread again."""
        with self._wake:
            self._forking = False
            if self._watched:
                self._start()

    def after_fork_in_child(self) -> None:
        """Have one here too. If it did not end in time, it is gone, and perhaps held the lock."""
        self._wake = threading.Condition()
        self._thread = None
        self.after_fork_in_parent()


def _wait_for(thread: threading.Thread | None, seconds: float) -> None:
    """Until it has ended, but not for ever: a finalizer may be waiting for the caller."""
    if thread is None or thread is threading.current_thread():
        return
    end = time.monotonic() + seconds
    thread.join(seconds)
    # Up to 3.12 the kernel has a thread that was joined for a moment more.
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < end:
        time.sleep(0)


_trimmer = Trimmer()
watch = _trimmer.watch
atexit.register(_trimmer.stop)
os.register_at_fork(
    before=_trimmer.before_fork,
    after_in_parent=_trimmer.after_fork_in_parent,
    after_in_child=_trimmer.after_fork_in_child,
)
