"""The checker called as the core calls it, and what it remembers of an object's state."""

from __future__ import annotations

import gc
import io
import threading
import warnings
import weakref
from collections import deque
from typing import Any

import pytest
from hostile import Hostile, HostileDict, HostileList

from poolwise import DoublePut
from poolwise.pools import checks
from poolwise.pools.insides import attributes, difference, state


class Thing:
    def __init__(self) -> None:
        self.rows: list[int] = []


class Slotted:
    __slots__ = ("one", "two")


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> checks.Checker:
    monkeypatch.setattr(checks, "DROPS_ONE_IN", 1 << 62)
    made = checks.checker("unit", "strict")
    assert made is not None
    return made


def test_words_choose_the_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POOLWISE_CHECKS", raising=False)
    assert checks.checker("unit", None) is None
    assert checks.checker("unit", "off") is None
    monkeypatch.setenv("POOLWISE_CHECKS", "sample")
    sample = checks.checker("unit", None)
    assert sample is not None
    assert sample.every == checks.SAMPLE_EVERY
    strict = checks.checker("unit", "strict")
    assert strict is not None
    assert strict.every == 1


def test_what_is_put_is_no_longer_tracked(checker: checks.Checker) -> None:
    thing = Thing()
    checker.got(thing, hit=False)
    assert list(checker.tracked) == [id(thing)]
    assert weakref.getweakrefcount(thing) == 1
    assert checker.putting(thing, idle=False)
    assert not checker.tracked
    assert weakref.getweakrefcount(thing) == 0  # or it would never be handed out


def test_a_collection_while_the_lock_is_held(checker: checks.Checker) -> None:
    """A tracked object that dies in a cycle calls back into the checker from anywhere."""
    thing: Any = Thing()
    thing.me = thing
    checker.got(thing, hit=False)
    del thing
    done = threading.Event()

    def collect() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with checker._lock:
                gc.collect()
        done.set()

    threading.Thread(target=collect, daemon=True).start()
    assert done.wait(60), "the callback waits for a lock that its own thread holds"
    assert [one.kind for one in checker.findings.values()] == ["leaked"]


def test_a_checker_goes_with_its_pool(checker: checks.Checker) -> None:
    lone = checks.checker("lone", "strict")
    assert lone is not None
    thing = Thing()
    lone.got(thing, hit=False)
    watch = weakref.ref(lone)
    del lone
    assert watch() is None  # at once: it is in no cycle
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del thing


def test_the_states_that_are_known_are_bounded(
    checker: checks.Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PUTS_KNOWN", 10)
    things = [Thing() for _ in range(50)]
    for thing in things:
        assert checker.putting(thing, idle=False)
    assert list(checker._puts) == [id(thing) for thing in things[-10:]]
    with pytest.raises(DoublePut):
        checker.putting(things[0], idle=True)


def test_findings_count_by_place(checker: checks.Checker) -> None:
    def leak() -> None:
        checker.got(Thing(), hit=False)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            leak()
        checker.got(Thing(), hit=False)
    assert len(caught) == 2
    assert [(one.kind, one.count) for one in checker.findings.values()] == [
        ("leaked", 5),
        ("leaked", 1),
    ]
    function, file, line = next(iter(checker.findings.values())).stack[0]
    assert (function.rpartition(".")[2], file) == ("leak", __file__)
    assert line > 0
    assert all(one in checks.findings() for one in checker.findings.values())


def test_nothing_that_is_put_is_kept_alive(checker: checks.Checker) -> None:
    thing = Thing()
    thing.rows = deque([Slotted()])  # type: ignore[assignment]
    inner = weakref.ref(thing.rows)
    checker.got(thing, hit=False)
    checker.putting(thing, idle=False)
    watch = weakref.ref(thing)
    del thing
    assert watch() is None
    assert inner() is None


# ---- marks ----


def test_state_runs_no_code_of_the_object() -> None:
    things: list[Any] = [Hostile(), HostileDict(a=1), HostileList([1])]
    object.__setattr__(things[0], "inner", things[1])
    for thing in things:
        assert state(thing) == state(thing)
        assert difference(state(thing), state(thing)) == ""
    assert list(attributes(things[0])) == ["inner"]


def test_python_code_for_a_buffer_is_not_run() -> None:
    class Fake(bytearray):
        def __buffer__(self, flags: int) -> memoryview:
            raise AssertionError("code of the object was run")

    state(Fake(3))


@pytest.mark.parametrize(
    "value",
    [
        1 << 5000,
        float("nan"),
        "text",
        b"bytes",
        None,
        3.5,
        1j,
        (1, 2),
        {1: 2},
        frozenset([1]),
        bytearray(3),
    ],
)
def test_the_same_value_has_the_same_mark(value: Any) -> None:
    thing: Any = Thing()
    thing.it = value
    assert difference(state(thing), state(thing)) == ""


def test_values_made_anew_at_each_look_are_no_change() -> None:
    """Members of C types are made into objects when they are read."""

    class Reader:
        __slots__ = ("text",)

    thing = Reader()
    for texts in [("ab" * 400, "ab" * 400), (10**10, 10**10), (b"a" * 300, b"a" * 300)]:
        thing.text = texts[0]
        before = state(thing)
        thing.text = type(texts[0])(eval(repr(texts[1])))
        assert difference(before, state(thing)) == ""


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (1, 2, "attribute 'it', from 1 to 2"),
        (0.0, -0.0, "attribute 'it', from 0.0 to -0.0"),
        ("ab", "cd", "attribute 'it', from str of length 2 to another str of length 2"),
        ([1], [1], "attribute 'it', from list of length 1 to another list of length 1"),
        (None, [1], "attribute 'it', from None to list of length 1"),
        (1 << 100, 1 << 101, "attribute 'it', from large int to another large int"),
    ],
)
def test_changes_in_words(one: Any, two: Any, words: str) -> None:
    thing: Any = Slotted()
    thing.one = 1
    before = state(thing)
    thing.two = one
    assert difference(before, state(thing)) == "attribute 'two', which is new"
    before = state(thing)
    thing.two = two
    assert difference(before, state(thing)) == words.replace("'it'", "'two'")


def test_a_closed_file_has_a_state() -> None:
    thing = io.BytesIO(b"abc")
    before = state(thing)
    assert before["contents"][0] == "3 bytes at 0"
    thing.close()
    assert difference(before, state(thing)) == "its contents, which is gone"
    assert thing.closed


def test_buffers_are_let_go() -> None:
    thing = bytearray(100)
    state(thing)
    thing.extend(b"a")  # would raise while somebody exports it
    stream = io.BytesIO(b"abc")
    state(stream)
    stream.write(b"abcdef")


def test_arrays_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros((3, 4), order="F")
    before = state(array)
    array[1, 2] = 5
    assert difference(before, state(array)) == "its contents, from 96 bytes to other 96 bytes"
    assert state(numpy.array(["2020-01-01"], dtype="M8[D]")) == {}
