"""Apply a unified diff strictly, to copies: what a trial runs in place of the program's files.

Strict: every line that a hunk keeps or removes must stand exactly where the diff says. A trial of
something else than the user reads in the diff would prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from poolwise.errors import UsageError

HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
NO_NEWLINE = b"\\ No newline at end of file"


@dataclass(slots=True)
class _Change:
    """One file's part of a diff."""

    path: str
    hunks: list[tuple[int, list[bytes], list[bytes]]] = field(default_factory=list)


def apply_patch(patch: Path, folders: list[Path], into: Path) -> dict[str, str]:
    """Write the patched files into the folder `into`; returns {original: patched file}.

    Paths in the diff, with or without `a/` and `b/`, are looked for in `folders`, in this order.
    Raises UsageError in one sentence if the patch cannot be read or does not apply.
    Example: `apply_patch(Path("change.patch"), [Path("src"), Path()], Path("/tmp/x"))`.
    """
    try:
        lines = patch.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise UsageError(f"{patch}: cannot be read ({error.strerror})") from None
    overlay: dict[str, str] = {}
    for number, change in enumerate(_changes(lines, patch)):
        original = _find(change.path, folders, patch)
        target = into / f"{number}-{original.name}"
        target.write_bytes(_patched(original, change, patch))
        if str(original) in overlay:
            raise UsageError(f"{patch}: names {change.path} twice; join its hunks under one header")
        overlay[str(original)] = str(target)
    if not overlay:
        raise UsageError(f"{patch}: holds no change; give a unified diff, as diff -u writes it")
    return overlay


def _changes(lines: list[bytes], patch: Path) -> Iterator[_Change]:
    change: _Change | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(b"--- ") and at + 1 < len(lines) and lines[at + 1].startswith(b"+++ "):
            if change is not None:
                yield change
            old, new = (_name(words) for words in (line, lines[at + 1]))
            if "/dev/null" in (old, new):
                raise UsageError(
                    f"{patch}: makes or removes a file ({old} to {new}); only changes can be tried"
                )
            change = _Change(old)
            at += 2
        elif line.startswith(b"@@"):
            if change is None:
                raise UsageError(f"{patch}:{at + 1}: a hunk before any --- and +++ lines")
            at = _hunk(lines, at, change, patch)
        else:
            at += 1  # what stands between files: git's own headers, a mail's text
    if change is not None:
        yield change


def _name(line: bytes) -> str:
    return line[4:].split(b"\t")[0].strip().decode(errors="surrogateescape")


def _hunk(lines: list[bytes], at: int, change: _Change, patch: Path) -> int:
    """Read the hunk whose header is at line index `at` into `change`; returns the index behind."""
    header = HUNK.match(lines[at])
    if header is None:
        raise UsageError(f"{patch}:{at + 1}: not a hunk header: {lines[at].decode().strip()}")
    start, old_count, new_count = (1 if group is None else int(group) for group in header.groups())
    old: list[bytes] = []
    new: list[bytes] = []
    at += 1
    while len(old) < old_count or len(new) < new_count:
        line = lines[at] if at < len(lines) else b""
        mark, text = line[:1], line[1:]
        if mark in (b"", b"\n"):
            mark, text = (b" ", b"\n") if mark else (b"", b"")
        if mark not in (b" ", b"-", b"+"):
            raise UsageError(f"{patch}:{at + 1}: the hunk ends early; was the diff cut off?")
        if at + 1 < len(lines) and lines[at + 1].startswith(NO_NEWLINE):
            text = text.removesuffix(b"\n")
            at += 1
        if mark in (b" ", b"-"):
            old.append(text)
        if mark in (b" ", b"+"):
            new.append(text)
        at += 1
    # A hunk that only adds names the line behind which it adds.
    change.hunks.append((start if old_count else start + 1, old, new))
    return at


def _find(name: str, folders: list[Path], patch: Path) -> Path:
    candidates = [name] if "/" not in name else [name, name.split("/", 1)[1]]
    for candidate in candidates:
        for folder in folders:
            path = (folder / candidate).resolve()
            if path.is_file():
                return path
    looked = " or ".join(str(folder.resolve()) for folder in folders)
    raise UsageError(f"{patch}: changes {name}, which is not in {looked}; run it where the file is")


def _patched(original: Path, change: _Change, patch: Path) -> bytes:
    source = original.read_bytes().splitlines(keepends=True)
    result: list[bytes] = []
    done = 0
    for start, old, new in change.hunks:
        at = start - 1
        if at < done or source[at : at + len(old)] != old:
            raise UsageError(
                f"{patch}: does not apply to {original} at line {start}; make the diff anew from "
                "the file as it is"
            )
        result += source[done:at] + new
        done = at + len(old)
    return b"".join(result + source[done:])
