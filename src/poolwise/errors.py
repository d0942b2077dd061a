"""Every error poolwise raises: also the builtin error that a caller would expect."""

from __future__ import annotations


class PoolwiseError(Exception):
    """Base of all poolwise errors."""


class UsageError(PoolwiseError, ValueError):
    """A value given to poolwise cannot be used; the message says which, and what to do."""


class RecordingError(PoolwiseError, ValueError):
    """A recording is damaged, foreign, or cannot be written."""


class AttachError(PoolwiseError, RuntimeError):
    """A running process cannot be sampled; the message says why, and what to do."""


class UsageTypeError(PoolwiseError, TypeError):
    """An argument of poolwise is of the wrong type; the message says which, and what to do."""


class ForeignPut(PoolwiseError, ValueError):
    """An object was put into a pool that does not make such objects."""


class LeaseError(PoolwiseError, RuntimeError):
    """A lease was entered twice, or left without having been entered."""


class PoolClosed(PoolwiseError, ValueError):
    """Something was asked of a pool that has been closed."""


class BufferReleased(PoolwiseError, ValueError):
    """A buffer was used after its release."""


class ViewsAlive(PoolwiseError, BufferError):
    """A buffer was released while views of it live; the buffer is unchanged."""


class OutOfMemory(PoolwiseError, MemoryError):
    """The system has no memory for a block."""


class DoublePut(PoolwiseError, ValueError):
    """An object was put that is idle in the pool already (found by `checks`)."""


class PoolMisuseWarning(UserWarning):
    """Something that `checks` found: a leak, an overlong lease, a use after put, …"""
