"""Measured memory reuse for Python."""

from __future__ import annotations

from poolwise.errors import (
    BufferReleased,
    ForeignPut,
    LeaseError,
    OutOfMemory,
    PoolClosed,
    PoolwiseError,
    UsageError,
    UsageTypeError,
    ViewsAlive,
)
from poolwise.pools import (
    Buffer,
    BufferPool,
    BufferPoolStats,
    Lease,
    LocalStats,
    Pool,
    PoolStats,
    statistics,
)

__version__ = "0.1.0"

__all__ = [
    "Buffer",
    "BufferPool",
    "BufferPoolStats",
    "BufferReleased",
    "ForeignPut",
    "Lease",
    "LeaseError",
    "LocalStats",
    "OutOfMemory",
    "Pool",
    "PoolClosed",
    "PoolStats",
    "PoolwiseError",
    "UsageError",
    "UsageTypeError",
    "ViewsAlive",
    "__version__",
    "statistics",
]
