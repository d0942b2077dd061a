"""Who holds an object, in words: `local 'order' in handle(), app.py:41`."""

from __future__ import annotations

import gc
import os
import sys
import types
import weakref
from collections.abc import Iterable
from typing import Any

DEPTH = 3  # containers between the object and a name
HOLDERS = 5  # named at most
OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # frames there hold nothing for users


def holders(thing: object, ignore: Iterable[object] = ()) -> list[str]:
    """What holds `thing`, at most five, the nearest names first.

    ignore: objects whose references do not count, compared by identity. What the garbage collector
    cannot see is not named: an empty list says that something in C holds the object.

    >>> from poolwise.pools.pins import holders
    >>> def handle():
    ...     order = [1, 2]
    ...     return holders(order)
    >>> handle()[0][:28]
    "local 'order' in handle(), <"
    """
    skip = {id(one) for one in ignore}
    found = _weak(thing)
    found += _locals(thing)
    seen = {id(thing)}
    found += _referrers(thing, "", skip, seen, DEPTH, thing)
    return list(dict.fromkeys(found))[:HOLDERS]


def is_stuck(thing: object) -> str:
    """Why `thing` will never be free, whatever its users do; empty: no reason is seen.

    >>> from poolwise.pools.pins import is_stuck
    >>> class Selfish:
    ...     def __init__(self): self.callback = self.run
    ...     def run(self): ...
    >>> is_stuck(Selfish())
    "its own attribute 'callback' is a bound method of itself"
    """
    attributes = getattr(thing, "__dict__", None)
    for name, value in attributes.items() if type(attributes) is dict else ():
        if isinstance(value, types.MethodType) and value.__self__ is thing:
            return f"its own attribute {name!r} is a bound method of itself"
        if value is thing:
            return f"its own attribute {name!r} is itself"
    return ""


def _weak(thing: object) -> list[str]:
    try:
        references = weakref.getweakrefs(thing)
    except TypeError:
        return []
    if not references:
        return []
    words = []
    registry = getattr(weakref.finalize, "_registry", {})
    if any(one.weakref in references for one in registry.values()):
        words.append("a weakref.finalize of it")
    if len(references) > len(words):
        words.append(f"{len(references) - len(words)} weak reference(s), as of a WeakSet or cache")
    return words


def _frames() -> Iterable[types.FrameType]:
    for top in sys._current_frames().values():
        frame: types.FrameType | None = top
        while frame is not None:
            if not frame.f_code.co_filename.startswith(OURS):
                yield frame
            frame = frame.f_back


def _locals(thing: object) -> list[str]:
    found = []
    for frame in _frames():
        if frame.f_code.co_name == "<module>":
            continue  # its locals are the module's globals, which the referrers show
        for name, value in frame.f_locals.items():
            if value is thing:
                code = frame.f_code
                where = f"{code.co_name}(), {code.co_filename}:{frame.f_lineno}"
                found.append(f"local {name!r} in {where}")
            del value
    return found


def _referrers(
    thing: object, path: str, skip: set[int], seen: set[int], depth: int, target: object
) -> list[str]:
    found: list[str] = []
    referrers = [
        one
        for one in gc.get_referrers(thing)
        if id(one) not in skip and id(one) not in seen and not isinstance(one, types.FrameType)
    ]
    own = {id(referrers)}
    for holder in referrers:
        if id(holder) in own or len(found) >= HOLDERS or _is_ours(holder):
            continue
        seen.add(id(holder))
        name = _name(holder, thing)
        if name.startswith(("global", "attribute", "its own", "closure")):
            found.append(name + path)
            continue
        outer: list[str] = _locals_of(holder, name + path)
        if not outer and depth > 1:
            outer = _referrers(holder, f"{_link(name)}{path}", skip, seen, depth - 1, target)
        found += outer or [name + path]
    return found


def _link(name: str) -> str:
    return f", by {name}"


def _locals_of(holder: object, name: str) -> list[str]:
    return [f"{name} that is {found}" for found in _locals(holder)]


def _is_ours(holder: Any) -> bool:
    module = getattr(type(holder), "__module__", "")
    if isinstance(module, str) and module.startswith("poolwise"):
        return True
    return isinstance(holder, types.CellType) and not _functions_with(holder)


def _functions_with(cell: types.CellType) -> list[types.FunctionType]:
    return [
        one
        for one in gc.get_referrers(cell)
        if isinstance(one, tuple)
        for one in gc.get_referrers(one)
        if isinstance(one, types.FunctionType)
    ]


def _name(holder: Any, thing: object) -> str:
    if isinstance(holder, dict):
        return _name_dict(holder, thing)
    if isinstance(holder, (list, tuple)):
        at = next((i for i, one in enumerate(holder) if one is thing), None)
        return f"item {at} of a {type(holder).__name__}"
    if isinstance(holder, types.CellType):
        functions = _functions_with(holder)
        return f"closure of {functions[0].__qualname__}()"
    if isinstance(holder, types.MethodType):
        return f"a bound method {holder.__func__.__qualname__}()"
    if isinstance(holder, types.GeneratorType | types.CoroutineType):
        return f"a suspended {holder.__qualname__}()"
    attribute = _attribute(holder, thing)
    if attribute is not None:
        return f"attribute {attribute!r} of a {type(holder).__qualname__}"
    return f"a {type(holder).__qualname__}"


def _attribute(holder: Any, thing: object) -> str | None:
    """The attribute of `holder` that is `thing`, in its dict or slots; no code of it is run."""
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        attributes = {}
    if type(attributes) is dict:
        for name, value in attributes.items():
            if value is thing:
                return str(name)
    for kind in type(holder).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    if member.__get__(holder) is thing:
                        return name
                except AttributeError:
                    continue
    return None


def _name_dict(holder: dict[Any, Any], thing: object) -> str:
    key = next((key for key, value in holder.items() if value is thing), None)
    if "__builtins__" in holder and isinstance(key, str):
        return f"global {key!r} of {holder.get('__name__')}"
    for owner in gc.get_referrers(holder):
        if getattr(owner, "__dict__", None) is holder and isinstance(key, str):
            return f"attribute {key!r} of a {type(owner).__qualname__}"
    where = f"key {key!r}" if isinstance(key, str | int) else "a key"
    return f"{where} of a dict"
