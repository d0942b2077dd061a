"""Every error poolwise raises: also the builtin error that a caller would expect."""

from __future__ import annotations


class PoolwiseError(Exception):
    """Base of all poolwise errors."""


class UsageError(PoolwiseError, ValueError):
    """A value given to poolwise cannot be used; the message says which, and what to do."""


class RecordingError(PoolwiseError, ValueError):
    """A recording is damaged, foreign, or cannot be written."""
