"""Reuse in one process: objects and buffers."""

from __future__ import annotations

from poolwise._core import Buffer, BufferPool, Lease, Pool, statistics
from poolwise.pools.buffer_report import BufferClassStats, BufferPoolStats
from poolwise.pools.fit import fit_classes
from poolwise.pools.null import NullPool
from poolwise.pools.report import LocalStats, PoolStats

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
