"""Which Python a running process is: read from its files, running nothing of it.

CPython exports its version as the symbol `Py_Version` (since 3.11), from the executable or from
libpython, wherever it is installed and whatever the file is called.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

_SECTION = struct.Struct("<4xIQQQQI20x")  # type, flags, address, offset, size, link
_SYMBOL = struct.Struct("<I2xHQ8x")  # name, section, value
_DYNAMIC_SYMBOLS = 11  # SHT_DYNSYM
_WORD = struct.Struct("<Q")

_VERSION = b"Py_Version"
_ANY_PYTHON = b"Py_BytesMain"
_FREE_THREADED = b"_Py_MergeZeroLocalRefcount"  # only where there is no GIL


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A process's Python: version None if older than 3.11; `path` of its executable."""

    version: tuple[int, int] | None
    free_threaded: bool
    path: str

    def __str__(self) -> str:
        if self.version is None:
            return f"a Python older than 3.11 ({self.path})"
        return "Python {}.{}{} ({})".format(
            *self.version, "t" if self.free_threaded else "", self.path
        )


def interpreter_of(pid: int) -> Interpreter | None:
    """The CPython that process `pid` runs; None if it runs none.

    Example: `interpreter_of(os.getpid()).version`.

    Raises:
        OSError: there is no such process, or its files are not ours to read.
    """
    path = os.readlink(f"/proc/{pid}/exe")
    with open(f"/proc/{pid}/maps") as maps:
        mapped = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps}
    libraries = sorted(name for name in mapped if "libpython" in os.path.basename(name))
    for file in (f"/proc/{pid}/exe", *libraries):
        try:
            found = _exported(file)
        except FileNotFoundError:  # replaced since: the process goes on with the old one
            continue
        if _VERSION in found:
            hexversion = _WORD.unpack_from(found[_VERSION])[0]
            version = (hexversion >> 24 & 255, hexversion >> 16 & 255)
            return Interpreter(version, _FREE_THREADED in found, path)
        if _ANY_PYTHON in found:
            return Interpreter(None, False, path)
    return None


def _exported(file: str) -> dict[bytes, bytes]:
    """Those of the symbols above that an ELF file exports, with their first eight bytes."""
    with open(file, "rb") as opened:
        if os.fstat(opened.fileno()).st_size < 64:
            return {}
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as image:
            if image[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian: what poolwise runs on
                return {}
            return _symbols(image)


def _symbols(image: mmap.mmap) -> dict[bytes, bytes]:
    (start,) = _WORD.unpack_from(image, 40)
    count = struct.unpack_from("<H", image, 60)[0]
    sections = [_SECTION.unpack_from(image, start + n * _SECTION.size) for n in range(count)]
    found: dict[bytes, bytes] = {}
    for kind, _, _, offset, size, link in sections:
        if kind != _DYNAMIC_SYMBOLS:
            continue
        names = sections[link][3]
        for name, section, value in _SYMBOL.iter_unpack(image[offset : offset + size]):
            for wanted in (_VERSION, _ANY_PYTHON, _FREE_THREADED):
                end = names + name + len(wanted)
                if 0 < section < count and image[names + name : end + 1] == wanted + b"\0":
                    at = value - sections[section][2] + sections[section][3]
                    found[wanted] = image[at : at + 8]
    return found
