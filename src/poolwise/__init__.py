"""Measured memory reuse for Python."""

from __future__ import annotations

from poolwise.errors import (
    BufferReleased,
    DoublePut,
    ForeignPut,
    LeaseError,
    OutOfMemory,
    PoolClosed,
    PoolMisuseWarning,
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
    NullPool,
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
    "DoublePut",
    "ForeignPut",
    "Lease",
    "LeaseError",
    "LocalStats",
    "NullPool",
    "OutOfMemory",
    "Pool",
    "PoolClosed",
    "PoolMisuseWarning",
    "PoolStats",
    "PoolwiseError",
    "UsageError",
    "UsageTypeError",
    "ViewsAlive",
    "__version__",
    "statistics",
]
