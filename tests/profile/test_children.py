"""Children of a sampled program: each has a log of its own, and all are read as one or alone."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from sampled_programs import Record, Run

from poolwise.errors import RecordingError
from poolwise.profile import recording, sites

FORK = """
    import os, signal, sys, time
    def job(n):
        for i in range(n):
            block = bytes(20_000)  # block
    job(10)
    child = os.fork()
    if child == 0:
        job(20)
        {end}
    os.waitpid(child, 0)
    job(30)
"""

POOL = """
    import multiprocessing, os
    def job(n):
        for i in range(n):
            block = bytes(20_000)  # block
        return os.getpid()
    if __name__ == "__main__":
        job(10)
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            print(*sorted(set(pool.map(job, [1] * 50, chunksize=1))))
            {end}
"""

EXECUTOR = """
    import multiprocessing, os
    from concurrent.futures import ProcessPoolExecutor
    def job(n):
        for i in range(n):
            block = bytes(20_000)  # block
        return os.getpid()
    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            print(*sorted(set(pool.map(job, [1] * 50))))
"""

PROCESSES = """
    import multiprocessing
    def job(depth):
        block = bytes(20_000)  # block
        if depth:
            child = multiprocessing.get_context("{method}").Process(target=job, args=(depth - 1,))
            child.start()
            child.join()
            assert child.exitcode == 0
    if __name__ == "__main__":
        job(2)
"""

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def record_blocks(record: Record) -> Record:
    """Blocks of 20,000 bytes are all sampled; of an interpreter's start, few."""
    return partial(record, mean_bytes=10_000, per_second=1e12)


def blocks(run: Run, process: int | None) -> list[sites.Sample]:
    """The samples of the line that ends in `# block`, of one process or all."""
    lines = run.file.read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith("# block")]
    return [
        sample
        for site in sites.find(recording.read(run.directory, process=process))
        if (site.file, site.position.line) == (str(run.file), number)
        for sample in site.samples
        if sample.size >= 20_000
    ]


def pids(run: Run) -> list[int]:
    return [pid for pid, _ in recording.children_of(run.directory)]


@pytest.mark.parametrize(
    ("end", "finished"),
    [
        ("sys.exit()", True),
        ("os._exit(3)", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", False),
    ],
)
def test_a_fork(record_blocks: Record, end: str, finished: bool) -> None:
    run = record_blocks(FORK.format(end=end))
    assert [len(blocks(run, process)) for process in (0, 1, None)] == [40, 20, 60]
    both = recording.read(run.directory, process=None)
    assert [process.pid for process in both.processes] == [None, *pids(run)]
    assert [process.summary.finished for process in both.processes] == [True, finished]
    assert both.processes[0].summary.forks == 1
    assert sorted({sample.process for sample in blocks(run, None)}) == [0, 1]
    assert [sum(s.process == n for s in blocks(run, None)) for n in (0, 1)] == [40, 20]
    # One site, whoever allocates there; its threads are not the same.
    assert len({sample.stack for sample in blocks(run, None)}) == 3  # of three calls
    assert len({sample.thread for sample in blocks(run, None)}) == 2
    assert both.summary is not None
    assert both.summary.samples == len(both.births)
    # The child's account is its own, from the fork on.
    child = both.processes[1].summary
    assert child.cpu_seconds < both.processes[0].summary.cpu_seconds
    assert child.minor_faults >= 0


def test_what_was_alive_at_the_fork_is_the_parents(record_blocks: Record) -> None:
    run = record_blocks("""
        import os
        kept = [bytes(20_000) for i in range(100)]  # block
        child = os.fork()
        if child == 0:
            del kept
            more = [bytes(20_000) for i in range(10)]
            os._exit(0)
        os.waitpid(child, 0)
    """)
    child = recording.read(run.directory, process=1)
    assert len(child.births) >= 10
    assert all(number < len(child.births) for number in child.deaths)
    assert len(blocks(run, 0)) == 100
    assert all(sample.death_ns is None for sample in blocks(run, 0))
    assert blocks(run, 1) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("program", [POOL, EXECUTOR], ids=["Pool", "ProcessPoolExecutor"])
def test_workers(record_blocks: Record, method: str, program: str) -> None:
    run = record_blocks(program.format(method=method, end="pool.close(); pool.join()"))
    found = pids(run)
    assert set(map(int, run.stdout.split())) <= set(found)
    each = [len(blocks(run, process)) for process in range(len(found) + 1)]
    own = 10 if program is POOL else 0
    assert each[0] == own
    assert sum(each) == len(blocks(run, None)) == own + 50
    everything = recording.read(run.directory, process=None)
    assert all(process.summary.finished for process in everything.processes)
    assert not list(run.directory.glob("*.tail"))


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_are_terminated_keep_their_logs(record_blocks: Record, method: str) -> None:
    run = record_blocks(POOL.format(method=method, end="pool.terminate(); pool.join()"))
    assert len(blocks(run, None)) == 60


@pytest.mark.parametrize("method", METHODS)
def test_children_of_children(record_blocks: Record, method: str) -> None:
    run = record_blocks(PROCESSES.format(method=method))
    assert [len(blocks(run, process)) for process in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_not_followed_when_told(record_blocks: Record, method: str) -> None:
    run = record_blocks(POOL.format(method=method, end="pool.close(); pool.join()"), children=False)
    assert len(blocks(run, None)) == 10
    assert sorted(os.listdir(run.directory)) == ["end.txt", "meta.json", "samples.log"]


def test_a_fork_that_becomes_another_program_leaves_nothing(record: Record) -> None:
    run = record(
        """
        import os, subprocess, sys
        for i in range(5):
            subprocess.run(["true"], preexec_fn=None)
            child = os.fork()
            if child == 0:
                os.execv("/bin/true", ["true"])
            os.waitpid(child, 0)
        block = bytes(10_000_000)  # block
        """,
        mean_bytes=1e7,
    )
    assert pids(run) == []
    assert len(blocks(run, None)) == 1


def test_forks_of_a_thread_that_others_run_beside(record: Record) -> None:
    """No lock of theirs is left locked in the child."""
    run = record(
        """
        import os, threading
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                [bytes(500) for i in range(100)]
        workers = [threading.Thread(target=busy) for _ in range(3)]
        for worker in workers: worker.start()
        for i in range(60):
            child = os.fork()
            if child == 0:
                for k in range(10):
                    block = bytes(20_000)  # block
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for worker in workers: worker.join()
        """,
        mean_bytes=4096,
    )
    assert len(pids(run)) == 60


def test_a_number_that_another_process_had_before(record: Record) -> None:
    run = record(
        """
        import os
        for turn in range(2):
            child = os.fork()
            if child == 0:
                for name in ("", "-2"):
                    with open(f"{os.environ['RECORDING']}/samples-{os.getpid()}{name}.log", "w"):
                        pass
                block = bytes(500_000_000)  # block
                os._exit(0)
            os.waitpid(child, 0)
        """,
        mean_bytes=1e9,
    )
    assert sorted(log.name.count("-") for log in run.directory.glob("*.log")) == [0, 1, 1, *[2] * 4]
    third = [log for log in run.directory.glob("*-3.log") if log.stat().st_size > 0]
    assert len(third) == 2


def test_a_recording_begins_without_the_last_ones_children(record_blocks: Record) -> None:
    program = FORK.format(end="os._exit(0)")
    first = pids(record_blocks(program))
    second = pids(record_blocks(program))
    assert len(first) == len(second) == 1
    assert first != second


def test_a_directory_that_is_gone(record_blocks: Record, tmp_path: Path) -> None:
    """The child goes on unrecorded."""
    run = record_blocks(
        """
        import os, shutil
        os.rename(os.environ["RECORDING"], os.environ["RECORDING"] + "2")
        child = os.fork()
        if child == 0:
            print(len([bytes(20_000) for i in range(1000)]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        os.rename(os.environ["RECORDING"] + "2", os.environ["RECORDING"])
        """
    )
    assert run.stdout == "1000\n"
    assert pids(run) == []


def test_a_child_that_was_not_to_be_recorded_starts_its_own(record_blocks: Record) -> None:
    run = record_blocks(
        """
        import os
        from poolwise.profile import child
        other = os.environ["RECORDING"] + "/other"
        os.mkdir(other)
        pid = os.fork()
        if pid == 0:
            child.start({"dir": other, "exact": True})
            for i in range(20):
                block = bytes(20_000)  # block
            child.stop()
            os._exit(0)
        os.waitpid(pid, 0)
        """,
        children=False,
    )
    assert blocks(run, None) == []
    own = Run(run.file, run.directory / "other", 0, "", "")
    assert len(blocks(own, 0)) == 20


def test_a_child_that_was_killed_as_it_began(record_blocks: Record) -> None:
    run = record_blocks(FORK.format(end="os._exit(0)"))
    whole = recording.read(run.directory, process=None)
    for content in (b"", recording.MAGIC[:5], recording.MAGIC):
        (run.directory / "samples-1.log").write_bytes(content)
        assert len(recording.read(run.directory, process=None).births) == len(whole.births)
        with pytest.raises(RecordingError, match="before anything was recorded"):
            recording.read(run.directory, process=1)
    (run.directory / "samples-1.log").write_bytes(b"x" * 100)
    with pytest.raises(RecordingError, match=r"samples-1\.log: this is not a poolwise recording"):
        recording.read(run.directory, process=None)


def test_a_process_that_is_not_there(record_blocks: Record) -> None:
    run = record_blocks("print(1)")
    with pytest.raises(RecordingError, match="has 0 children, so no process 1"):
        recording.read(run.directory, process=1)


def test_one_weight_for_each_process(record: Record) -> None:
    """A thinning is the matter of the process it happened in."""
    run = record(
        """
        import os
        kept = [bytes(20_000) for i in range(100)]  # block
        child = os.fork()
        if child == 0:
            more = [bytes(10) for i in range(60_000)]
            os._exit(0)
        os.waitpid(child, 0)
        del kept
        """
    )
    both = recording.read(run.directory, process=None)
    assert both.processes[1].summary.thinned > 0
    assert both.processes[0].summary.thinned < 100
    assert [s.weight for s in blocks(run, None)] == [1.0] * 100
    weights = {both.weight(n) for n in range(both.processes[1].first_birth, len(both.births))}
    assert {1.0, 2.0} <= weights
