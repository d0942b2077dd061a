"""Reuse in one process: objects and buffers."""

from __future__ import annotations

from poolwise._core import Buffer, BufferPool, Lease, Pool
from poolwise.pools.report import BufferPoolStats, PoolStats

__all__ = ["Buffer", "BufferPool", "BufferPoolStats", "Lease", "Pool", "PoolStats"]
