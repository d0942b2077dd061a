"""Where in the source an instruction comes from, decoded from a code object's location table.

The table is written into the recording as CPython keeps it (``co_linetable``), so that the program
spends nothing on names. Format: CPython's ``Objects/locations.md`` (3.11 and newer).
"""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """Lines count from 1, columns are UTF-8 byte offsets from 0; None where unknown."""

    line: int | None
    end_line: int | None
    column: int | None
    end_column: int | None


NOWHERE = Position(None, None, None, None)


def position_at(table: bytes, first_line: int, instruction_bytes: int) -> Position:
    """The position of the instruction at this byte offset.

    >>> code = compile("x = 1\\ny = [2]", "f.py", "exec")
    >>> position_at(code.co_linetable, code.co_firstlineno, 2).line
    1
    """
    unit = instruction_bytes // 2
    line = first_line
    covered = 0
    at = 0
    while at < len(table):
        entry = table[at]
        at += 1
        kind = entry >> 3 & 15
        covered += (entry & 7) + 1
        end_line: int | None = None
        column: int | None = None
        end_column: int | None = None
        known = True
        if kind == 15:
            known = False
        elif kind == 14:
            delta, at = _signed(table, at)
            line += delta
            span, at = _unsigned(table, at)
            end_line = line + span
            raw, at = _unsigned(table, at)
            column = raw - 1 if raw else None
            raw, at = _unsigned(table, at)
            end_column = raw - 1 if raw else None
        elif kind == 13:
            delta, at = _signed(table, at)
            line += delta
            end_line = line
        elif kind >= 10:
            line += kind - 10
            end_line = line
            column, end_column = table[at], table[at + 1]
            at += 2
        else:
            end_line = line
            column = kind << 3 | table[at] >> 4
            end_column = column + (table[at] & 15)
            at += 1
        if unit < covered:
            return Position(line, end_line, column, end_column) if known else NOWHERE
    return NOWHERE


def _unsigned(table: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = table[at]
        at += 1
        value |= (byte & 63) << shift
        shift += 6
        if not byte & 64:
            return value, at


def _signed(table: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(table, at)
    return (-(value >> 1) if value & 1 else value >> 1), at
