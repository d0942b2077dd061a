"""What the runs of a trial printed: fingerprints, and where two of them part."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 and length in bytes of an output."""

    sha256: str
    length: int


def fingerprint(path: Path) -> Fingerprint:
    """Of a file, read in pieces."""
    digest, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return Fingerprint(digest.hexdigest(), length)


def first_difference(old: Path, new: Path) -> str | None:
    """The first line in which two outputs differ, in one line; None if they are equal.

    Example: `line 3: 'sum 41' became 'sum 42'`.
    """
    with old.open("rb") as left, new.open("rb") as right:
        for number, (a, b) in enumerate(itertools.zip_longest(left, right), start=1):
            if a != b:
                return f"line {number}: {_shown(a, b)} became {_shown(b, a)}"
    return None


def _shown(line: bytes | None, other: bytes | None) -> str:
    """A line as it is shown: around the first character that differs, if it is long."""
    if line is None:
        return "the end"
    text = line.decode(errors="replace").rstrip("\n")
    same = 0
    if other is not None:
        pairs = zip(line, other, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = max(0, min(same, len(text)) - SHOWN_CHARACTERS // 2)
    part = text[start : start + SHOWN_CHARACTERS]
    before, after = "…" if start else "", "…" if start + SHOWN_CHARACTERS < len(text) else ""
    return f"'{before}{part}{after}'"
