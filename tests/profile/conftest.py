"""Fixtures of the sampler's tests."""

from sampled_programs import record, same_as_bare

__all__ = ["record", "same_as_bare"]
