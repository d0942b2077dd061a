"""Sites: how many are alive at once, the best hit rate, whose code it is, and its source."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from sampled_programs import Record, run_program, write_program

from poolwise.profile import recording, sites
from poolwise.profile.life import life_of
from poolwise.profile.positions import NOWHERE, Position
from poolwise.profile.sites import LARGE_BYTES, Sample, Site, source_of


def sample(birth: int, death: int | None, *, weight: float = 1.0, size: int = 1000) -> Sample:
    return Sample(
        weight=weight,
        size=size,
        birth_ns=birth,
        death_ns=death,
        touched_pages=0,
        nonresident_pages=0,
        life_volume=0,
        life_collections=0,
        same_thread=True,
        thread=1,
        zeroed=False,
        stack=0,
        death_stack=0,
        collected=False,
        type=None,
    )


def site(samples: list[Sample]) -> Site:
    return Site("memory", "app.py", "work", Position(1, 1, 0, 1), None, samples)


def queue_of(alive: int, number: int) -> list[tuple[int, int]]:
    """Births and deaths where each dies at the birth of the one `alive` later: so many at once."""
    return [(10 * i, 10 * (i + alive)) for i in range(number)]


@pytest.mark.parametrize("alive", [1, 2, 5, 40])
def test_concurrency_is_exact_if_all_were_sampled(alive: int) -> None:
    assert site([sample(*life) for life in queue_of(alive, 1000)]).concurrency() == alive


def test_concurrency_is_the_level_at_99_of_100_births() -> None:
    # In every hundred births one burst: 96 alone, then 4 at once; the level is by rank.
    lives = []
    for hundred in range(50):
        start = 10_000 * hundred
        lives += [(start + 10 * i, start + 10 * i + 5) for i in range(96)]
        lives += [(start + 1000 + i, start + 1100) for i in range(4)]
    samples = [sample(*life) for life in lives]
    random.Random(1).shuffle(samples)
    assert site(samples).concurrency() == 3
    assert site([sample(i, None) for i in range(200)]).concurrency() == 198


def test_same_thread_share_is_of_what_was_freed_by_weight() -> None:
    elsewhere = replace(sample(0, 5, weight=3.0), same_thread=False)
    alive = replace(sample(0, None, weight=100.0), same_thread=False)
    assert site([sample(0, 5), elsewhere, alive]).same_thread_share == 0.25
    assert site([alive]).same_thread_share == 1.0


@pytest.mark.parametrize(("alive", "part"), [(1, 0.2), (4, 0.3), (30, 0.1), (30, 0.5)])
def test_concurrency_of_a_thinned_process(alive: int, part: float) -> None:
    lives = queue_of(alive, 3000)
    found = []
    for seed in range(200):
        draw = random.Random(seed)
        kept = [sample(*life, weight=1 / part) for life in lives if draw.random() < part]
        found.append(site(kept).concurrency())
    # A level that never moves: its 99 % point is its mean, and that is unbiased.
    assert statistics.mean(found) == pytest.approx(alive, rel=0.1)


@pytest.mark.parametrize(
    ("gaps", "part", "within"),
    [((400, 400), 0.5, 0.05), ((1000, 300), 0.2, 0.15), ((1000, 300), 0.5, 0.15)],
)
def test_concurrency_of_a_thinned_process_that_swings(
    gaps: tuple[int, int], part: float, within: float
) -> None:
    draw = random.Random(7)
    lives, now = [], 0.0
    for i in range(4000):  # about 50 alive, or 20 and 65 by turns
        now += draw.expovariate(1 / gaps[i // 500 % 2])
        lives.append((int(now), int(now + draw.expovariate(1 / 20_000))))
    truth = site([sample(*life) for life in lives]).concurrency()
    found = []
    for seed in range(200):
        draw = random.Random(seed)
        kept = [sample(*life, weight=1 / part) for life in lives if draw.random() < part]
        found.append(site(kept).concurrency())
    # The estimate takes the level for normal; with two humps it reads 11 % high.
    assert statistics.mean(found) == pytest.approx(truth, rel=within)


def test_the_hit_bound() -> None:
    assert site([]).hit_bound(4) == 0
    # One after the other: all but the first.
    assert site([sample(*life) for life in queue_of(1, 100)]).hit_bound(1) == 0.99
    assert site([sample(i, None) for i in range(100)]).hit_bound(50) == 0
    # Ten at once, then none: a pool keeps what it has room for.
    burst = [(100 * k + i, 100 * k + 50 + i) for k in range(10) for i in range(10)]
    for room in (1, 4, 10, 25):
        bound = site([sample(*life) for life in burst]).hit_bound(room)
        assert bound == pytest.approx(9 * min(room, 10) / 100)
    thinned = site([sample(*life, weight=4) for life in burst])  # they stand for forty at once
    assert thinned.hit_bound(16) == pytest.approx(9 * 4 / 100)


def test_small_blocks_may_be_unseen_beside_large_ones() -> None:
    # Each large block was seen; of small ones at the same place there may be some.
    seen = replace(site([sample(0, 5, size=3_000_000)] * 10), gap=65_536.0)
    assert seen.count_estimate.low == seen.count == 10
    assert 500 < seen.count_estimate.high < 1000
    assert seen.large().count_estimate.high < 11
    assert site(seen.samples).count_estimate == (10, 10, 10)  # everything was sampled


def test_large_blocks_only() -> None:
    sizes = [1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES * 9]
    whole = site([sample(0, 1, size=size) for size in sizes])
    large = whole.large()
    assert [s.size for s in large.samples] == sizes[2:]
    assert (large.file, large.position, large.kind) == (whole.file, whole.position, whole.kind)
    assert len(whole.samples) == 4
    assert site([sample(0, 1)]).large().samples == []


def test_is_rebound(record: Record) -> None:
    run = record("""
        def make():
            return bytes(5000)  # inner
        for i in range(50):
            a = bytes(3000)  # rebound
        for i in range(50):
            b = bytes(4000)  # deleted
            del b
        kept = [bytes(6000) for _ in range(9)]  # kept
        for i in range(50):
            c = make()
    """)
    assert run.site("rebound", least=3000).is_rebound(run.recording)
    assert not run.site("deleted", least=4000).is_rebound(run.recording)
    assert not run.site("kept", least=6000).is_rebound(run.recording)
    assert not run.site("inner", least=5000).is_rebound(run.recording)  # freed by another function


def test_expressions_of_a_program(record: Record) -> None:
    run = record("""
        größe = 3000
        for i in range(20):
            kept = ["日本", bytes(größe)]; del kept  # wide
        for i in range(20):
            tabbed = (	bytes(	größe + 1 ) )  # tabs
    """)
    assert run.site("wide", least=3000).expression == "bytes(größe)"
    assert run.site("tabs", least=3000).expression == "bytes( größe + 1 )"


def test_source_of(tmp_path: Path) -> None:
    text = "x = f(1,\n\t  'größe',\n      [日本]); y = 2\nz = 3\n"
    file = tmp_path / "app.py"
    file.write_text(text, encoding="utf-8")
    end = len("      [日本])".encode())
    assert source_of(str(file), Position(1, 3, 4, end)) == "f(1, 'größe', [日本])"
    assert source_of(str(file), Position(3, 3, 6, end - 1)) == "[日本]"
    assert source_of(str(file), Position(4, 4, None, None)) == "z = 3"
    assert source_of(str(file), NOWHERE) == ""
    assert source_of(str(file), Position(99, 99, 0, 5)) == ""
    assert source_of(str(tmp_path / "gone.py"), Position(1, 1, 0, 1)) == ""


def test_what_a_library_allocates_counts_for_its_caller(record: Record) -> None:
    run = record("""
        import shlex
        words = "word " * 2000
        for i in range(20):
            text = shlex.quote(words)  # called
    """)
    quoted = [s for s in run.sites("called") if any(x.size > 10_000 for x in s.samples)]
    assert {(s.file, s.function, s.library) for s in quoted} == {
        (str(run.file), "<module>", "quote")
    }
    assert sum(x.size > 10_000 for x in quoted[0].samples) % 20 == 0


def test_an_installed_package_is_own_code_when_it_is_the_program(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "tool"
    package.mkdir(parents=True)
    write_program(package, "def make():\n    return bytes(7000)\n", "parts.py")
    write_program(package, "", "__init__.py")
    file = write_program(
        tmp_path, "from tool.parts import make\nfor i in range(30):\n    made = make()\n"
    )
    directory = tmp_path / "recording"
    path = {"PYTHONPATH": str(tmp_path / "site-packages")}
    done = run_program(file, directory, env=path, exact=True)
    assert done.returncode == 0, done.stderr

    def place(program: str | None) -> tuple[str, str, str | None]:
        found = sites.find(recording.read(directory), program)
        (made,) = [s for s in found if sum(x.size == 7033 for x in s.samples) == 30]
        return made.file, made.function, made.library

    assert place(None) == (str(file), "<module>", "make")
    assert place(str(package)) == (str(package / "parts.py"), "make", None)


def test_the_scope_that_captures_a_block(record: Record) -> None:
    run = record("""
        def make(size):
            return bytes(size)  # made
        def serve():
            block = make(5000)
            return len(block)
        def drop(held):
            held.clear()
        def handle(held):
            held.append(bytes(6000))  # dropped
            drop(held)
        for i in range(50):
            serve()
            handle([])
        kept = [bytes(7000) for i in range(50)]  # kept
    """)
    recording = run.recording
    made = run.site("made", least=5000)
    scope = made.captured_by(recording)
    assert scope is not None
    assert (scope.function, scope.file, scope.line) == ("serve", str(run.file), 5)
    dropped = run.site("dropped", least=6000)
    scope = dropped.captured_by(recording)
    assert scope is not None
    assert scope.function == "handle"
    frames = [frame.function for frame in dropped.freed_by(recording)]
    assert frames == ["drop", "handle", "<module>"]
    kept = run.site("kept", least=7000)
    assert (kept.captured_by(recording), kept.freed_by(recording)) == (None, ())


def test_no_scope_captures_what_another_thread_frees(record: Record) -> None:
    run = record("""
        import queue, threading
        handed, empty = queue.SimpleQueue(), queue.SimpleQueue()
        def make():
            for i in range(50):
                handed.put(bytes(4000))  # handed
                empty.get()
        def take():
            for i in range(50):
                handed.get()
                empty.put(None)
        workers = [threading.Thread(target=work) for work in (make, take)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
    """)
    handed = run.site("handed", least=4000)
    assert handed.captured_by(run.recording) is None  # though both begin in threading's code
    assert handed.freed_by(run.recording)[0].function == "take"


def test_what_the_collector_frees(record: Record) -> None:
    run = record("""
        import gc
        gc.disable()
        class Node:
            pass
        for i in range(100):
            node = Node()  # cycles
            node.me = node
            if i % 10 == 9:
                gc.collect()
        del node
        gc.collect()
    """)
    life = life_of(run.recording, run.site("cycles"))
    assert life.collected_share > 0.9
    assert life.clocks["collections"].median in (0, 1)
    assert life.clocks["bytes"].median is not None
