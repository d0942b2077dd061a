"""Objects from the interpreter's free lists, which no allocator hook sees, are counted."""

from __future__ import annotations

import sys

import pytest
from sampled_programs import Record, Run

traced = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="the reference tracer came with CPython 3.13"
)

CHURN = """
    class Point:
        __slots__ = ("x",)
    def floats(x=1.5):
        for i in range(10_000):
            x = x * 1.01
    def lists():
        for i in range(10_000):
            [i]
    def dicts():
        for i in range(10_000):
            {"i": i}
    def tuples():
        for i in range(10_000):
            (i, i)
    def points():
        for i in range(10_000):
            Point()
    def texts():
        for i in range(10_000):
            f"text {i}"
    for work in (floats, lists, dicts, tuples, points, texts):
        work()
"""


def counts(run: Run) -> dict[str, tuple[int, int]]:
    read = run.recording
    return {
        read.types[number - 1].name: (objects.created, objects.reused)
        for number, objects in read.objects.items()
        if number
    }


@traced
def test_what_free_lists_serve(record: Record) -> None:
    found = counts(record(CHURN, objects=True, mean_bytes=65536))
    for name in ("float", "list", "dict", "tuple"):
        created, reused = found[name]
        assert created >= 10_000
        assert 0.95 * created <= reused <= created
    for name in ("Point", "str"):
        created, reused = found[name]
        assert created >= 10_000
        assert reused <= 0.02 * created


@traced
def test_not_unless_asked_for(record: Record) -> None:
    assert counts(record(CHURN, mean_bytes=65536)) == {}


@traced
def test_tracemalloc_before_us_is_a_sentence(record: Record) -> None:
    run = record("""
        import os, tracemalloc
        from poolwise import PoolwiseError
        from poolwise.profile import child
        child.stop()
        tracemalloc.start()
        try:
            child.start({"dir": os.environ["RECORDING"], "objects": True})
        except PoolwiseError as error:
            print(error)
        tracemalloc.stop()
        child.start({"dir": os.environ["RECORDING"]})
    """)
    assert run.stdout == (
        "cannot record: objects=True: another has the interpreter's one reference tracer, "
        "tracemalloc most likely; stop it first, or leave objects out\n"
    )
    assert run.recording.summary is not None


@traced
def test_tracemalloc_after_us_is_noticed(record: Record) -> None:
    run = record(
        """
        import tracemalloc
        [float(i) for i in range(1000)]
        tracemalloc.start()
        kept = [bytes(100) for i in range(1000)]
        print(tracemalloc.is_tracing(), tracemalloc.get_traced_memory()[0] > 0)
        tracemalloc.stop()
        """,
        objects=True,
        mean_bytes=65536,
    )
    assert run.stdout == "True True\n"
    assert run.recording.objects_end_ns is not None
    assert counts(run)["float"][0] >= 1000


@traced
def test_a_childs_are_its_own(record: Record) -> None:
    run = record(
        """
        import os
        child = os.fork()
        if child == 0:
            block = bytes(10_000_000)
            for i in range(5000): float(i)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        objects=True,
        mean_bytes=65536,
    )
    from poolwise.profile import recording

    own, forked, both = (recording.read(run.directory, process=n) for n in (0, 1, None))
    made = [
        sum(o.created for n, o in read.objects.items() if n and read.types[n - 1].name == "float")
        for read in (own, forked, both)
    ]
    assert made[1] >= 5000 > made[0]
    assert made[2] == made[0] + made[1]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="here the tracer is there")
def test_an_older_interpreter_is_a_sentence(record: Record) -> None:
    run = record("""
        import os
        from poolwise import PoolwiseError
        from poolwise.profile import child
        child.stop()
        try:
            child.start({"dir": os.environ["RECORDING"], "objects": True})
        except PoolwiseError as error:
            print(error)
    """)
    assert "needs the reference tracer of CPython 3.13 and newer" in run.stdout
