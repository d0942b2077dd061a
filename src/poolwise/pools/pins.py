"""Who holds an object, in words: `local 'order' in handle(), app.py:41`."""

from __future__ import annotations

import gc
import os
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from poolwise.pools.insides import attributes, is_a, own_dict

DEPTH = 3  # containers between the object and a name
HOLDERS = 5  # named at most
WALKS = 24  # of the heap, at most, for one object: each can take tens of milliseconds
OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # frames there hold nothing for users

_OPTIMIZED = 1  # code flag: locals are in the frame, not in a dict
_IMMORTAL = 1 << 29  # no count of true references gets there
_KEY_SHOWN = 40


def holders(thing: object, ignore: Iterable[object] = ()) -> list[str]:
    """What holds `thing`, at most five, the nearest names first.

    ignore: objects whose references do not count, compared by identity. What the garbage collector
    cannot see is not named: an empty list says that something in C holds the object. No code of
    the objects is run, and nothing is held by the search when it is over. On a free-threaded
    Python only the locals of the calling thread can be looked at.

    >>> from poolwise.pools.pins import holders
    >>> def handle():
    ...     order = [1, 2]
    ...     return holders(order)
    >>> handle()[0][:28]
    "local 'order' in handle(), <"
    """
    local = _locals(thing)
    found = _Search(thing, ignore, bool(local)).follow(thing, "", DEPTH)
    return list(dict.fromkeys(_weak(thing) + local + found))[:HOLDERS]


def is_stuck(thing: object) -> str:
    """Why `thing` will never be free, whatever its users do; empty: no reason is seen.

    >>> from poolwise.pools.pins import is_stuck
    >>> class Selfish:
    ...     def __init__(self): self.callback = self.run
    ...     def run(self): ...
    >>> is_stuck(Selfish())
    "its own attribute 'callback' is a bound method of itself"
    """
    if sys.getrefcount(thing) >= _IMMORTAL:
        return "it is immortal, as constants of the interpreter are"
    for name, value in attributes(thing).items():
        reason = _leads_back(value, thing)
        if reason:
            return f"its own attribute {name!r} is {reason}"
        if type(value) in (list, tuple, set):
            inner: Iterable[object] = value  # type: ignore[assignment]
        elif type(value) is dict:
            inner = value.values()
        else:
            continue
        for reason in (_leads_back(one, thing) for one in list(inner)):
            if reason:
                return f"its own attribute {name!r} has {reason}"
    return "; ".join(_weak(thing))


def _leads_back(value: object, thing: object) -> str:
    if value is thing:
        return "itself"
    if type(value) is types.MethodType and value.__self__ is thing:
        return "a bound method of itself"
    if type(value) is types.FunctionType:
        for cell in value.__closure__ or ():
            try:
                if cell.cell_contents is thing:
                    return f"a closure over itself, {value.__qualname__}()"
            except ValueError:  # an empty cell
                continue
    return ""


def _weak(thing: object) -> list[str]:
    """What refers to it weakly: such an object is never handed out."""
    finalizers: set[int] = set()
    for info in list(getattr(weakref.finalize, "_registry", {}).values()):
        finalizers.add(id(info.weakref))
    return [
        "a weakref.finalize of it" if id(one) in finalizers else _weak_word(one)
        for one in weakref.getweakrefs(thing)
    ]


def _weak_word(reference: weakref.ref[Any]) -> str:
    if not is_a(reference, weakref.ref):
        return "a weakref.proxy of it"  # which would hand each question on to the object
    callback = reference.__callback__
    if type(callback) is not types.FunctionType:
        return "a weak reference to it"
    if callback.__module__ == "poolwise.pools.checks":
        return "a weak reference of another pool, where it was got"
    if callback.__module__ in ("weakref", "_weakrefset"):
        return f"a weak reference of a {callback.__qualname__.partition('.')[0]}"
    return f"a weak reference with the callback {callback.__qualname__}()"


# ---- locals ----


def _frames() -> Iterator[types.FrameType]:
    """Running ones of every thread; where other threads run meanwhile, only of our own."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        tops = list(sys._current_frames().values())
    else:
        tops = [sys._getframe()]
    # A frame that refers to itself, as ours would by these variables, outlives its call.
    while tops:
        frame: types.FrameType | None = tops.pop()
        while frame is not None:
            yield frame
            frame = frame.f_back


def _local(frame: types.FrameType, thing: object) -> str | None:
    """The name that `thing` has in the frame."""
    code = frame.f_code
    names = frame.f_locals
    optimized = code.co_flags & _OPTIMIZED
    if not optimized and type(names) is not dict:
        return None  # a class body with a mapping of its metaclass's own
    found = None
    for name in list(names):
        if names.get(name) is thing:
            found = name
            break
    # Up to 3.12 the dict stays with the frame and would hold what the locals held, for as long as
    # the function runs: empty it, unless the function has it by locals(). Three references: the
    # frame's, ours, the call's.
    if sys.version_info < (3, 13) and optimized and sys.getrefcount(names) <= 3:
        for name in code.co_varnames + code.co_cellvars + code.co_freevars:
            names.pop(name, None)
    return found


def _where(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_name}(), {frame.f_code.co_filename}:{frame.f_lineno}"


def _locals(thing: object) -> list[str]:
    found = []
    for frame in _frames():
        # A module's locals are its globals, which the referrers show.
        if frame.f_code.co_filename.startswith(OURS) or frame.f_code.co_name == "<module>":
            continue
        name = _local(frame, thing)
        if name is not None:
            found.append(f"local {name!r} in {_where(frame)}")
    return found


# ---- references backwards ----


class _Search:
    def __init__(self, thing: object, ignore: Iterable[object], is_local: bool) -> None:
        self._skip = {id(one) for one in ignore} | {id(thing)}
        self._is_local = is_local
        self._walks = WALKS

    def follow(self, thing: object, path: str, depth: int) -> list[str]:
        """Names of what holds `thing`; `path` leads from there to the object of the search."""
        referrers = self._referrers(thing)
        own = id(referrers)
        self._skip.add(own)
        found: list[str] = []
        for holder in referrers:
            if len(found) >= HOLDERS:
                break
            if id(holder) in self._skip or _is_ours(holder):
                continue
            self._skip.add(id(holder))
            found += self._name_all(holder, thing, path, depth)
        self._skip.discard(own)
        return found

    def _referrers(self, thing: object) -> list[Any]:
        if self._walks == 0:
            return []
        self._walks -= 1
        return gc.get_referrers(thing)

    def _name_all(self, holder: Any, thing: object, path: str, depth: int) -> list[str]:
        name, is_end = self._name(holder, thing)
        if not name:
            return []
        if is_end:
            return [name + path]
        named = [f"{name}{path} that is {local}" for local in _locals(holder)]
        if not named and depth > 1:
            named = self.follow(holder, f", by {name}{path}", depth - 1)
        return named or [name + path]

    def _name(self, holder: Any, thing: object) -> tuple[str, bool]:
        """In words; and whether they say all, so that nobody asks who holds the holder."""
        if is_a(holder, dict):
            return self._name_in_dict(holder, thing)
        if is_a(holder, list, tuple):
            kind = list if is_a(holder, list) else tuple
            items = enumerate(kind.__iter__(holder))
            at = next((at for at, one in items if one is thing), "?")
            return f"item {at} of a {type(holder).__name__}", False
        if is_a(holder, types.CellType):
            return self._name_closure(holder), True
        if is_a(holder, types.MethodType):
            function = holder.__func__
            known = type(function) is types.FunctionType
            return f"a bound method {function.__qualname__ if known else ''}()", False
        if is_a(holder, types.FrameType):  # one that runs would not be among the referrers
            return _name_in_frame(holder, thing, "ended", ", kept by a traceback"), True
        if is_a(holder, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType):
            return _name_in_suspended(holder, thing), True
        for name, value in attributes(holder).items():
            if value is thing:
                return f"attribute {name!r} of a {type(holder).__qualname__}", True
        return f"a {type(holder).__qualname__}", False

    def _name_in_dict(self, holder: dict[Any, Any], thing: object) -> tuple[str, bool]:
        key = _key_of(holder, thing)
        if type(key) is str:
            if dict.__contains__(holder, "__builtins__"):
                return f"global {key!r} of {dict.get(holder, '__name__')}", True
            for owner in self._referrers(holder):
                owned = _name_by_owner(owner, holder, key, thing)
                if owned:
                    return owned, True
            if {"__module__", "__doc__"} <= dict.keys(holder):
                # 3.13 without the GIL hides classes from the collector.
                return f"attribute {key!r} of a class of {dict.get(holder, '__module__')}", True
        shown = type(key) in (str, int) and len(repr(key)) <= _KEY_SHOWN
        return f"{f'key {key!r}' if shown else 'a key'} of a dict", False

    def _name_closure(self, cell: types.CellType) -> str:
        for closure in self._referrers(cell):
            if type(closure) is tuple:
                for function in self._referrers(closure):
                    if type(function) is types.FunctionType:
                        return f"closure of {function.__qualname__}()"
        return "" if self._is_local else "a closure"  # the cell of a local that is named


def _is_ours(holder: object) -> bool:
    module = type(holder).__module__
    return (
        isinstance(module, str)
        and module.partition(".")[0] == "poolwise"
        and type(holder).__name__ != "Lease"  # a lease that is not left does hold its object
    )


def _key_of(holder: dict[Any, Any], thing: object) -> object:
    try:
        return next((key for key, value in dict.items(holder) if value is thing), None)
    except RuntimeError:  # another thread has changed it meanwhile
        return None


def _name_by_owner(owner: Any, holder: dict[Any, Any], key: str, thing: object) -> str:
    if is_a(owner, type):
        is_its = vars(owner).get(key) is thing  # it shows its dict through a proxy only
        return f"attribute {key!r} of class {owner.__qualname__}" if is_its else ""
    if own_dict(owner) is not holder:
        return ""
    if is_a(owner, types.ModuleType):
        return f"global {key!r} of {holder.get('__name__')}"
    return f"attribute {key!r} of a {type(owner).__qualname__}"


def _name_in_frame(frame: types.FrameType, thing: object, how: str, why: str = "") -> str:
    if frame.f_code.co_filename.startswith(OURS):
        return ""
    name = _local(frame, thing)
    local = "a value" if name is None else f"local {name!r}"
    return f"{local} in {how} {_where(frame)}{why}"


def _name_in_suspended(holder: Any, thing: object) -> str:
    for prefix in ("gi", "cr", "ag"):
        frame = getattr(holder, f"{prefix}_frame", None)
        if frame is not None:
            if getattr(holder, f"{prefix}_running"):
                return ""  # its locals have been looked at
            return _name_in_frame(frame, thing, "suspended")
    return f"a suspended {holder.__qualname__}()"
