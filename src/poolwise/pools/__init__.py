"""Reuse in one process: objects and buffers."""

from __future__ import annotations

from poolwise._core import Buffer, BufferPool, Lease, Pool, statistics
from poolwise.pools.null import NullPool
from poolwise.pools.report import BufferPoolStats, LocalStats, PoolStats

__all__ = [
    "Buffer",
    "BufferPool",
    "BufferPoolStats",
    "Lease",
    "LocalStats",
    "NullPool",
    "Pool",
    "PoolStats",
    "statistics",
]
