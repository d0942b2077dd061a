"""NullPool: a pool that reuses nothing, to switch pooling off in one word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from poolwise._core import Pool
from poolwise.pools.report import LocalStats, PoolStats

_T = TypeVar("_T")


class NullPool(Generic[_T]):
    """Takes the arguments of `Pool`, and has its methods: `get` calls the factory, `put` drops.

    `reset` still runs at `put`, so that its errors show; the settings are checked as `Pool` checks
    them, and raise the same errors.

    >>> import poolwise
    >>> pool = poolwise.NullPool(list, reset=list.clear)
    >>> pool.put(pool.get())
    >>> pool.stats().idle, pool.stats().misses
    (0, 1)
    """

    def __init__(
        self,
        factory: Callable[[], _T],
        *,
        reset: Callable[[_T], object] | None = None,
        **settings: Any,
    ) -> None:
        # Never kept filled: it knows what an argument may be, and what its factory makes.
        self._pool: Pool[_T] = Pool(
            factory, reset=reset, **{**settings, "max_idle": 0, "trim": None, "checks": "off"}
        )
        Pool(factory, reset=reset, **settings)
        self.name = self._pool.name

    def get(self) -> _T:
        """A new object. Raises what the factory raises."""
        return self._pool.get()

    def put(self, object: _T, /) -> None:
        """Run `reset` and drop the object. Raises what `reset` raises, and `ForeignPut`."""
        self._pool.put(object)

    @contextmanager
    def lease(self) -> Iterator[_T]:
        """A new object for the length of a with statement."""
        thing = self.get()
        try:
            yield thing
        finally:
            self.put(thing)

    def trim(self, reason: str = "call", /) -> int:
        """Nothing is idle: 0."""
        return self._pool.trim(reason)  # type: ignore[arg-type]  # the pool checks it

    def clear(self) -> int:
        """Nothing is idle: 0."""
        return self._pool.clear()

    def stats(self) -> PoolStats:
        """As of a `Pool` with no hits; what was put counts as `dropped_full`."""
        return self._pool.stats()

    def locals(self) -> list[LocalStats]:
        """None: nothing is kept for any thread."""
        return []

    def __repr__(self) -> str:
        return f"<poolwise.NullPool {self.name!r}>"
