"""Programs that do what profilers trip over: each ends as under bare Python, and is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sampled_programs import Record, run_program, write_program

from poolwise.profile import recording

WORK = """
def work(n=20_000):
    total = 0
    for i in range(n):
        total += len(bytes(200) + bytearray(i % 5000))
    return total
"""

PROGRAMS = {
    "fork": """
        import os, sys
        total = work()
        child = os.fork()
        if child == 0:
            print("child", work(), flush=True)
            sys.exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print("parent", status, work(), total)
    """,
    "fork in a thread": """
        import os, threading
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                work(100)
        workers = [threading.Thread(target=busy) for _ in range(3)]
        for worker in workers: worker.start()
        for i in range(20):
            child = os.fork()
            if child == 0:
                work(200)
                os._exit(i)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == i
        stop.set()
        for worker in workers: worker.join()
        print("done")
    """,
    "exec": """
        import os, sys
        work()
        os.execv(sys.executable, [sys.executable, "-c", "print('another'); raise SystemExit(5)"])
    """,
    "subprocesses": """
        import subprocess, sys
        for i in range(5):
            work(1000)
            print(subprocess.run([sys.executable, "-c", f"print({i})"], capture_output=True).stdout)
    """,
    "threads at exit": """
        import threading
        gate = threading.Event()
        def later():
            gate.wait()
            print("last", work())
        def never():
            while True:
                work(1000)
        threading.Thread(target=never, daemon=True).start()
        threading.Thread(target=later).start()
        work()
        gate.set()
    """,
    "tracemalloc after": """
        import tracemalloc
        work()
        tracemalloc.start(3)
        kept = [bytes(3000) for i in range(500)]
        work()
        size, peak = tracemalloc.get_traced_memory()
        print(size > 1_500_000, peak > size)
        tracemalloc.stop()
        del kept
        print(work())
    """,
    "tracemalloc nested": """
        import tracemalloc
        for i in range(4):
            tracemalloc.start(); work(3000); tracemalloc.start(10); work(3000)
            print(tracemalloc.is_tracing())
            tracemalloc.stop(); work(3000); tracemalloc.stop()
        print(work())
    """,
    "generators and async": """
        import asyncio, sys
        async def job(i):
            await asyncio.sleep(0)
            return work(200)
        async def main():
            print(sum(await asyncio.gather(*(job(i) for i in range(50)))))
        asyncio.run(main())
        def walk(n):
            yield bytes(500)
            if n:
                yield from walk(n - 1)
        print(sum(map(len, walk(150))))
    """,
    "deep recursion": """
        import sys
        sys.setrecursionlimit(5000)
        def down(n):
            return [bytes(300)] + down(n - 1) if n else []
        print(len(down(1500)))
        def forever():
            return bytes(100) + forever()
        try:
            forever()
        except RecursionError as error:
            print(type(error).__name__)
        print(work())
    """,
    "memory error": """
        refused = 0
        for power in (46, 50, 58, 59, 60, 61, 62):
            for make in (bytearray, bytes, lambda n: [0] * n):
                try:
                    make(2 ** power)
                except (MemoryError, OverflowError):
                    refused += 1
        print(refused, work())
    """,
    "collector": """
        import gc
        gc.freeze()
        work()
        gc.disable()
        class Node: pass
        for i in range(3000):
            node = Node(); node.me = node
        print(gc.collect() >= 3000, gc.isenabled(), gc.get_freeze_count() > 0)
        gc.enable(); gc.unfreeze()
        print(work())
    """,
    "closed descriptors": """
        import os, tempfile
        work()
        os.closerange(3, 1024)
        files = [os.open(f"{os.environ['RECORDING_TMP']}/{i}", os.O_RDWR | os.O_CREAT, 0o600)
                 for i in range(300)]
        print(files[0])
        print(work(60_000))
        print({os.fstat(file).st_size for file in files})
    """,
    "first descriptor": """
        import os
        print(os.open(os.devnull, os.O_RDONLY))
    """,
    "failing": """
        work()
        def inner():
            raise ValueError("mine")
        inner()
    """,
    "bad finalizers": """
        class Loud:
            def __del__(self):
                raise RuntimeError("in __del__")
        for i in range(3):
            Loud()
        print(work())
    """,
    "own allocator of exceptions": """
        def fail(n):
            try:
                raise KeyError(bytes(n))
            except KeyError as error:
                return len(error.args[0])
        print(sum(fail(i % 2000) for i in range(5000)))
    """,
    "metaclasses": """
        import abc, enum
        class Counting(type):
            made = 0
            def __call__(cls, *args, **kwargs):
                Counting.made += 1
                return super().__call__(*args, **kwargs)
        class A(metaclass=Counting): pass
        class B(abc.ABC): pass
        class C:
            def __new__(cls, other=None): return other if other is not None else object.__new__(cls)
        class D:
            def __init__(self): raise ZeroDivisionError
        class Colour(enum.Enum): RED = 1
        failed = 0
        for i in range(3000):
            A(); B(); C(); C(7); Colour(1)
            try: D()
            except ZeroDivisionError: failed += 1
        print(Counting.made, failed)
    """,
}

ENDINGS = {"failing": 1, "exec": 5}


@pytest.mark.parametrize("name", PROGRAMS)
def test_ends_as_under_python(same_as_bare: Record, name: str, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    source = WORK + "\n" + textwrap.dedent(PROGRAMS[name])
    env = {"RECORDING_TMP": str(tmp_path / "files")}
    run = same_as_bare(source, code=ENDINGS.get(name, 0), env=env)
    if name == "closed descriptors":
        assert run.recording.summary is not None  # what was written before they were closed
        assert not run.recording.summary.finished
        return
    summary = run.recording.summary
    assert summary is not None
    assert summary.finished == (name != "exec")
    if name not in ("first descriptor", "failing"):
        assert run.recording.births


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        (("-O",), {}),
        (("-I",), {}),
        (("-X", "tracemalloc"), {}),
        (("-X", "dev"), {}),
        ((), {"PYTHONMALLOC": "malloc"}),
        ((), {"PYTHONMALLOC": "debug"}),
        ((), {"PYTHONMALLOC": "malloc_debug"}),
        ((), {"PYTHONMALLOC": "pymalloc_debug"}),
        ((), {"PYTHONTRACEMALLOC": "5"}),
    ],
)
def test_interpreter_options(
    same_as_bare: Record, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    source = WORK + "\nimport sys\nprint(work(), sys.flags.optimize, sys.flags.isolated)\n"
    run = same_as_bare(source, *flags, env=env)
    assert run.recording.summary is not None
    assert run.recording.summary.finished


def test_tracemalloc_from_before_us_is_noticed_when_it_goes(record: Record) -> None:
    run = record(
        WORK
        + """
import tracemalloc
kept = [bytes(200_000) for i in range(50)]
tracemalloc.stop()
del kept
work()
import gc; gc.collect()
for i in range(100):
    block = bytes(3000)  # after
""",
        "-X",
        "tracemalloc",
        mean_bytes=500,
        per_second=1e9,
    )
    summary = run.recording.summary
    assert summary is not None
    assert summary.hook_removals == 1
    assert run.site("after", least=3000).count == pytest.approx(100, rel=0.05)


def test_tracemalloc_from_before_us_goes_and_nothing_more_is_allocated(record: Record) -> None:
    """The samples of blocks that were freed unseen are not looked at."""
    run = record(
        """
        import gc, tracemalloc
        gc.disable()
        kept = [bytes(2_000_000) for i in range(20)]
        tracemalloc.stop()
        del kept
        """,
        "-X",
        "tracemalloc",
    )
    assert run.recording.summary is not None
    assert run.recording.summary.lost >= 20


def test_a_second_recording_under_a_running_tracemalloc(record: Record) -> None:
    run = record("""
        import os, tracemalloc
        from poolwise.profile import child
        tracemalloc.start()
        child.stop()
        child.start({"dir": os.environ["RECORDING"], "exact": True})
        for i in range(100):
            block = bytes(3000)  # block
        tracemalloc.stop()
    """)
    assert run.site("block", least=3000).count == 100


def test_killed(tmp_path: Path) -> None:
    source = (
        WORK
        + """
import os, signal
log = os.environ["RECORDING"] + "/samples.log"
while os.path.getsize(log) < 500_000:
    work()
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    file = write_program(tmp_path, source)
    done = run_program(file, tmp_path / "recording", mean_bytes=2000, per_second=1e9)
    assert done.returncode == -signal.SIGKILL
    read = recording.read(tmp_path / "recording")
    assert read.births
    assert read.summary is not None
    assert not read.summary.finished


@pytest.mark.parametrize("end", ["os._exit(7)", "os.execv('/bin/sh', ['sh', '-c', 'exit 7'])"])
def test_nothing_is_lost_without_atexit(record: Record, end: str) -> None:
    run = record(
        f"""
        import os
        for i in range(100):
            block = bytes(3000)  # block
        {end}
        """,
        code=7,
    )
    assert run.site("block", least=3000).count == 100


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(same_as_bare: Record, method: str) -> None:
    run = same_as_bare(f"""
        import multiprocessing
        def job(n):
            return len([bytes(n) for _ in range(1000)])
        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print(pool.map(job, range(20)))
            pool.join()
    """)
    assert run.recording.summary is not None
    assert run.recording.summary.finished


@pytest.mark.skipif(sys.version_info < (3, 12), reason="own GIL from 3.12 on")
def test_subinterpreters_with_a_gil_of_their_own(same_as_bare: Record) -> None:
    run = same_as_bare("""
        import threading
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        source = "total = sum(len(bytes(i % 3000)) for i in range(50_000))"
        def run():
            made = interpreters.create()
            try:
                interpreters.run_string(made, source)
            finally:
                interpreters.destroy(made)
        workers = [threading.Thread(target=run) for _ in range(4)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        run()
        print("done")
    """)
    assert run.recording.births


def test_a_refused_start_changes_nothing(record: Record) -> None:
    run = record("""
        import os
        from poolwise.profile import child
        try:
            child.start({"dir": os.environ["RECORDING"]})
        except RuntimeError as error:
            print(error)
        for i in range(100):
            block = bytes(3000)  # block
    """)
    assert "already running" in run.stdout
    assert run.site("block", least=3000).count == 100


LEAKS = """
import gc, os, sys
from poolwise.profile import child
def once():
    child.start({"dir": os.environ["RECORDING"], "mean_bytes": 2000})
    work(500)
    child.stop()
for i in range(5):
    once()
gc.collect()
def state():
    gc.collect()
    return sys.getallocatedblocks(), len(os.listdir("/proc/self/fd")), len(gc.callbacks)
for turn in range(6):
    before = state()
    for i in range(50):
        once()
    print(*(b - a for a, b in zip(before, state())))
"""


def test_starting_and_stopping_leaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "recording").mkdir()
    file = write_program(tmp_path, WORK + LEAKS)
    done = subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "RECORDING": str(tmp_path / "recording")},
    )
    assert done.returncode == 0, done.stderr
    turns = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    # The interpreter's own caches come and go; a block a start would be 50 in every turn.
    assert min(turn[0] for turn in turns) < 40
    assert {turn[1:] for turn in turns} == {(0, 0)}
