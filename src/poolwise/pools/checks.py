"""Checks of how a pool is used: `Pool(checks="sample")`, `"strict"`, or POOLWISE_CHECKS.

What is found is warned of once for each place in the code (`PoolMisuseWarning`), and kept::

    double put       raised as `DoublePut`: the object was put already
    foreign put      (strict) it was got from another pool of the same kind
    use after put    (strict) its state at `get` is not the one it was put with
    leaked           died without having been put; or its lease was entered and never left
    overlong         got more than OVERLONG_SECONDS ago and not put back
    pinned           put, and still held by somebody after three trims: by whom
    finalizer        its class has a `__del__`, which a pool puts off or never runs

`sample` looks at one get in 16,384 (at more of the first ones, which cost little), and at the put
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
from collections.abc import Callable
from dataclasses import dataclass, field

from poolwise.errors import DoublePut, PoolMisuseWarning, UsageError
from poolwise.pools import pins
from poolwise.pools.insides import Mark, difference, in_class, state

SAMPLE_EVERY = 16_384
DROPS_ONE_IN = 4
OVERLONG_SECONDS = 60.0
STACK_DEPTH = 8
PUTS_KNOWN = 10_000  # of the last ones, state and stack are known (strict)

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
    """Of whoever took the object (of the put, for double and foreign put, use after put and
    pinned); the innermost call first."""
    count: int = 1


@dataclass(slots=True)
class _Taken:
    stack: _Stack
    at: float  # monotonic seconds
    type_name: str
    watch: weakref.ref[object] | None


@dataclass(slots=True)
class _Put:
    stack: _Stack
    state: dict[str, Mark]
    dropped: weakref.ref[object] | None = None  # by chance: it will not be handed out


_checkers: weakref.WeakSet[Checker] = weakref.WeakSet()


def findings() -> list[Finding]:
    """What the checks of all pools that are alive have found so far.

    >>> from poolwise.pools import checks
    >>> all(finding.count > 0 for finding in checks.findings())
    True
    """
    return [found for checker in list(_checkers) for found in checker.findings.copy().values()]


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


def _seconds_setting() -> float:
    text = os.environ.get("POOLWISE_CHECKS_SECONDS", "")
    try:
        seconds = float(text or OVERLONG_SECONDS)
    except ValueError:
        seconds = -1
    if not seconds >= 0:
        raise UsageError(f"POOLWISE_CHECKS_SECONDS={text!r} is no time: give seconds, 0 or more")
    return seconds


def _stack() -> _Stack:
    """Of the code that called the pool; empty: C code did."""
    found: _Stack = []
    frame = sys._getframe(1).f_back
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
    """What the core calls: `got` and `putting` around the life of an object outside of the pool.

    The lock is never held while code of the user's runs, but for finalizers that the collector
    starts there: these may come back here, so it is a lock that its holder can take again, and
    the dicts are changed by single operations only.
    """

    name: str
    strict: bool
    every: int = field(init=False)
    tracked: dict[int, _Taken] = field(default_factory=dict)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.every = 1 if self.strict else SAMPLE_EVERY
        self._overlong = _seconds_setting()
        self._random = random.Random(os.environ.get("POOLWISE_CHECKS_SEED") or None)
        self._lock = threading.RLock()
        self._me = weakref.ref(self)
        self._puts: dict[int, _Put] = {}  # strict: what is idle or was dropped by chance, by id
        self._pinned: dict[str, int] = {}  # how many of each class
        self._finalizers_seen: set[type] = set()
        _checkers.add(self)

    # ---- called by the core ----

    def got(self, thing: object, hit: bool) -> None:
        """`get` is about to give this object: an idle one (`hit`) or a new one."""
        stack = _stack()
        key = id(thing)
        watch = self._watch(thing, Checker._died)
        taken = _Taken(stack, time.monotonic(), type(thing).__qualname__, watch)
        with self._lock:
            put = self._puts.pop(key, None)
            unseen = self.tracked.get(key)
            self.tracked[key] = taken
        try:
            if put is not None and hit:
                self._compare(thing, put)
            if unseen is not None and unseen.watch is None and not hit:
                self._report_leak(unseen, "it died without having been put")
            self._look_for_finalizer(type(thing), stack)
        except Warning:  # made an error by a filter: get will raise, and the object is dropped
            self.forget(key)
            raise

    def putting(self, thing: object, idle: bool) -> bool:
        """Before the object is kept; False: drop it. Raises `DoublePut`."""
        stack = _stack()
        key = id(thing)
        with self._lock:
            taken = self.tracked.pop(key, None)
            before = self._puts.get(key)
        if taken is not None:
            taken.watch = None  # what is weakly referenced is never handed out
        if idle or (before is not None and before.dropped is not None):
            if before is not None and self.strict:
                before.state = state(thing)  # reset has seen it again
            self._raise_double_put(thing, stack, before, "is idle in" if idle else "was put into")
        if not self.strict:
            return True
        if taken is None:
            self._look_for_foreign(thing, stack)
        put = _Put(stack, state(thing))
        keep = self._random.randrange(DROPS_ONE_IN) != 0
        if not keep:
            put.dropped = self._watch(thing, Checker._died_dropped)
        with self._lock:
            if keep or put.dropped is not None:
                self._puts[key] = put
            else:
                self._puts.pop(key, None)
            while len(self._puts) > PUTS_KNOWN:
                self._puts.pop(next(iter(self._puts)), None)
        return keep

    def forget(self, key: int) -> None:
        """The object with this id was put, and dropped by its reset."""
        with self._lock:
            self.tracked.pop(key, None)  # and with it the weak reference

    def left(self, key: int) -> None:
        """A lease was entered and dropped without leaving."""
        with self._lock:
            taken = self.tracked.pop(key, None)
        if taken is not None:
            taken.watch = None
            self._report_leak(taken, "its lease was entered and never left")

    def look(self) -> None:
        """At each trim: what has been out for too long."""
        now = time.monotonic()
        for key, taken in self.tracked.copy().items():
            if now - taken.at <= self._overlong:
                continue
            with self._lock:
                if self.tracked.get(key) is not taken:
                    continue
                del self.tracked[key]
            taken.watch = None
            self._report(
                "overlong",
                _place(taken.stack),
                f"a {taken.type_name} of pool {self.name!r} has been out for "
                f"{now - taken.at:.0f} s; got by {_place(taken.stack)}",
                taken.stack,
            )

    def pinned(self, things: list[object]) -> None:
        """Dropped since somebody held them for three trims, or while too many others were held.

        Naming the holders walks the whole heap, so it is done for the 1st, 2nd, 4th, 8th, … of a
        class.
        """
        for at in range(len(things)):
            kind = type(things[at]).__qualname__
            with self._lock:
                count = self._pinned[kind] = self._pinned.get(kind, 0) + 1
                put = self._puts.pop(id(things[at]), None)
            if count & (count - 1):
                continue
            stuck = pins.is_stuck(things[at])
            held = stuck or "; ".join(pins.holders(things[at], (things,)))
            stack = put.stack if put is not None else []
            self._report(
                "pinned",
                f"{kind}: {'' if stuck else held}",
                f"a {kind} that was put into pool {self.name!r}{_by(stack)} is still held: "
                f"{held or 'by something in C, which the garbage collector does not see'}",
                stack,
            )

    # ---- what they find ----

    def _watch(
        self, thing: object, died: Callable[[Checker, int], None]
    ) -> weakref.ref[object] | None:
        """Has `died` called when `thing` is dead, if the checker lives then."""
        key, me, is_finalizing = id(thing), self._me, sys.is_finalizing

        def tell(_: object) -> None:
            checker = me()
            if checker is not None and not is_finalizing():  # to live to the end is no leak
                died(checker, key)

        try:
            return weakref.ref(thing, tell)
        except TypeError:
            return None

    def _died(self, key: int) -> None:
        with self._lock:
            taken = self.tracked.pop(key, None)
        if taken is not None:
            self._report_leak(taken, "it died without having been put")

    def _died_dropped(self, key: int) -> None:
        with self._lock:
            self._puts.pop(key, None)

    def _report_leak(self, taken: _Taken, how: str) -> None:
        self._report(
            "leaked",
            _place(taken.stack),
            f"a {taken.type_name} of pool {self.name!r} leaked: {how}; got by "
            f"{_place(taken.stack)}",
            taken.stack,
        )

    def _look_for_finalizer(self, kind: type, stack: _Stack) -> None:
        finalizer = in_class(kind, "__del__")
        if finalizer is None or kind in self._finalizers_seen:
            return
        if type(finalizer) is types.WrapperDescriptorType:
            return  # of a builtin, as io.BytesIO: part of how it is freed
        self._finalizers_seen.add(kind)
        name = kind.__qualname__
        self._report(
            "finalizer",
            name,
            f"{name} has a __del__: a pool runs it late or never; let reset do its work",
            stack,
        )

    def _raise_double_put(
        self, thing: object, stack: _Stack, before: _Put | None, how: str
    ) -> None:
        first = f"; first put by {_place(before.stack)}" if before is not None else ""
        message = (
            f"put(): this {type(thing).__qualname__} {how} pool {self.name!r} already"
            f"{first}: put it once"
        )
        self._report("double put", _place(stack), message, stack, warn=False)
        raise DoublePut(message)

    def _look_for_foreign(self, thing: object, stack: _Stack) -> None:
        for other in list(_checkers):
            taken = other.tracked.get(id(thing))
            if other is self or taken is None:
                continue
            other.forget(id(thing))
            self._report(
                "foreign put",
                _place(stack),
                f"a {taken.type_name} was got from pool {other.name!r} by {_place(taken.stack)}, "
                f"and put into pool {self.name!r}{_by(stack)}: put it where it was got",
                stack,
            )

    def _compare(self, thing: object, put: _Put) -> None:
        changed = difference(put.state, state(thing))
        if changed:
            self._report(
                "use after put",
                _place(put.stack),
                f"a {type(thing).__qualname__} of pool {self.name!r} changed while it was "
                f"idle: {changed}; put{_by(put.stack)}, and used after that",
                put.stack,
            )

    def _report(
        self, kind: str, place: str, message: str, stack: _Stack, *, warn: bool = True
    ) -> None:
        finding = Finding(kind, self.name, message, _frames(stack))
        with self._lock:
            known = self.findings.setdefault((kind, place), finding)
            if known is not finding:
                known.count += 1
                return
        if warn:
            file, line = (stack[0][0].co_filename, stack[0][1]) if stack else ("poolwise", 1)
            warnings.warn_explicit(f"{kind}: {message}", PoolMisuseWarning, file, line)


def _by(stack: _Stack) -> str:
    return f" by {_place(stack)}" if stack else ""


def _renew_locks() -> None:
    """In the child of a fork: another thread may have held them."""
    for checker in list(_checkers):
        checker._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
