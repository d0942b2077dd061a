"""Rows as a table that DuckDB, Polars, pyarrow and Ibis read, without any of them installed.

A table offers `__arrow_c_stream__`, the Arrow PyCapsule interface
(https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html). Here rows become the
buffers of columns; the structures that point at these are C's (`_core/arrow_table.h`).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from poolwise import _core
from poolwise.profile.bulk import without_collections

Row = TypeVar("Row", bound=tuple[Any, ...])
RowOut = TypeVar("RowOut", bound=tuple[Any, ...], covariant=True)

# Formats of the Arrow C data interface: what is used of them.
INT32, INT64, FLOAT64, TEXT, LIST, STRUCT = "i", "l", "g", "u", "+l", "+s"
_NUMBERS = {INT32: "i", INT64: "q", FLOAT64: "d"}
_NULLABLE = 2  # ARROW_FLAG_NULLABLE


class Rows(Protocol[RowOut]):
    """What a table is made of: as many rows each time, and the same."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[RowOut]: ...


class Field(NamedTuple):
    """A column, or a part of one: its name, its Arrow format, and whether values may be None.

    A struct never is, whatever it says here: its parts are."""

    name: str
    format: str
    nullable: bool = False
    children: tuple[Field, ...] = ()

    def described(self, metadata: Mapping[str, str] | None = None) -> tuple[Any, ...]:
        """As the C core takes it."""
        return (
            self.name,
            self.format,
            _NULLABLE if self.nullable else 0,
            None if metadata is None else _encoded(metadata),
            tuple(child.described() for child in self.children),
        )


class Table(Generic[Row]):
    """A fixed number of rows, each a NamedTuple; as columns for whoever asks for an Arrow stream.

    Rows are made when they are iterated over. The columns are made at the first stream, in memory
    of their own, and kept.

    >>> class Point(NamedTuple):
    ...     x: int
    ...     name: str | None
    >>> fields = (Field("x", INT64), Field("name", TEXT, nullable=True))
    >>> table = Table("points", fields, [Point(1, "here"), Point(2, None)])
    >>> len(table), [point.x for point in table]
    (2, [1, 2])
    >>> table.__arrow_c_stream__()
    <capsule object "arrow_array_stream" at ...>
    """

    def __init__(
        self,
        name: str,
        fields: Sequence[Field],
        rows: Rows[Row],
        *,
        batch_rows: int = 65536,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.metadata = dict(metadata or {})
        self._field = Field(name, STRUCT, children=tuple(fields))
        self._rows = rows
        self._batch_rows = batch_rows
        self._columns: object | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(child.name for child in self._field.children)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<poolwise table {self.name!r}: {len(self):,} rows of {', '.join(self.columns)}>"

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A new stream of all rows, as a capsule; `requested_schema` is not heeded."""
        if self._columns is None:
            with without_collections():
                batches = tuple(self._batches())
            self._columns = _core.arrow_table(self._field.described(self.metadata), batches)
        return _core.arrow_stream(self._columns)

    def _batches(self) -> Iterator[tuple[Any, ...]]:
        rows = iter(self._rows)
        while batch := list(islice(rows, self._batch_rows)):
            yield _column(self._field, batch)


def _column(field: Field, values: Sequence[Any]) -> tuple[Any, ...]:
    """(length, number of nulls, buffers, children) of one batch of a column."""
    nulls = values.count(None) if field.nullable else 0
    validity = _bits([value is not None for value in values]) if nulls else None
    buffers: list[Any] = [validity]
    children: tuple[Any, ...] = ()
    if field.format in _NUMBERS:
        if nulls:
            values = [0 if value is None else value for value in values]
        buffers.append(array(_NUMBERS[field.format], values))
    elif field.format == TEXT:
        # A lone surrogate, of a file name that is not UTF-8, has no place in Arrow's UTF-8.
        texts = [b"" if value is None else value.encode("utf-8", "replace") for value in values]
        buffers += [_offsets(texts), b"".join(texts)]
    elif field.format == LIST:
        lists: Sequence[Sequence[Any]] = [() if value is None else value for value in values]
        buffers.append(_offsets(lists))
        children = (_column(field.children[0], list(chain.from_iterable(lists))),)
    else:
        parts = zip(*values, strict=True) if values else [()] * len(field.children)
        children = tuple(
            _column(child, part) for child, part in zip(field.children, parts, strict=True)
        )
    return len(values), nulls, tuple(buffers), children


def _offsets(values: Sequence[Sequence[object] | bytes]) -> array[int]:
    offsets = array("i", [0])
    end = 0
    for value in values:
        end += len(value)
        offsets.append(end)
    return offsets


def _bits(flags: Sequence[bool]) -> bytes:
    """A bitmap, the first flag in the lowest bit of the first byte."""
    digits = "".join("1" if flag else "0" for flag in reversed(flags))
    return int(digits, 2).to_bytes((len(flags) + 7) // 8, "little")


def _encoded(metadata: Mapping[str, str]) -> bytes:
    """Key-value metadata as the C data interface wants it, in the machine's byte order."""
    parts = [struct.pack("=i", len(metadata))]
    for word in chain.from_iterable(metadata.items()):
        text = word.encode()
        parts.append(struct.pack("=i", len(text)) + text)
    return b"".join(parts)
