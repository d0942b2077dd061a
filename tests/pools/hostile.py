"""Objects whose own code fails: what looks at them must not run it."""

from __future__ import annotations

from typing import NoReturn


class Hostile:
    def fail(self, *args: object) -> NoReturn:
        raise AssertionError("code of the object was run")

    __eq__ = __getattribute__ = __getattr__ = __repr__ = __len__ = __iter__ = fail  # type: ignore[assignment]
    __class__ = property(fail)  # type: ignore[assignment]
    __hash__ = object.__hash__


class HostileDict(dict[str, object]):
    items = values = get = __iter__ = __len__ = __getitem__ = __contains__ = Hostile.fail  # type: ignore


class HostileList(list[object]):
    __iter__ = __len__ = __getitem__ = __contains__ = Hostile.fail  # type: ignore
