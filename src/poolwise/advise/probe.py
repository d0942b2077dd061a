"""A small block taken from the kernel, written and given back: how dear memory is just now."""

from __future__ import annotations

import mmap
import time

PROBE_BYTES = 1 << 20
WARM_ROUNDS = 2  # after a sleep everything is cold
PROBE_ROUNDS = 2
PROBE_SECONDS = 0.15  # between two, while a child runs

_content = bytes(PROBE_BYTES)


def probe() -> float:
    """CPU seconds of this thread for one probe, about a millisecond."""
    started = 0.0
    for turn in range(WARM_ROUNDS + PROBE_ROUNDS):
        if turn == WARM_ROUNDS:
            started = time.thread_time()
        with mmap.mmap(-1, PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
            block.write(_content)
    return time.thread_time() - started
