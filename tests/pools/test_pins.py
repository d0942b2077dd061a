"""Who holds an object: each kind of holder is planted and must be named; nothing is disturbed."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest
from hostile import Hostile, HostileDict, HostileList

from poolwise import Pool
from poolwise.pools import pins
from poolwise.pools.pins import HOLDERS, holders, is_stuck


class Thing:
    def run(self) -> None: ...


class Session:
    cache: object = None


class Slotted:
    __slots__ = ("cache",)


def only(make: Callable[[Thing], object]) -> list[str]:
    """Who holds a thing that only what `make` returns holds, itself named `keeper` here."""
    box = [Thing()]
    keeper = make(box[0])
    found = holders(box[0], (box,))
    del keeper
    return found


def test_a_local_of_a_caller() -> None:
    thing = Thing()
    (found,) = holders(thing)
    assert found.startswith("local 'thing' in test_a_local_of_a_caller(), ")
    assert ".py:" in found


def test_a_local_of_another_thread() -> None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("locals of running threads cannot be looked at without the GIL")
    box = [Thing()]
    ready, done = threading.Event(), threading.Event()

    def worker() -> None:
        order = box[0]
        ready.set()
        done.wait()
        del order

    thread = threading.Thread(target=worker)
    thread.start()
    ready.wait()
    (found,) = holders(box[0], (box,))
    done.set()
    thread.join()
    assert found.startswith("local 'order' in worker(), ")


def closure_over(thing: Thing) -> Callable[[], Thing]:
    return lambda: thing


def generator_over(thing: Thing) -> Generator[None, None, Thing]:
    yield
    return thing


def started(thing: Thing) -> Generator[None, None, Thing]:
    generator = generator_over(thing)
    next(generator)
    return generator


async def coroutine_over(thing: Thing) -> Thing:
    class Pause:
        def __await__(self) -> Generator[None, None, None]:
            yield

    await Pause()
    return thing


def started_coroutine(thing: Thing) -> object:
    coroutine = coroutine_over(thing)
    coroutine.send(None)
    return coroutine


def with_cache(kind: type, thing: Thing) -> Any:
    keeper = kind()
    keeper.cache = thing
    return keeper


def error_over(thing: Thing) -> BaseException:
    def failing(order: Thing) -> None:
        raise ValueError

    try:
        failing(thing)
    except ValueError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda thing: [0, thing], "item 1 of a list that is local 'keeper' in only(), "),
        (lambda thing: (thing,), "item 0 of a tuple that is local 'keeper' in only(), "),
        (lambda thing: {"a": thing}, "key 'a' of a dict that is local 'keeper' in only(), "),
        (lambda thing: {thing}, "a set that is local 'keeper' in only(), "),
        (lambda thing: deque([thing]), "a deque that is local 'keeper' in only(), "),
        (lambda thing: [[thing]], "item 0 of a list, by item 0 of a list that is local 'keeper'"),
        (lambda thing: with_cache(Session, thing), "attribute 'cache' of a Session"),
        (lambda thing: with_cache(Slotted, thing), "attribute 'cache' of a Slotted"),
        (lambda thing: thing.run, "a bound method Thing.run() that is local 'keeper' in only(), "),
        (lambda thing: functools.partial(print, thing), "attribute 'args' of a partial, by "),
        (closure_over, "closure of closure_over.<locals>.<lambda>()"),
        (started, "local 'thing' in suspended generator_over(), "),
        (started_coroutine, "local 'thing' in suspended coroutine_over(), "),
        (error_over, "local 'order' in ended failing(), "),
        (weakref.WeakSet, None),
        (weakref.ref, "a weak reference to it"),
        (weakref.proxy, "a weakref.proxy of it"),
        (lambda thing: weakref.finalize(thing, print), "a weakref.finalize of it"),
        (lambda thing: weakref.WeakSet([thing]), "a weak reference of a WeakSet"),
        (
            lambda thing: weakref.WeakValueDictionary({1: thing}),
            "a weak reference of a WeakValueDictionary",
        ),
        (
            lambda thing: weakref.WeakKeyDictionary({thing: 1}),
            "a weak reference of a WeakKeyDictionary",
        ),
    ],
)
def test_each_kind_of_holder(make: Any, words: str | None) -> None:
    if words is None:
        found = only(lambda thing: None)
        assert found == []
        return
    found = only(make)
    assert any(one.startswith(words) for one in found), found
    assert len(found) == 1 or make is error_over, found  # whose frame its traceback keeps, too


kept_by_module: object = None


def test_a_global_and_a_class() -> None:
    global kept_by_module
    box = [Thing()]
    kept_by_module = box[0]
    found = holders(box[0], (box,))
    assert found == [f"global 'kept_by_module' of {__name__}"]
    kept_by_module = None
    Session.cache = box[0]
    found = holders(box[0], (box,))
    without_classes = f"attribute 'cache' of a class of {__name__}"  # on 3.13 without the GIL
    assert found[0] in ("attribute 'cache' of class Session", without_classes)
    Session.cache = None
    found = holders(box[0], (box,))
    assert found == []


def test_a_lease_that_is_not_left() -> None:
    pool = Pool(Thing, trim=None)
    lease = pool.lease()
    box = [lease.__enter__()]
    assert any("Lease" in one for one in holders(box[0], (box,)))
    lease.__exit__(None, None, None)


def test_no_code_of_the_objects_is_run() -> None:
    thing = Hostile()
    other = Hostile()
    rest: list[Any] = [
        HostileDict(a=thing),
        HostileList([thing]),
        weakref.finalize(other, print),
        weakref.finalize(thing, print),
    ]
    keeper = Hostile()
    object.__setattr__(keeper, "cache", thing)
    found = holders(thing)
    assert "a weakref.finalize of it" in found
    assert "attribute 'cache' of a Hostile" in found
    assert is_stuck(thing) == "a weakref.finalize of it"
    for one in rest[2:]:
        one.detach()


def test_nothing_is_kept() -> None:
    """Up to 3.12 a look at a frame's locals leaves a dict of them with the frame."""
    thing, other = Thing(), Thing()
    watch = weakref.ref(other)
    was = sys.getrefcount(thing)
    holders(thing)
    del other
    assert watch() is None
    assert sys.getrefcount(thing) == was
    assert not any(type(one).__name__ == "_Search" for one in gc.get_objects())


def test_locals_that_the_function_has_are_left_to_it() -> None:
    thing = Thing()
    mine = locals()
    holders(thing)
    assert mine["thing"] is thing


def test_the_walks_of_the_heap_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = 0

    def counted(*things: object, walk: Callable[..., list[Any]] = gc.get_referrers) -> list[Any]:
        nonlocal walks
        walks += 1
        return walk(*things)

    monkeypatch.setattr(gc, "get_referrers", counted)
    monkeypatch.setattr(pins, "WALKS", 3)
    thing = Thing()
    keepers = [[[{at: [thing]}]] for at in range(50)]
    assert 0 < len(holders(thing)) <= HOLDERS
    assert 0 < walks <= 3
    walks = 0
    dicts = [[[{"a": {"b": thing}}]] for _ in range(50)]
    assert 0 < len(holders(thing)) <= HOLDERS
    assert 0 < walks <= 3
    del keepers, dicts


def test_a_dict_that_changes_meanwhile() -> None:
    thing = Thing()
    shared: dict[int, object] = dict.fromkeys(range(20000))
    shared[-1] = thing  # the last to be looked at
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    stop = threading.Event()

    def churn() -> None:
        at = len(shared)
        while not stop.is_set():
            shared[at] = None
            del shared[at]
            at += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            assert holders(thing)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def stuck(how: Callable[[Any], object]) -> str:
    thing = SimpleNamespace()
    thing.it = how(thing)
    return is_stuck(thing)


def test_what_is_stuck() -> None:
    assert stuck(lambda thing: thing) == "its own attribute 'it' is itself"
    assert stuck(lambda thing: [1, thing]) == "its own attribute 'it' has itself"
    assert stuck(lambda thing: {"a": thing}) == "its own attribute 'it' has itself"
    assert "is a closure over itself" in stuck(lambda thing: lambda: thing)
    bound = Thing()
    bound.callback = bound.run  # type: ignore[attr-defined]
    assert is_stuck(bound) == "its own attribute 'callback' is a bound method of itself"
    bound.callback = [bound.run]  # type: ignore[attr-defined]
    assert is_stuck(bound) == "its own attribute 'callback' has a bound method of itself"
    assert stuck(lambda thing: [1, 2]) == ""
    assert is_stuck(Thing()) == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="none is immortal before 3.12")
def test_the_immortal_is_stuck() -> None:
    assert is_stuck(None) == "it is immortal, as constants of the interpreter are"
