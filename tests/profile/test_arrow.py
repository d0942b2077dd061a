"""Tables as columns: every reader sees the rows that Python sees, and what is released is freed."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise import _core
from poolwise.profile.arrow import FLOAT64, INT32, INT64, LIST, STRUCT, TEXT, Field, Table


class Inner(NamedTuple):
    word: str
    small: int | None


class Outer(NamedTuple):
    number: int
    maybe: int | None
    real: float | None
    text: str | None
    inners: tuple[Inner, ...] | None


INNER = Field(
    "inner",
    STRUCT,
    nullable=True,
    children=(Field("word", TEXT, nullable=True), Field("small", INT32, nullable=True)),
)
FIELDS = (
    Field("number", INT64),
    Field("maybe", INT64, nullable=True),
    Field("real", FLOAT64, nullable=True),
    Field("text", TEXT, nullable=True),
    Field("inners", LIST, nullable=True, children=(INNER,)),
)
int64 = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
inner = st.builds(Inner, words, st.none() | st.integers(-(2**31), 2**31 - 1))
rows_of_any_kind = st.lists(
    st.builds(
        Outer,
        int64,
        st.none() | int64,
        st.none() | st.floats(allow_nan=False),
        st.none() | words,
        st.none() | st.lists(inner, max_size=3).map(tuple),
    ),
    max_size=40,
)
SOME = [
    Outer(7, None, 0.5, "größe 🐍", (Inner("a", None), Inner("", 3))),
    Outer(-(2**63), 2**63 - 1, None, None, ()),
    Outer(0, 0, -math.inf, "", None),
] * 5


def table_of(rows: Sequence[Outer], batch_rows: int = 4) -> Table[Outer]:
    return Table("outers", FIELDS, rows, batch_rows=batch_rows, metadata={"key": "Wert ü"})


def plain(rows: Sequence[Outer]) -> list[dict[str, Any]]:
    """Rows as dicts of dicts, as the readers give them."""
    return [
        {
            **row._asdict(),
            "inners": None if row.inners is None else [each._asdict() for each in row.inners],
        }
        for row in rows
    ]


def read_by_pyarrow(table: Table[Outer]) -> list[dict[str, Any]]:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    read = pyarrow.table(table)
    read.validate(full=True)
    assert read.schema.metadata == {b"key": "Wert ü".encode()}
    assert [field.nullable for field in read.schema] == [field.nullable for field in FIELDS]
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows


def read_by_polars(table: Table[Outer]) -> list[dict[str, Any]]:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    rows: list[dict[str, Any]] = polars.DataFrame(table).to_dicts()
    return rows


def read_by_duckdb(outers: Table[Outer]) -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    relation = duckdb.sql("SELECT * FROM outers")
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def read_by_ibis(table: Table[Outer]) -> list[dict[str, Any]]:
    ibis = pytest.importorskip("ibis", reason="ibis is not installed")
    pytest.importorskip("duckdb", reason="duckdb, which runs ibis here, is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    read: pyarrow.Table = ibis.memtable(table).to_pyarrow()
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows


READERS = [read_by_pyarrow, read_by_polars, read_by_duckdb, read_by_ibis]
readers = pytest.mark.parametrize("reader", READERS, ids=lambda r: r.__name__.split("_")[-1])


@readers
@pytest.mark.parametrize("batch_rows", [1, 4, 15, 1000])
def test_every_reader_sees_the_rows(reader: Any, batch_rows: int) -> None:
    assert reader(table_of(SOME, batch_rows)) == plain(SOME)


@readers
def test_a_table_without_rows_has_columns_all_the_same(reader: Any) -> None:
    assert reader(table_of([])) == []


@given(rows=rows_of_any_kind, batch_rows=st.integers(1, 50))
def test_rows_of_any_kind(rows: list[Outer], batch_rows: int) -> None:
    assert read_by_pyarrow(table_of(rows, batch_rows)) == plain(rows)


def test_a_name_that_is_not_utf8_is_shown_as_far_as_it_can_be() -> None:
    [row] = read_by_pyarrow(table_of([SOME[0]._replace(text="a\udcffb")]))
    assert row["text"] == "a?b"


def test_a_table_is_read_again_and_again() -> None:
    table = table_of(SOME)
    assert read_by_pyarrow(table) == read_by_polars(table) == read_by_pyarrow(table)
    assert list(table) == SOME
    assert len(table) == len(SOME)
    assert "15 rows of number, maybe, real, text, inners" in repr(table)


def test_columns_outlive_the_table_and_its_stream() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = table_of(SOME)
    column = pyarrow.table(table)["inners"]
    del table
    gc.collect()
    filler = [bytes(n) for n in range(2000)]
    assert column.to_pylist() == [row["inners"] for row in plain(SOME)]
    del filler


def heap_bytes() -> int:
    """What is in use of the C library's heaps."""
    told = _core.mallinfo()
    return told["used_bytes"] + told["mmapped_bytes"]


@pytest.mark.parametrize("use", ["not at all", "of pyarrow", "of a thread"])
def test_nothing_is_left_behind(use: str) -> None:
    if not hasattr(_core, "mallinfo"):
        pytest.skip("this C library does not tell what it holds")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    text = "x" * 1000
    rows = [SOME[0]._replace(text=text) for _ in range(200)]

    def once() -> None:
        table = table_of(rows)
        if use == "not at all":
            table.__arrow_c_stream__()
            return
        read = [pyarrow.table(table)]
        if use == "of a thread":  # whoever lets go last frees
            thread = threading.Thread(target=read.clear)
            thread.start()
            thread.join()

    for _ in range(20):
        once()
    gc.collect()
    before = heap_bytes()
    for _ in range(100):
        once()
    gc.collect()
    assert heap_bytes() - before < 10 * 200 * len(text)  # a leak of each table is ten times that


@pytest.mark.parametrize(
    ("field", "batches"),
    [
        (("t", "+s", 0, None, ()), ((1, 0, (None,), ((0, 0, (), ()),)),)),
        (("t", "+s", 0, None, (("a", "l", 0, None, ()),)), ((1, 0, (None,), ()),)),
        (("t", "+s", 0, None, ()), ((1, 0, (None, None, None, None), ()),)),
        (("t", "+s", 0, None, ()), ((1, 0, ("text",), ()),)),
        (("t", "+s", 0, None, ()), (1,)),
        (("t", "+s", 0, "text", ()), ()),
        (("t", "+s", 0, None, (1,)), ()),
        (("t", "+s"), ()),
        ("t", ()),
    ],
)
def test_the_core_takes_no_other_shapes(field: Any, batches: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        _core.arrow_table(field, batches)


def test_only_a_table_has_streams() -> None:
    stream = table_of(SOME).__arrow_c_stream__()
    for other in (None, 1, stream):
        with pytest.raises((TypeError, ValueError)):
            _core.arrow_stream(other)
