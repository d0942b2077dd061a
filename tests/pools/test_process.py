"""The ends and doubles of a process: exit with everything alive, fork, sub-interpreters."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ALIVE = """
import threading, poolwise

class Thing:
    def __del__(self):
        if pool is not None and buffers is not None:
            pool.put(pool.get())
            buffers.acquire(10)

pool = poolwise.Pool(Thing, trim_seconds=0.001)
buffers = poolwise.BufferPool(max_size=1 << 20, max_bytes=1 << 24, trim_seconds=0.001)
things = [pool.get() for _ in range(20)]
for thing in things[::2]:
    pool.put(thing)
del things[10:], thing
out = [buffers.acquire(n * 1000) for n in range(20)]
view = memoryview(out[3])
lease = pool.lease()
lease.__enter__().lease = lease
"""


def test_exit_with_everything_alive(run_python: Run) -> None:
    for _ in range(3):
        done = run_python(ALIVE + "print('end')")
        assert (done.stdout, done.stderr) == ("end\n", "")


def test_exit_under_threads(run_python: Run) -> None:
    source = """
def work():
    while True:
        pool.put(pool.get())
        memoryview(buffers.acquire(5000))

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
print('end')
"""
    # A daemon thread stopped by the end keeps what its frames hold: no leak of ours.
    no_leak_check = {"LSAN_OPTIONS": "detect_leaks=0"}
    for _ in range(3):
        assert run_python(ALIVE + source, env=no_leak_check).stdout == "end\n"


def test_a_child_of_fork_has_its_own_pools_and_timer(run_python: Run) -> None:
    source = """
import os, threading, time, poolwise

class Thing: pass

pool = poolwise.Pool(Thing, trim_seconds=0.005)
buffers = poolwise.BufferPool(max_size=1 << 20, max_bytes=1 << 24, trim_seconds=0.005)
mine = buffers.acquire(1000)
memoryview(mine)[:4] = b"mine"
pool.put(pool.get())
buffers.acquire(1 << 20).release()
child = os.fork()
memoryview(mine)[:4] = b"kid!" if child == 0 else b"dad!"
assert bytes(mine)[:4] == (b"kid!" if child == 0 else b"dad!")
pool.put(pool.get())
before = pool.stats().trims, buffers.stats().trims
while pool.stats().trims == before[0] or buffers.stats().trims == before[1]:
    time.sleep(0.001)
assert sum(thread.name == "poolwise-trimmer" for thread in threading.enumerate()) == 1
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    run_python(source, "-W", "ignore::DeprecationWarning")


def test_an_idle_timer_keeps_no_program_alive(run_python: Run) -> None:
    run_python(
        """
        import poolwise
        pool = poolwise.Pool(list, trim_seconds=1e6)
        pool.put(pool.get())
        """
    )


def test_sub_interpreters_of_one_gil(run_python: Run) -> None:
    """The core admits these only: the sampler's hooks are the process's own."""
    source = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    run, options = interpreters.exec, {"config": "legacy"}
else:
    import _xxsubinterpreters as interpreters
    run, options = interpreters.run_string, {"isolated": False}

code = '''
import warnings
import poolwise
pool = poolwise.Pool(list)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    pool.put(pool.get())
assert len(warned) == (not main) and pool.get() == []
for _ in range(100):
    rows = pool.get()
    pool.put(rows)
assert pool.stats().misses == 3
buffers = poolwise.BufferPool(max_size=4096, max_bytes=1 << 20)
view = memoryview(buffers.acquire(100))
try:
    pool.put("text")
except poolwise.ForeignPut:
    pass
else:
    raise AssertionError
'''
exec("main = True" + code)
for _ in range(3):
    each = interpreters.create(**options)
    failed = run(each, "main = False" + code)
    assert failed is None, failed
    interpreters.destroy(each)
exec("main = True" + code)
"""
    run_python(source)
