"""What the checks find, end to end: each misuse is planted and must be named."""

from __future__ import annotations

import _thread
import gc
import io
import os
import subprocess
import sys
import threading
import warnings
import weakref
from array import array
from collections import deque
from typing import Any

import pytest

import poolwise
from poolwise import Pool
from poolwise.errors import PoolMisuseWarning
from poolwise.pools import checks


class Thing:
    def __init__(self) -> None:
        self.rows: list[int] = []


class Slotted:
    __slots__ = ("value",)


def checked(factory: Any = Thing, kind: Any = "strict", **options: Any) -> Pool[Any]:
    return Pool(factory, trim=None, checks=kind, name="checked", **options)


# What a test leaves behind it is a leak, too.
pytestmark = pytest.mark.filterwarnings("ignore:leaked")


@pytest.fixture(autouse=True)
def lucky(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DROPS_ONE_IN", 1 << 62)


def found(kind: str) -> list[checks.Finding]:
    gc.collect()
    return [one for one in checks.findings() if one.kind == kind and one.pool == "checked"]


def test_right_use_is_silent() -> None:
    pool = checked(reset=lambda thing: thing.rows.clear())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            thing = pool.get()
            thing.rows.append(1)
            pool.put(thing)
            del thing
            with pool.lease() as leased:
                leased.rows.append(2)
            del leased
        pool.trim()
    assert pool.stats().hits == 599


def test_double_put_is_raised_with_the_first_place() -> None:
    pool = checked()
    thing = pool.get()
    pool.put(thing)
    with pytest.raises(poolwise.DoublePut, match=r"idle in pool 'checked' already; first put by "):
        pool.put(thing)
    del thing
    assert len({id(pool.get()) for _ in range(3)}) >= 1
    assert pool._check()


@pytest.mark.parametrize("others", [0, 1, 5, 40])
def test_double_put_is_found_wherever_the_first_lies(others: int) -> None:
    pool = checked()
    thing = pool.get()
    rest = [pool.get() for _ in range(others)]
    pool.put(thing)
    for other in rest:
        pool.put(other)
    with pytest.raises(poolwise.DoublePut):
        pool.put(thing)
    rest.clear()
    pool.trim()
    with pytest.raises(poolwise.DoublePut):
        pool.put(thing)


def test_use_after_put_names_the_attribute() -> None:
    pool = checked()
    thing = pool.get()
    pool.put(thing)
    thing.rows = [1, 2]
    del thing
    words = r"idle: attribute 'rows', from list of length 0 to list of length 2; put by test_use_"
    with pytest.warns(PoolMisuseWarning, match=words) as caught:
        pool.get()
    assert caught[0].filename == __file__  # the place of the put, not of our own code
    (finding,) = found("use after put")
    assert finding.stack[0][0] == "test_use_after_put_names_the_attribute"


@pytest.mark.parametrize(
    ("factory", "change", "what"),
    [
        (list, lambda thing: thing.append(1), "its contents, from 0 items to 1 items"),
        (lambda: [1], lambda thing: thing.__setitem__(0, 2), "from 1 items to other 1 items"),
        (dict, lambda thing: thing.update(a=1), "its contents"),
        (lambda: {1: 2}, lambda thing: thing.update({1: 3}), "its contents"),
        (set, lambda thing: thing.add(1), "its contents"),
        (deque, lambda thing: thing.append(1), "its contents"),
        (bytearray, lambda thing: thing.extend(b"a"), "its contents, from 0 bytes to 1 bytes"),
        (lambda: array("d", [1]), lambda thing: thing.append(1), "from 8 bytes to 16 bytes"),
        (io.BytesIO, lambda thing: thing.write(b"a"), "from 0 bytes at 0 to 1 bytes at 1"),
        (io.StringIO, lambda thing: thing.write("a"), "from 0 characters at 0 to 1 characters"),
        (lambda: bytearray(8), lambda thing: thing.__setitem__(3, 7), "its contents"),
        (Slotted, lambda thing: setattr(thing, "value", 1), "attribute 'value'"),
        (Thing, lambda thing: setattr(thing, "new", 1), "attribute 'new', which is new"),
        (Thing, lambda thing: delattr(thing, "rows"), "attribute 'rows', which is gone"),
        (Thing, lambda thing: setattr(thing, "rows", []), "to another list of length 0"),
        (Thing, lambda thing: thing.rows.append(1), "attribute 'rows'"),
    ],
)
def test_use_after_put_of_each_kind(factory: Any, change: Any, what: str) -> None:
    pool = checked(factory)
    thing = pool.get()
    pool.put(thing)
    change(thing)
    del thing
    with pytest.warns(PoolMisuseWarning, match=what):
        pool.get()


def test_a_leak_names_who_took_it() -> None:
    pool = checked()

    def careless() -> None:
        pool.get()

    with pytest.warns(PoolMisuseWarning, match=r"died without having been put; got by .*careless"):
        careless()
    (finding,) = found("leaked")
    for _ in range(5):
        careless()
    assert finding.count == 6


def test_a_lease_that_is_never_left() -> None:
    pool = checked(Slotted)  # cannot be weakly referenced
    with pytest.warns(PoolMisuseWarning, match="its lease was entered and never left; got by "):
        pool.lease().__enter__()
    assert len(found("leaked")) == 1


def test_what_reset_drops_has_not_leaked() -> None:
    def refuse(thing: Thing) -> bool:
        if thing.rows:
            raise ValueError("rows")
        return False

    pool = checked(reset=refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            pool.put(pool.get())
            thing = pool.get()
            thing.rows.append(1)
            with pytest.raises(ValueError, match="rows"):
                pool.put(thing)
            del thing
    assert pool.stats().dropped_rejected == 3
    assert not found("leaked")


def test_a_new_object_is_not_taken_for_the_dropped_one_before_it() -> None:
    pool = checked()  # a new one has the address of the one that was cleared, and other rows
    others = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(50):
            pool.put(pool.get())
            pool.clear()
            others.append([0])


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer uses no address again so soon"
)
def test_a_leak_of_what_has_no_weak_references() -> None:
    pool = checked(bytearray)

    def careless() -> None:
        for _ in range(1000):  # seen when a new one has the address of the dead one
            pool.get()

    words = r"a bytearray of pool 'checked' leaked: it died .*; got by .*careless"
    with pytest.warns(PoolMisuseWarning, match=words):
        careless()


def test_what_lives_to_the_end_of_the_program_has_not_leaked() -> None:
    source = """
import poolwise
class Thing: pass
_kept = None  # goes before the pool does
pool = poolwise.Pool(Thing, checks="strict")
pools = [pool]
_kept = pool.get()
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_put_into_another_pool_of_the_same_kind() -> None:
    one, other = checked(), checked()
    thing = one.get()
    with pytest.warns(PoolMisuseWarning, match=r"^foreign put: a Thing was got from pool 'checked"):
        other.put(thing)
    del thing
    thing = other.get()  # nothing of the first pool clings to it
    other.put(thing)
    assert other.stats().hits == 1
    assert not found("leaked")


def test_a_double_put_of_what_chance_had_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DROPS_ONE_IN", 1)
    pool = checked()
    thing = pool.get()
    pool.put(thing)
    assert pool.stats().dropped_unlucky == 1
    with pytest.raises(poolwise.DoublePut, match="was put into pool 'checked' already; first put"):
        pool.put(thing)


def test_a_double_put_is_not_named_a_use_as_well() -> None:
    def reset(thing: Thing) -> None:
        thing.rows = []

    pool = checked(reset=reset)
    thing = pool.get()
    pool.put(thing)
    with pytest.raises(poolwise.DoublePut):
        pool.put(thing)
    del thing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.put(pool.get())
    assert pool.stats().hits == 1


def test_an_overlong_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLWISE_CHECKS_SECONDS", "0")
    pool = checked()
    thing = pool.get()
    with pytest.warns(PoolMisuseWarning, match=r"has been out for 0 s; got by test_an_overlong"):
        pool.trim()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.trim()
    pool.put(thing)


def test_a_trim_is_not_to_blame_for_what_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings that are errors would end the timer's thread."""
    monkeypatch.setenv("POOLWISE_CHECKS_SECONDS", "0")
    pool = checked()
    thing = pool.get()
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: seen.append(error.exc_type))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.trim()
    assert seen == [PoolMisuseWarning]
    assert pool.stats().trims == 1
    pool.put(thing)


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_seconds_that_are_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLWISE_CHECKS_SECONDS", text)
    with pytest.raises(poolwise.UsageError, match=f"POOLWISE_CHECKS_SECONDS='{text}' is no time"):
        checked()


def test_a_finalizer_is_warned_of_once() -> None:
    class Noisy:
        def __del__(self) -> None: ...

    pool = checked(Noisy)

    def use() -> None:
        for _ in range(3):
            pool.put(pool.get())

    with pytest.warns(PoolMisuseWarning, match="Noisy has a __del__") as caught:
        use()
    assert len(caught) == 1


def test_builtins_may_have_finalizers() -> None:
    pool = checked(io.BytesIO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.put(pool.get())


def test_what_pins_is_named() -> None:
    pool = checked()

    def handler() -> None:
        order = pool.get()
        pool.put(order)
        for _ in range(4):
            pool.trim()

    words = (
        r"put into pool 'checked' by .*handler\(\), .* is still held: local 'order' in handler\(\)"
    )
    with pytest.warns(PoolMisuseWarning, match=words):
        handler()


def test_each_of_two_holders_is_named() -> None:
    pool = checked()

    def one() -> None:
        order = pool.get()
        pool.put(order)
        for _ in range(4):
            pool.trim()

    def two() -> None:
        bill = pool.get()
        pool.put(bill)
        for _ in range(4):
            pool.trim()

    with pytest.warns(PoolMisuseWarning, match="local 'order' in one"):
        one()
    with pytest.warns(PoolMisuseWarning, match="local 'bill' in two"):
        two()


def test_stuck_classes_are_named() -> None:
    class Selfish:
        def __init__(self) -> None:
            self.callback = self.run

        def run(self) -> None: ...

    pool = checked(Selfish)

    def use() -> None:
        for _ in range(5):
            pool.put(pool.get())
            pool.trim()

    with pytest.warns(PoolMisuseWarning, match="'callback' is a bound method of itself"):
        use()


def test_weak_sets_are_named() -> None:
    everything: weakref.WeakSet[Thing] = weakref.WeakSet()
    pool = checked()

    def use() -> None:
        for _ in range(5):
            thing = pool.get()
            everything.add(thing)
            pool.put(thing)
            del thing
            pool.trim()

    with pytest.warns(PoolMisuseWarning, match="a weak reference of a WeakSet") as caught:
        use()
    assert len(caught) == 1  # once for the class


def test_strict_drops_some_puts_and_a_seed_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DROPS_ONE_IN", 4)
    monkeypatch.setenv("POOLWISE_CHECKS_SEED", "7")
    drops = []
    for _ in range(2):
        pool = checked()
        for _ in range(400):
            pool.put(pool.get())
        drops.append(pool.stats().dropped_unlucky)
    assert drops[0] == drops[1]
    assert 60 < drops[0] < 140


def test_sample_finds_a_leak_among_many() -> None:
    pool = checked(kind="sample")

    def use() -> None:
        for turn in range(100_000):
            thing = pool.get()
            if turn % 10:
                pool.put(thing)
            del thing

    with pytest.warns(PoolMisuseWarning, match="died without having been put"):
        use()


def test_sample_lets_right_use_hit() -> None:
    pool = checked(kind="sample")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2000):
            thing = pool.get()
            pool.put(thing)
            del thing
    assert pool.stats().misses == 1


def test_sample_looks_at_few_puts_while_something_tracked_is_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def putting(
        self: checks.Checker, thing: object, idle: bool, real: Any = checks.Checker.putting
    ) -> bool:
        nonlocal looks
        looks += 1
        return bool(real(self, thing, idle))

    monkeypatch.setattr(checks.Checker, "putting", putting)
    pool = checked(kind="sample")
    held = pool.get()
    for _ in range(20_000):
        thing = pool.get()
        pool.put(thing)
        del thing
    assert 0 < looks < 2_000
    pool.put(held)


def test_the_environment_switches_checks_on() -> None:
    source = "import poolwise\npool = poolwise.Pool(set)\nx = pool.get()\npool.put(x)\npool.put(x)"
    environment = {**os.environ, "POOLWISE_CHECKS": "strict", "POOLWISE_CHECKS_SEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env=environment
    )
    assert "DoublePut: put(): this set is idle in pool 'pool' already" in done.stderr


@pytest.mark.parametrize("word", ["of", "STRICT", 3])
def test_checks_that_do_not_exist(word: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(poolwise.UsageError, match="is no kind of check"):
        Pool(Thing, checks=word)
    monkeypatch.setenv("POOLWISE_CHECKS", str(word))
    with pytest.raises(poolwise.UsageError, match="POOLWISE_CHECKS="):
        Pool(Thing)
    Pool(Thing, checks="off")


def test_a_warning_that_is_an_error_loses_nothing() -> None:
    class Noisy:
        def __del__(self) -> None: ...

    pool = checked(Noisy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PoolMisuseWarning):
            pool.get()
    assert pool.stats().out == 0
    pool.put(pool.get())


def test_a_thread_without_python_code(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    pool = checked()
    done = threading.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _thread.start_new_thread(pool.get, ())
        while not found("leaked"):
            done.wait(0.01)
            assert not seen
    assert found("leaked")[0].stack == ()


def test_sample_and_threads() -> None:
    """Right use by many threads is silent, whatever the others' puts clear."""
    pool = checked(kind="sample")

    def work() -> None:
        for _ in range(20_000):
            thing = pool.get()
            pool.put(thing)
            del thing

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(5):
            pool.trim()
    assert [str(one.message) for one in caught] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_can_go_on() -> None:
    source = """
import os, signal, threading, poolwise
class Thing: pass
pool = poolwise.Pool(Thing, checks="strict", trim=None)
def work():
    while True:
        pool.put(pool.get())
threading.Thread(target=work, daemon=True).start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        pool.put(pool.get())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", source], timeout=300)
    assert done.returncode == 0
