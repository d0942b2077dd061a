"""What an object is made of, seen without running any code of its class, and marks of it.

A mark says what a value was, and keeps none of it alive: kind, length, identity, checksum.
"""

from __future__ import annotations

import io
import types
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

Mark = tuple[str, object]
"""In words, and what tells it from others that the same words describe."""

_ATOMS = (int, float, complex, bool, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset, deque, bytearray)
_BITS_SHOWN = 64


def is_a(thing: object, *kinds: type) -> bool:
    """As isinstance, which would ask a proxy for its `__class__`."""
    return issubclass(type(thing), kinds)


def in_class(kind: type, name: str) -> object:
    """What the class or its bases define by that name, unbound; None: nothing."""
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def own_dict(thing: object) -> dict[str, object] | None:
    """The dict of its attributes; None: it has none, or one that its class computes."""
    getter = in_class(type(thing), "__dict__")
    plain = type(getter) in (types.GetSetDescriptorType, types.MemberDescriptorType)
    own = getter.__get__(thing) if plain else None  # type: ignore[attr-defined]
    return own if type(own) is dict else None


def attributes(thing: object) -> dict[str, object]:
    """Attributes in its dict and slots, by name.

    >>> from poolwise.pools.insides import attributes
    >>> class Point:
    ...     def __init__(self): self.x = 3
    >>> attributes(Point())
    {'x': 3}
    """
    found: dict[str, object] = dict(own_dict(thing) or {})
    for base in type(thing).__mro__:
        for name, member in vars(base).items():
            if type(member) is types.MemberDescriptorType and name not in ("__dict__", *found):
                try:
                    found[name] = member.__get__(thing)
                except AttributeError:  # an empty slot
                    continue
    return found


def state(thing: object) -> dict[str, Mark]:
    """Marks of its contents, if it is a container or buffer, and of its attributes.

    >>> from poolwise.pools.insides import state
    >>> {what: words for what, (words, _) in state(bytearray(3)).items()}
    {'contents': '3 bytes'}
    """
    marks = {f"attribute {name!r}": _mark(value) for name, value in attributes(thing).items()}
    contents = _contents(thing)
    if contents is not None:
        marks["contents"] = contents
    return marks


def difference(before: dict[str, Mark], after: dict[str, Mark]) -> str:
    """The first that changed, in words; empty: none.

    >>> from poolwise.pools.insides import difference, state
    >>> rows = []
    >>> before = state(rows)
    >>> rows.append(1)
    >>> difference(before, state(rows))
    'its contents, from 0 items to 1 items'
    """
    for what in before | after:
        old, new = before.get(what), after.get(what)
        if old == new:
            continue
        name = "its contents" if what == "contents" else what
        if old is None or new is None:
            return f"{name}, which {'is new' if old is None else 'is gone'}"
        if old[0] == new[0]:
            return f"{name}, from {old[0]} to {'' if what == 'contents' else 'an'}other {new[0]}"
        return f"{name}, from {old[0]} to {new[0]}"
    return ""


def _mark(value: Any) -> Mark:
    kind = type(value)
    if kind is int and int.bit_length(value) > _BITS_SHOWN:
        return "large int", hash(value)
    if kind in _ATOMS:
        return repr(value), None
    if kind in (str, bytes):
        return f"{kind.__name__} of length {len(value)}", hash(value)
    if kind in _CONTAINERS:
        mark = f"{kind.__name__} of length {len(value)}"
        return mark, (id(value), zlib.crc32(value) if kind is bytearray else None)
    return kind.__qualname__, id(value)


def _contents(thing: Any) -> Mark | None:
    ids = _ids(thing)
    if ids is not None:
        what = tuple(ids)
        count = len(what) // 2 if is_a(thing, dict) else len(what)
        return f"{count} items", hash(what)
    try:
        if is_a(thing, io.BytesIO):
            at = io.BytesIO.tell(thing)
            with io.BytesIO.getbuffer(thing) as view:
                return f"{view.nbytes} bytes at {at}", zlib.crc32(view)
        if is_a(thing, io.StringIO):
            text = io.StringIO.getvalue(thing)
            return f"{len(text)} characters at {io.StringIO.tell(thing)}", hash(text)
        if _is_buffer_in_c(type(thing)):
            with memoryview(thing) as view:
                data = view if view.c_contiguous else view.tobytes("A")
                return f"{view.nbytes} bytes", zlib.crc32(data)
    except (TypeError, ValueError, BufferError):  # no buffer, or closed, or of odd elements
        pass
    return None


def _ids(thing: Any) -> Iterator[int] | None:
    if is_a(thing, dict):
        return (id(one) for pair in dict.items(thing) for one in pair)
    for kind in (list, set, deque):
        if is_a(thing, kind):
            return map(id, kind.__iter__(thing))
    return None


def _is_buffer_in_c(kind: type) -> bool:
    """Whether asking for its buffer runs no Python code (a class can define `__buffer__`)."""
    getter = in_class(kind, "__buffer__")
    return getter is None or type(getter) is types.WrapperDescriptorType
