"""pprof files: what they say is what was recorded, and the tools of others read it."""

from __future__ import annotations

from pathlib import Path

import profile_proto
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_proto import Profile, needs_pprof, parse, real_pprof, real_total
from sampled_programs import Record, Run, run_program, write_program

from poolwise.errors import RecordingError, UsageError
from poolwise.profile import pprof, protobuf, totals
from poolwise.profile.child import LOG_NAME
from poolwise.profile.recording import (
    ALIVE,
    COLLECTED,
    CONSTRUCTION,
    FREED,
    NO_STACK,
    THINNED,
    UNKNOWN_STACK,
    Birth,
    Recording,
    Summary,
)

PROGRAM = """
    import gc, threading, time

    class Node:
        pass

    kept = []

    def make(count, size):
        for i in range(count):
            made = bytearray(size)  # churned
            if i % 10 == 0:
                kept.append(bytes(size))  # kept

    def pass_on(box):
        box.append(bytearray(3000))  # passed on

    make(200, 5000)
    make(20, 70000)
    box = []
    thread = threading.Thread(target=pass_on, args=(box,))
    thread.start()
    thread.join()
    box.clear()
    node = Node()
    node.self, node.held = node, [bytearray(9000)]  # cycle
    del node
    gc.collect()
    grown = bytearray()
    for i in range(100):
        grown += bytes(1000)  # grown
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def record_once(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Run a program under the sampler, for all tests of the module."""

    def run(source: str, name: str, **options: object) -> Run:
        folder = tmp_path_factory.mktemp(name)
        file = write_program(folder, source)
        done = run_program(file, folder / "recording", (), **options)
        assert done.returncode == 0, done.stderr
        return Run(file, folder / "recording", done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def exact(record_once: Record) -> Run:
    """Every allocation of the program."""
    return record_once(PROGRAM, "exact", exact=True)


@pytest.fixture(scope="module")
def sampled(record_once: Record) -> Run:
    """A sample of them: weights that are no whole numbers."""
    return record_once(PROGRAM, "sampled", mean_bytes=4096)


@pytest.fixture(params=["exact", "sampled"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def on_line(run: Run, body: bytes, marker: str) -> list[tuple[dict[str, object], dict[str, int]]]:
    """(labels, values) of each row whose innermost frame is on the line marked so."""
    numbers = [
        number
        for number, line in enumerate(run.file.read_text().splitlines(), 1)
        if line.endswith(f"# {marker}")
    ]
    profile = parse(body)
    names = [name for name, _ in profile_proto.columns(profile)]
    return [
        (profile_proto.labels(profile, sample), dict(zip(names, sample.value, strict=True)))
        for sample in profile.sample
        if profile_proto.lines(profile, sample)[0] == (str(run.file), *numbers)
    ]


def total_of(rows: list[tuple[dict[str, object], dict[str, int]]], column: str) -> int:
    return sum(values[column] for _, values in rows)


def own_totals(recorded: Recording) -> dict[str, float]:
    """What the columns must add up to, by the definitions, straight from the records."""
    found = dict.fromkeys([name for name, _ in (*pprof.HEAP.columns, *pprof.LIFETIME.columns)], 0.0)
    launcher = str(Path(pprof.__file__).parent.parent / "program")
    for number, birth in enumerate(recorded.births):
        frames = list(recorded.stack(birth.stack))
        own = not frames or not recorded.code(frames[0]).file.startswith(launcher)
        death = recorded.deaths.get(number)
        if birth.domain == CONSTRUCTION or not own or (death and death.kind == THINNED):
            continue
        weight = recorded.weight(number)
        size = death.size if death else birth.size
        end_ns = death.time_ns if death and death.kind != ALIVE else recorded.end_ns
        found["alloc_objects"] += weight
        found["alloc_space"] += weight * size
        found["heaptime_objects"] += weight * (end_ns - birth.time_ns) / 1e3
        found["heaptime_space"] += weight * (end_ns - birth.time_ns) * size / 1e9
        if death is None or death.kind == ALIVE:
            found["inuse_objects"] += weight
            found["inuse_space"] += weight * size
        elif death.kind in (FREED, COLLECTED):
            found["freed_objects"] += weight
            found["freed_space"] += weight * size
            found["lifetime"] += weight * (end_ns - birth.time_ns)
    found["censored_objects"] = found["inuse_objects"]
    found["censored_space"] = found["inuse_space"]
    return found


@pytest.mark.parametrize("kind", [pprof.HEAP, pprof.LIFETIME], ids=lambda kind: str(kind.name))
def test_totals_are_the_estimates(run: Run, kind: pprof.Kind) -> None:
    write = pprof.heap if kind is pprof.HEAP else pprof.lifetime
    profile = parse(write(run.recording))
    assert profile_proto.columns(profile) == list(kind.columns)
    expected = own_totals(run.recording)
    for name, total in profile_proto.sums(profile).items():
        assert total == pytest.approx(expected[name], abs=0.51, rel=1e-12), name
        assert total > 0


@needs_pprof
def test_the_real_pprof_adds_up_the_same(run: Run, tmp_path: Path) -> None:
    for file, kind in zip(
        pprof.write(run.recording, tmp_path), [pprof.HEAP, pprof.LIFETIME], strict=True
    ):
        profile = parse(Path(file).read_bytes())
        for name, unit in kind.columns:
            total = real_total(tmp_path, file, name, unit)
            assert total == profile_proto.sums(profile)[name], name
        assert (
            f"{kind.default}/" in real_pprof(tmp_path, "-raw", file).split("[dflt]")[0].split()[-1]
        )


@pytest.mark.parametrize("write", [pprof.heap, pprof.lifetime])
def test_readers_find_nothing_wrong(run: Run, write: object) -> None:
    profile = parse(write(run.recording))  # type: ignore[operator]
    profile_proto.check(profile)
    texts = profile.string_table
    assert texts[profile.mapping[0].filename] == str(run.file)
    assert (texts[profile.period_type.type], texts[profile.period_type.unit]) == ("space", "bytes")
    assert profile.time_nanos == (run.directory / LOG_NAME).stat().st_mtime_ns
    summary = run.recording.summary
    assert summary is not None
    assert profile.duration_nanos == round(summary.seconds * 1e9) > 0


def test_go_s_columns_in_go_s_order(exact: Run) -> None:
    profile = parse(pprof.heap(exact.recording))
    assert profile_proto.columns(profile) == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert profile.string_table[profile.default_sample_type] == "inuse_space"
    assert profile.period == 1


def test_the_period_is_the_mean_gap_of_the_samples(sampled: Run) -> None:
    summary = sampled.recording.summary
    assert summary is not None
    assert parse(pprof.heap(sampled.recording)).period == round(summary.rate) >= 4096


def test_lines_and_functions(exact: Run) -> None:
    heap = pprof.heap(exact.recording)
    assert total_of(on_line(exact, heap, "churned"), "alloc_objects") >= 220
    profile = parse(heap)
    (make,) = [f for f in profile.function if profile.string_table[f.name] == "app.make"]
    assert profile.string_table[make.system_name] == "make"
    assert profile.string_table[make.filename] == str(exact.file)
    assert exact.file.read_text().splitlines()[make.start_line - 1] == "def make(count, size):"
    stacks = [
        profile_proto.functions(profile, sample)
        for sample in profile.sample
        if "app.make" in profile_proto.functions(profile, sample)
    ]
    # Innermost first, down to the program and no further: not the launcher.
    assert {tuple(stack) for stack in stacks} == {("app.make", "app.<module>")}


def test_allocated_and_in_use(exact: Run) -> None:
    kept = on_line(exact, pprof.heap(exact.recording), "kept")
    kept = [row for row in kept if row[0].get("type") == "bytes"]
    by_size = {row[0]["bytes"]: row[1] for row in kept}
    assert set(by_size) == {4096, 65536}
    assert by_size[4096]["alloc_objects"] == by_size[4096]["inuse_objects"] == 20
    assert by_size[65536]["inuse_objects"] == 2
    assert by_size[65536]["inuse_space"] >= 2 * 70000


def test_a_block_that_grew_is_in_use_as_it_is_now(exact: Run) -> None:
    grown = on_line(exact, pprof.heap(exact.recording), "grown")
    assert total_of(grown, "inuse_space") >= 100 * 1000


def test_who_freed_it_and_how_long_it_lived(exact: Run) -> None:
    lifetimes = pprof.lifetime(exact.recording)
    freed_by = {
        marker: {
            row[0]["freed_by"]
            for row in on_line(exact, lifetimes, marker)
            if row[0]["bytes"] == size and "freed_by" in row[0]
        }
        for marker, size in (("churned", 4096), ("passed on", 2048), ("cycle", 8192))
    }
    assert freed_by == {
        "churned": {"same thread"},
        "passed on": {"other thread"},
        "cycle": {"collector"},
    }
    for row_labels, values in on_line(exact, lifetimes, "churned"):
        if values["freed_objects"]:
            mean_ns = values["lifetime"] / values["freed_objects"]
            assert row_labels["lifetime"] <= mean_ns + 1  # type: ignore[operator]
            assert mean_ns < row_labels["lifetime"] * 2.5 + 10  # type: ignore[operator]
    (cycle,) = [
        row
        for row in on_line(exact, lifetimes, "cycle")
        if row[0].get("freed_by") == "collector" and row[0]["bytes"] == 8192
    ]
    assert cycle[0]["collections"] == 0  # it did not survive the one that found it
    alive = [row for row in on_line(exact, lifetimes, "kept") if row[1]["censored_objects"]]
    assert sum(row[1]["censored_objects"] for row in alive if row[0].get("type") == "bytes") == 22
    for _, values in alive:  # at least as long as the program slept at its end
        assert values["heaptime_objects"] >= 50_000 * values["censored_objects"]
        assert values["heaptime_space"] >= 0.05 * values["censored_space"] - 1


@needs_pprof
def test_the_real_pprof_tells_lifetimes_apart(exact: Run, tmp_path: Path) -> None:
    file = str(tmp_path / "lifetime.pb.gz")
    Path(file).write_bytes(pprof.lifetime(exact.recording))
    shown = real_pprof(
        tmp_path, "-top", "-sample_index=freed_objects", "-tagfocus=freed_by=collector", file
    )
    assert "app.<module>" in shown
    assert "app.make" not in shown
    tags = real_pprof(tmp_path, "-tags", "-sample_index=freed_objects", file)
    for name in ("lifetime:", "collections:", "bytes:", "freed_by:", "kind:", "type:"):
        assert name in tags
    mean = real_pprof(tmp_path, "-top", "-mean", "-sample_index=lifetime", file)
    assert "Type: mean_lifetime" in mean


@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(-1e9, 1e12, allow_subnormal=False)),
            st.one_of(st.just(0.0), st.floats(0, 1, allow_subnormal=False)),
        ),
        max_size=60,
    )
)
def test_rounding_keeps_the_totals_and_the_zeros(rows: list[tuple[float, float]]) -> None:
    whole = list(pprof._rounded(rows))
    for column in range(2):
        for end in range(1, len(rows) + 1):  # of each beginning, so of each part to 1
            exact = sum(row[column] for row in rows[:end])
            assert sum(row[column] for row in whole[:end]) == pytest.approx(exact, abs=0.51)
        for row, rounded in zip(rows, whole, strict=True):
            assert abs(rounded[column] - row[column]) <= 1.01
            assert row[column] or not rounded[column]


@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_numbers_are_read_back(value: int, ids: list[int]) -> None:
    body = protobuf.number(9, value)
    body += protobuf.message(2, protobuf.packed(1, ids) + protobuf.packed(2, [value, 0]))
    read = Profile.FromString(body)
    assert read.time_nanos == value
    assert list(read.sample[0].location_id) == ids
    assert list(read.sample[0].value) == [value, 0]


def synthetic(directory: Path, births: list[Birth]) -> Recording:
    """A recording of births alone, with the log that its date is taken from."""
    (directory / LOG_NAME).touch()
    numbers = dict.fromkeys(Summary.__annotations__, 1)
    summary = Summary(**numbers)  # type: ignore[arg-type]
    return Recording(str(directory), births=births, summary=summary)


def birth(stack: int, weight: float, size: int = 100) -> Birth:
    return Birth(0, 0, 0, size, weight, stack, 1, 0, 0, 0, 0)


@needs_pprof
def test_what_has_no_stack_counts_as_well(tmp_path: Path) -> None:
    recorded = synthetic(tmp_path, [birth(NO_STACK, 3.0), birth(UNKNOWN_STACK, 4.0)])
    (file, _) = pprof.write(recorded, tmp_path)
    profile_proto.check(parse(Path(file).read_bytes()))
    assert real_total(tmp_path, file, "alloc_objects", "count") == 7
    shown = real_pprof(tmp_path, "-top", file)
    assert "[no Python frame]" in shown
    assert "[table of stacks full]" in shown


def test_a_row_of_which_some_shrank_is_two(tmp_path: Path) -> None:
    recorded = synthetic(tmp_path, [])
    rows = {totals.Key(NO_STACK, 0, 64, 0): (5.0, 500.0, -2.0, -200.0)}
    profile = parse(pprof.encode(recorded, rows, pprof.HEAP, period=1, time_ns=1, duration_ns=1))
    profile_proto.check(profile)
    assert [list(sample.value) for sample in profile.sample] == [[5, 500, 0, 0], [0, 0, -2, -200]]
    first, second = profile.sample
    assert profile_proto.labels(profile, first) == profile_proto.labels(profile, second)


def test_an_empty_recording_is_an_empty_profile(tmp_path: Path) -> None:
    profile = parse(pprof.heap(synthetic(tmp_path, [])))
    profile_proto.check(profile)
    assert not profile.sample


def test_numbers_too_large_for_the_format_stay_at_its_end(tmp_path: Path) -> None:
    profile = parse(pprof.heap(synthetic(tmp_path, [birth(NO_STACK, 1e19)])))
    assert max(profile.sample[0].value) == 2**63 - 1


def test_names_that_are_no_unicode_are_written_as_such(record_once: Record) -> None:
    run = record_once(
        r"""
        names = {}
        exec(compile("def f():\n    return bytes(5000)\n", "odd\udcff\u00e9.py", "exec"), names)
        held = names["f"]()
        """,
        "names",
        exact=True,
    )
    profile = parse(pprof.heap(run.recording))
    assert any(text.startswith("odd") and text.endswith("é.py") for text in profile.string_table)
    profile_proto.check(profile)


def test_the_same_recording_gives_the_same_bytes(exact: Run) -> None:
    assert pprof.heap(exact.recording) == pprof.heap(exact.recording)


def test_written_whole_or_not_at_all(exact: Run, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "mine.pb.gz"
    assert pprof.write(exact.recording, file) == [str(file)]
    assert file.read_bytes() == pprof.heap(exact.recording)
    assert [path.name for path in file.parent.iterdir()] == ["mine.pb.gz"]
    blocked = tmp_path / "blocked"
    blocked.write_text("mine")
    with pytest.raises(UsageError, match="blocked: cannot be written"):
        pprof.write(exact.recording, blocked)
    assert blocked.read_text() == "mine"


def test_a_recording_whose_log_is_gone(tmp_path: Path) -> None:
    recorded = synthetic(tmp_path, [])
    (tmp_path / LOG_NAME).unlink()
    with pytest.raises(RecordingError, match="cannot be read"):
        pprof.heap(recorded)
