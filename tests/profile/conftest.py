"""Fixtures of the sampler's tests."""

from attach_programs import start
from sampled_programs import record, same_as_bare

__all__ = ["record", "same_as_bare", "start"]
