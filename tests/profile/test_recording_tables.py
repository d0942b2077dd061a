"""`profile.open`: the rows are the recording's own births and deaths, and every reader agrees."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from sampled_programs import Record, run_program, write_program

from poolwise import profile
from poolwise.profile import recording, sites
from poolwise.profile.recording import ALIVE, CONSTRUCTION, LOST, THINNED
from poolwise.profile.tables import SAMPLE_FIELDS, SITE_FIELDS, Frame, Profile, SampleRow, SiteRow

PROGRAM = """
    import gc, threading

    class Point:
        def __init__(self, x):
            self.x = x

    def make(n):
        return [bytes(700 + i % 50) for i in range(n)]  # short

    def inner(n):
        return bytearray(n)

    def outer(n):
        return inner(n)  # outer

    held = []
    for i in range(300):
        made = make(20)
        held.append(Point(outer(20_000 + i)))  # held
        if i % 100 == 99:
            gc.collect()

    def of_a_thread():
        kept.append(bytearray(50_000))  # thread
        held.clear()

    kept = []
    worker = threading.Thread(target=of_a_thread)
    worker.start()
    worker.join()
    del made
"""


@pytest.fixture(scope="module", params=["exact", "sampled"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    folder = tmp_path_factory.mktemp("tables")
    options = (
        {"exact": True} if request.param == "exact" else {"mean_bytes": 4096, "per_second": 1e9}
    )
    done = run_program(write_program(folder, PROGRAM), folder / "recording", **options)
    assert done.returncode == 0, done.stderr
    return profile.open(folder / "recording")


def at(opened: Profile, marker: str) -> list[SiteRow]:
    """The sites on the line that ends in `# marker`."""
    lines = PROGRAM.splitlines()
    (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# {marker}")]
    return [s for s in opened.sites if s.line == number and (s.file or "").endswith("app.py")]


def test_there_is_a_row_for_every_sampled_allocation(opened: Profile) -> None:
    rows = iter(opened.samples)
    count = 0
    for number, birth in enumerate(opened.recording.births):
        death = opened.recording.deaths.get(number)
        if birth.domain == CONSTRUCTION or (death is not None and death.kind == THINNED):
            continue
        row = next(rows)
        count += 1
        assert row.birth_ns == birth.time_ns
        assert row.birth_thread == birth.thread
        assert row.weight == opened.recording.weight(number)
        assert row.size_bytes == (death.size if death else birth.size)
        assert row.nonresident_pages == birth.nonresident_pages
        assert row.process == opened.meta.process > 0
        ended = row.death_ns, row.life_bytes, row.life_collections
        if death is None or death.kind == ALIVE:
            assert (*ended, row.death_thread) == (None, None, None, None)
        else:
            assert row.death_ns == death.time_ns <= opened.end_ns
            assert row.life_collections == death.collections - birth.collections >= 0
            assert row.life_bytes is not None
            assert row.life_bytes >= 0
            assert row.death_thread == (None if death.kind == LOST else death.thread)
    assert count == len(opened.samples) > 500
    assert next(rows, None) is None
    assert isinstance(next(iter(opened.samples)), SampleRow)


def test_site_ids_are_places_in_the_table_of_sites(opened: Profile) -> None:
    rows = list(opened.sites)
    assert [row.site_id for row in rows] == list(range(len(opened.sites)))
    assert {sample.site_id for sample in opened.samples} == {row.site_id for row in rows}
    assert len(set(rows)) == len(rows)
    assert len({row[1:] for row in rows if row.function is None}) == len(
        [row for row in rows if row.function is None]
    )


def test_the_totals_of_a_place_are_those_of_the_verdicts(opened: Profile) -> None:
    place = {row.site_id: row[1:7] for row in opened.sites}
    weights: dict[Any, float] = defaultdict(float)
    sizes: dict[Any, float] = defaultdict(float)
    for sample in opened.samples:
        weights[place[sample.site_id]] += sample.weight
        sizes[place[sample.site_id]] += sample.weight * sample.size_bytes
    nowhere = (None,) * 6
    expected: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for site in sites.find(opened.recording, opened.meta.own_code):
        if site.kind != "construction":
            total = expected[(site.function, site.file, *site.position)]
            total[0] += site.count
            total[1] += site.bytes
    assert expected.keys() == weights.keys() - {nowhere}
    for key, (count, size) in expected.items():
        assert math.isclose(weights[key], count)
        assert math.isclose(sizes[key], size)


def test_a_site_has_its_position_its_type_and_its_stack(opened: Profile) -> None:
    (row,) = [site for site in at(opened, "outer") if site.type == "bytearray"] or [None]
    assert row is None, "the innermost frame of the user's own code is the place"
    made = [site for site in opened.sites if site.function == "inner"]
    assert {site.type for site in made} <= {"bytearray", None}
    line = PROGRAM.splitlines().index("        return bytearray(n)") + 1
    for site in made:
        # The program is written without its indentation.
        assert (site.line, site.end_line, site.column, site.end_column) == (line, line, 11, 23)
        names = [frame.function for frame in site.stack]
        assert names == ["inner", "outer", "<module>"]
        assert isinstance(site.stack[0], Frame)
        assert site.stack[0] == ("inner", site.file, line)
        assert site.stack[1].line == line + 3


def test_what_lives_and_what_dies(opened: Profile) -> None:
    threads = {site.site_id for site in at(opened, "thread")}
    kept = [s for s in opened.samples if s.site_id in threads and s.size_bytes >= 50_000]
    assert [(row.death_ns, row.birth_thread) for row in kept] == [(None, 2)]
    by_inner = {site.site_id for site in opened.sites if site.function == "inner"}
    held = [s for s in opened.samples if s.site_id in by_inner and s.size_bytes >= 20_000]
    assert len(held) > 200  # blocks of more than a page's worth of samples: nearly all
    for row in held:  # made by the first thread, freed by the other
        assert (row.birth_thread, row.death_thread) == (1, 2)
        assert row.death_ns is not None
        assert row.death_ns > row.birth_ns
    collections = [row.life_collections or 0 for row in held]
    assert max(collections) >= 3 > min(collections)


DOCUMENTED = {"l": "int64", "i": "int32", "g": "float64", "u": "text", "+l": "list of frames"}
READERS = ["pyarrow", "polars", "duckdb", "ibis"]


def totals_by(reader: str, opened: Profile) -> dict[str | None, tuple[int, float, int, int]]:
    """By function: rows, weighted bytes, rows still alive, and the longest life in bytes."""
    module = pytest.importorskip(reader, reason=f"{reader} is not installed")
    samples, sites_ = opened.samples, opened.sites
    found: list[tuple[Any, ...]]
    if reader == "duckdb":
        found = module.sql(
            "SELECT function, count(*), sum(weight * size_bytes),"
            " count(*) FILTER (death_ns IS NULL), coalesce(max(life_bytes), 0)"
            " FROM samples JOIN sites_ USING (site_id) GROUP BY function"
        ).fetchall()
    elif reader == "polars":
        joined = module.DataFrame(samples).join(module.DataFrame(sites_), on="site_id")
        col = module.col
        found = (
            joined.group_by("function")
            .agg(
                module.len(),
                (col("weight") * col("size_bytes")).sum().alias("bytes"),
                col("death_ns").is_null().sum().alias("alive"),
                col("life_bytes").max().fill_null(0),
            )
            .rows()
        )
    elif reader == "ibis":
        joined = module.memtable(samples).join(module.memtable(sites_), "site_id")
        found = list(
            joined.group_by("function")
            .agg(
                count=joined.count(),
                bytes=(joined.weight * joined.size_bytes).sum(),
                alive=joined.death_ns.isnull().sum(),
                longest=module.coalesce(joined.life_bytes.max(), 0),
            )
            .to_pyarrow()
            .to_pydict()
            .values()
        )
        found = list(zip(*found, strict=True))
    else:
        import pyarrow.compute as pc

        table, names = module.table(samples), module.table(sites_)["function"]
        table = table.append_column("function", names.take(table["site_id"]))
        table = table.append_column("bytes", pc.multiply(table["weight"], table["size_bytes"]))
        table = table.append_column("alive", pc.cast(pc.is_null(table["death_ns"]), "int64"))
        table = table.append_column("life", pc.fill_null(table["life_bytes"], 0))
        grouped = table.group_by("function").aggregate(
            [("bytes", "count"), ("bytes", "sum"), ("alive", "sum"), ("life", "max")]
        )
        columns = [grouped[name].to_pylist() for name in (
            "function", "bytes_count", "bytes_sum", "alive_sum", "life_max")]  # fmt: skip
        found = list(zip(*columns, strict=True))
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in found}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_agrees_with_the_recording(reader: str, opened: Profile) -> None:
    function = [site.function for site in opened.sites]
    expected: dict[str | None, list[float]] = defaultdict(lambda: [0, 0.0, 0, 0])
    for row in opened.samples:
        total = expected[function[row.site_id]]
        total[0] += 1
        total[1] += row.weight * row.size_bytes
        total[2] += row.death_ns is None
        total[3] = max(total[3], row.life_bytes or 0)
    read = totals_by(reader, opened)
    assert read.keys() == expected.keys()
    for name, total in expected.items():
        assert read[name] == pytest.approx(tuple(total), rel=1e-9), name


def test_the_schema_is_the_documented_one(opened: Profile) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "recording-format.md"
    text = page.read_text()
    for table, fields in ((opened.samples, SAMPLE_FIELDS), (opened.sites, SITE_FIELDS)):
        schema = pyarrow.table(table).schema
        assert schema.names == list(table.columns) == [field.name for field in fields]
        assert schema.metadata[b"poolwise.schema"] == b"1"
        assert schema.metadata[b"poolwise.end_ns"] == str(opened.end_ns).encode()
        section = text.partition(f"\n### {table.name}\n")[2].partition("\n#")[0]
        rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
        documented = [(row[0].strip(" `"), row[1].strip(), row[2].strip()) for row in rows]
        assert documented == [
            (field.name, DOCUMENTED[field.format], "yes" if field.nullable else "")
            for field in fields
        ]


def test_a_program_that_was_killed_is_read_up_to_its_last_flush(record: Record) -> None:
    run = record(
        """
        import os, signal, time
        kept = []
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            kept.append(bytes(1000))
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        code=-9,
    )
    opened = profile.open(run.directory)
    assert len(opened.samples) > 100
    assert opened.meta.program == (str(run.file),)
    assert opened.meta.outcome is None
    there = {site.site_id for site in opened.sites if site.line == 6}
    kept = [row for row in opened.samples if row.site_id in there and row.size_bytes == 1033]
    assert len(kept) > 100
    assert {row.death_ns for row in kept} == {None}


def test_samples_without_a_recording_of_their_account(tmp_path: Path, record: Record) -> None:
    """A recording of the first version has no meta.json."""
    run = record("kept = [bytes(1000) for _ in range(10)]")
    (run.directory / "meta.json").unlink()
    opened = profile.open(run.directory)
    assert opened.meta.process == 0
    assert opened.meta.program == ()
    assert len(opened.samples) > 10
    assert recording.read(run.directory).summary is not None
