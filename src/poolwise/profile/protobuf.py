"""The protobuf wire format, as far as a writer needs it: numbers, bytes, packed numbers.

https://protobuf.dev/programming-guides/encoding: a field is a tag (number and wire type) and its
value; what is 0 or empty is left out, which proto3 reads back as such.
"""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _BYTES = 0, 2
_MASK = 2**64 - 1


def varint(value: int) -> bytes:
    """A number, seven bits to a byte; negative ones as their two's complement in 64 bits.

    >>> varint(300), len(varint(-1))
    (b'\\xac\\x02', 10)
    """
    value &= _MASK
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field of type `int64`, `uint64` or `bool`."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def message(field: int, value: bytes) -> bytes:
    """A field that is a message, a string or bytes. An empty one is written, too: one of a
    repeated field counts even so."""
    return varint(field << 3 | _BYTES) + varint(len(value)) + value


def packed(field: int, values: Iterable[int]) -> bytes:
    """A repeated field of numbers."""
    body = b"".join(map(varint, values))
    return message(field, body) if body else b""
