"""Reuse in one process: objects and buffers."""

from __future__ import annotations

import sys

from poolwise._core import Buffer, BufferPool, Lease, Pool, statistics
from poolwise.pools.buffer_report import BufferClassStats, BufferPoolStats
from poolwise.pools.fit import fit_classes
from poolwise.pools.null import NullPool
from poolwise.pools.report import LocalStats, PoolStats

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    # The first put would import it, perhaps while other threads run. CPython has the GIL while a C
    # module is imported, and a thread that was asked to drop it meanwhile (seen with 3.13.5) is
    # asked for ever: it detaches at each turn of each loop, 10 ns a time.
    from poolwise.pools import trimmer  # noqa: F401

__all__ = [
    "Buffer",
    "BufferClassStats",
    "BufferPool",
    "BufferPoolStats",
    "Lease",
    "LocalStats",
    "NullPool",
    "Pool",
    "PoolStats",
    "fit_classes",
    "statistics",
]
