"""Checks of how a pool is used: `Pool(checks="sample")`, `"strict"`, or POOLWISE_CHECKS.

What is found is warned of once for each place in the code (`PoolMisuseWarning`), and kept::

    double put       raised as `DoublePut`: the object is idle in the pool already
    use after put    (strict) its state at `get` is not the one it was put with
    leaked           died without having been put; or its lease was entered and never left
    overlong         got more than OVERLONG_SECONDS ago and not put back
    pinned           put, and still held by somebody after three trims: by whom
    finalizer        its class has a `__del__`, which a pool puts off or never runs

`sample` looks at one get in 4,096 (at more of the first ones, which cost little), and at the put
of what it looked at; `strict` at all of them, and drops one put in four at random, so that nobody
comes to rely on a hit (as Go's sync.Pool does under its race detector). POOLWISE_CHECKS_SEED makes
that repeatable, POOLWISE_CHECKS_SECONDS says how long a lease may be.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import types
import warnings
import weakref
import zlib
from dataclasses import dataclass, field
from typing import Any

from poolwise.errors import DoublePut, PoolMisuseWarning, UsageError
from poolwise.pools import pins

SAMPLE_EVERY = 4096
DROPS_ONE_IN = 4
OVERLONG_SECONDS = 60.0
STACK_DEPTH = 8

Frame = tuple[str, str, int]
"""Function, file, line."""

_Stack = list[tuple[types.CodeType, int]]


@dataclass(slots=True)
class Finding:
    """One kind of misuse at one place."""

    kind: str
    pool: str
    message: str
    stack: tuple[Frame, ...]
    """Of whoever took the object (of the put, for a double put); the innermost call first."""
    count: int = 1


@dataclass(slots=True)
class _Taken:
    stack: _Stack
    at: float  # monotonic seconds
    type_name: str
    watch: weakref.ref[object] | None


@dataclass(slots=True)
class _Put:
    state: dict[str, Any]
    stack: _Stack


_checkers: weakref.WeakSet[Checker] = weakref.WeakSet()


def findings() -> list[Finding]:
    """What the checks of all pools have found so far.

    >>> from poolwise.pools import checks
    >>> all(finding.count > 0 for finding in checks.findings())
    True
    """
    return [finding for checker in list(_checkers) for finding in list(checker.findings.values())]


def checker(name: str, checks: str | None) -> Checker | None:
    """The checker of a new pool, or None. `checks` None: what POOLWISE_CHECKS says."""
    source = f"checks={checks!r}"
    if checks is None:
        checks = os.environ.get("POOLWISE_CHECKS", "") or "off"
        source = f"POOLWISE_CHECKS={checks!r}"
    if checks == "off":
        return None
    if checks not in ("sample", "strict"):
        raise UsageError(f"{source} is no kind of check: give 'off', 'sample' or 'strict'")
    return Checker(name, strict=checks == "strict")


def _setting(name: str, standard: float) -> float:
    try:
        return float(os.environ.get(name, "") or standard)
    except ValueError:
        raise UsageError(f"{name}={os.environ[name]!r} is not a number") from None


def _stack(skip: int) -> _Stack:
    found: _Stack = []
    frame: types.FrameType | None = sys._getframe(skip)
    while frame is not None and len(found) < STACK_DEPTH:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found


def _frames(stack: _Stack) -> tuple[Frame, ...]:
    return tuple((code.co_qualname, code.co_filename, line) for code, line in stack)


def _place(stack: _Stack) -> str:
    if not stack:
        return "an unknown place"
    code, line = stack[0]
    return f"{code.co_qualname}(), {code.co_filename}:{line}"


@dataclass(eq=False)
class Checker:
    """What the core calls: `got` and `putting` around the life of an object outside of the pool."""

    name: str
    strict: bool
    every: int = field(init=False)
    tracked: dict[int, _Taken] = field(default_factory=dict)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.every = 1 if self.strict else SAMPLE_EVERY
        self._overlong = _setting("POOLWISE_CHECKS_SECONDS", OVERLONG_SECONDS)
        seed = os.environ.get("POOLWISE_CHECKS_SEED") or None
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # never held while code of the user's runs
        self._put: dict[int, _Put] = {}  # strict: what is idle, by id
        self._types: set[type] = set()
        _checkers.add(self)

    def got(self, thing: object) -> None:
        """`get` is about to give this object."""
        stack = _stack(2)
        key = id(thing)
        put = self._put.pop(key, None)
        if put is not None:
            self._compare(thing, put)
        if type(thing) not in self._types:
            self._types.add(type(thing))
            if hasattr(type(thing), "__del__"):
                kind = type(thing).__qualname__
                self._report(
                    "finalizer",
                    kind,
                    f"{kind} has a __del__: a pool runs it late or never; let reset do its work",
                    stack,
                )
        try:
            watch = weakref.ref(thing, lambda _: self._died(key))
        except TypeError:
            watch = None
        with self._lock:
            self.tracked[key] = _Taken(stack, time.monotonic(), type(thing).__qualname__, watch)

    def putting(self, thing: object, idle: bool) -> bool:
        """Before the object is kept; False: drop it. Raises `DoublePut`."""
        stack = _stack(2)
        if idle:
            before = self._put.get(id(thing))
            first = f"; first put by {_place(before.stack)}" if before else ""
            message = (
                f"put(): this {type(thing).__qualname__} is idle in pool {self.name!r} already"
                f"{first}: put it once"
            )
            self._report("double put", _place(stack), message, stack, warn=False)
            raise DoublePut(message)
        with self._lock:
            taken = self.tracked.pop(id(thing), None)
        if taken is not None:
            taken.watch = None  # what is weakly referenced is never handed out
        if not self.strict:
            return True
        if self._random.randrange(DROPS_ONE_IN) == 0:
            return False
        self._put[id(thing)] = _Put(_state(thing), stack)
        return True

    def left(self, key: int) -> None:
        """A lease was entered and dropped without leaving."""
        with self._lock:
            taken = self.tracked.pop(key, None)
        if taken is not None:
            taken.watch = None
            self._leaked(taken, "its lease was entered and never left")

    def _died(self, key: int) -> None:
        with self._lock:
            taken = self.tracked.pop(key, None)
        if taken is not None:
            self._leaked(taken, "it died without having been put")

    def _leaked(self, taken: _Taken, how: str) -> None:
        self._report(
            "leaked",
            _place(taken.stack),
            f"a {taken.type_name} of pool {self.name!r} leaked: {how}; got by "
            f"{_place(taken.stack)}",
            taken.stack,
        )

    def look(self) -> None:
        """At each trim: what has been out for too long."""
        now = time.monotonic()
        with self._lock:
            late = {
                key: taken for key, taken in self.tracked.items() if now - taken.at > self._overlong
            }
            for key in late:
                del self.tracked[key]
        for taken in late.values():
            taken.watch = None
            self._report(
                "overlong",
                _place(taken.stack),
                f"a {taken.type_name} of pool {self.name!r} has been out for "
                f"{now - taken.at:.0f} s; got by {_place(taken.stack)}",
                taken.stack,
            )

    def pinned(self, things: list[object]) -> None:
        """Dropped since somebody held them for three trims, or while too many others were held."""
        for at in range(len(things)):
            kind = type(things[at]).__qualname__
            key = f"pinned {kind}"
            with self._lock:
                known = self.findings.get(("pinned", key))
            if known is not None and known.count % 100:
                known.count += 1  # naming walks the whole heap: not for each
                continue
            held = pins.is_stuck(things[at]) or "; ".join(pins.holders(things[at], (things,)))
            self._report(
                "pinned",
                key,
                f"a {kind} that was put into pool {self.name!r} is still held: "
                f"{held or 'by something in C, which the garbage collector does not see'}",
                [],
            )

    def _compare(self, thing: object, put: _Put) -> None:
        for what, before in put.state.items():
            after = _state(thing).get(what)
            if after != before:
                self._report(
                    "use after put",
                    _place(put.stack),
                    f"a {type(thing).__qualname__} of pool {self.name!r} changed while it was "
                    f"idle: {what}; put by {_place(put.stack)}, and used after that",
                    put.stack,
                )
                return

    def _report(
        self,
        kind: str,
        place: str,
        message: str,
        stack: _Stack,
        *,
        warn: bool = True,
    ) -> None:
        with self._lock:
            known = self.findings.get((kind, place))
            if known is not None:
                known.count += 1
                return
            self.findings[(kind, place)] = Finding(kind, self.name, message, _frames(stack))
        if warn:
            warnings.warn(f"{kind}: {message}", PoolMisuseWarning, stacklevel=4)


def _mark(value: object) -> tuple[object, ...]:
    """What can be known of a value without running its code, and without keeping it alive."""
    if type(value) in (list, dict, set, tuple, str):
        return (id(value), len(value))  # type: ignore[arg-type]
    if type(value) in (bytearray, bytes):
        return (id(value), len(value), zlib.crc32(value))  # type: ignore[arg-type]
    return (id(value),)


def _state(thing: object) -> dict[str, tuple[object, ...]]:
    """Its contents and attributes by name, as marks."""
    state: dict[str, tuple[object, ...]] = {}
    kind = type(thing)
    if isinstance(thing, bytearray):
        state["its contents"] = (bytearray.__len__(thing), zlib.crc32(thing))
    elif isinstance(thing, list):
        state["its contents"] = tuple(id(value) for value in list.__iter__(thing))
    elif isinstance(thing, set):
        state["its contents"] = tuple(id(value) for value in set.__iter__(thing))
    elif isinstance(thing, dict):
        state["its contents"] = tuple(id(value) for value in dict.values(thing))
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        attributes = {}
    if type(attributes) is dict:
        state |= {f"attribute {name!r}": _mark(value) for name, value in attributes.items()}
        state["its attributes"] = tuple(attributes)
    for base in kind.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    state[f"attribute {name!r}"] = _mark(member.__get__(thing))
                except AttributeError:
                    state[f"attribute {name!r}"] = ()
    return state
