"""The flame graph: all sampled memory by call stack, as one tree that fits into a page.

Functions are merged per caller, whatever line they stand at; the last level says at which line
memory was asked for, and what for. The import system's own frames, six to each import, are left
out. Constructions are no memory, and have no place here.
"""

from __future__ import annotations

import re
from typing import Any

from poolwise.profile.recording import ALIVE, CONSTRUCTION, NATIVE, NUMPY, THINNED, Recording
from poolwise.profile.report.rounding import shorts
from poolwise.profile.sites import POOLWISE, OwnCode

# What a frame's width can mean; the first four are Go's sample types.
MODES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space", "heaptime")
MOST_FRAMES = 12_000  # in the page; what is smaller than all of these is part of its caller

OWN, LIBRARY, STANDARD, LEAF = range(4)  # whose code a frame is; a leaf is what was allocated
_LIBRARY = re.compile(r"/(?:site|dist)-packages/")
# What a leaf is called where its type is not known; else "memory".
_LEAVES = {NUMPY: "array data", NATIVE: "native block"}

Name = tuple[str, str, int, int]  # function or type, file, line, whose


class Tree:
    """Frames in order of appearance, callers first; 0 is the root."""

    def __init__(self, recording: Recording, own: OwnCode) -> None:
        self.recording = recording
        self.own = own
        self.callers = [0]
        self.names: list[Name] = [("", "", 0, OWN)]
        self.values = [[0.0] * len(MODES)]
        self._frames: dict[tuple[int, Name], int] = {}
        self._of_node: dict[int, int] = {0: 0}
        self._of_code: dict[int, Name] = {}
        self._lines: dict[tuple[int, int], int] = {}

    def frame(self, caller: int, name: Name) -> int:
        """The frame of this name below its caller."""
        frame = self._frames.get((caller, name))
        if frame is None:
            frame = self._frames[caller, name] = len(self.names)
            self.callers.append(caller)
            self.names.append(name)
            self.values.append([0.0] * len(MODES))
        return frame

    def place(self, stack: int) -> int:
        """The frame of a stack's innermost function."""
        path = []
        nodes = self.recording.nodes
        if stack > len(nodes):
            return self.frame(0, ("(stack not known)", "", 0, LIBRARY))
        while stack not in self._of_node:
            path.append(stack)
            stack = nodes[stack - 1].caller
        frame = self._of_node[stack]
        for node in reversed(path):
            name = self._name(nodes[node - 1].code)
            started_it = frame == 0 and name[1].startswith((POOLWISE, "<frozen runpy>"))
            if not (started_it or name[1].startswith("<frozen importlib")):
                frame = self.frame(frame, name)
            self._of_node[node] = frame
        return frame

    def _name(self, code: int) -> Name:
        name = self._of_code.get(code)
        if name is None:
            found = self.recording.codes[code - 1]
            whose = (
                OWN
                if self.own.is_own(found.file)
                else LIBRARY
                if _LIBRARY.search(found.file)
                else STANDARD
            )
            name = self._of_code[code] = found.function, found.file, found.first_line, whose
        return name

    def line(self, stack: int) -> int:
        """The line at which a stack's innermost function was, 0 if that is not known."""
        node = self.recording.nodes[stack - 1]
        key = node.code, node.instruction_bytes
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = self.recording.position(node).line or 0
        return line

    def totals(self) -> list[list[float]]:
        """What each frame and all that it calls allocate, by mode."""
        totals = [list(values) for values in self.values]
        for frame in range(len(totals) - 1, 0, -1):
            above = totals[self.callers[frame]]
            for mode, value in enumerate(totals[frame]):
                above[mode] += value
        return totals


def tree(recording: Recording, own: OwnCode, end_ns: int) -> Tree:
    """All memory that was sampled, by stack and by what was allocated."""
    found = Tree(recording, own)
    leaves: dict[tuple[int, int, str], int] = {}
    for number, birth in enumerate(recording.births):
        death = recording.deaths.get(number)
        if birth.domain == CONSTRUCTION or (death is not None and death.kind == THINNED):
            continue
        type_ = recording.types[death.type - 1].name if death is not None and death.type else ""
        key = birth.stack, birth.domain, type_
        leaf = leaves.get(key)
        if leaf is None:
            leaf = leaves[key] = _leaf(found, *key)
        weight = recording.weight(number)
        size = birth.size if death is None else max(birth.size, death.size)
        alive = death is None or death.kind == ALIVE
        values = found.values[leaf]
        values[0] += weight
        values[1] += weight * size
        if alive:
            values[2] += weight
            values[3] += weight * size
        lived_ns = (end_ns if death is None or alive else death.time_ns) - birth.time_ns
        values[4] += weight * size * lived_ns / 1e9
    return found


def _leaf(found: Tree, stack: int, domain: int, type_: str) -> int:
    caller = found.place(stack)
    _, file, _, _ = found.names[caller]
    line = found.line(stack) if 0 < stack <= len(found.recording.nodes) else 0
    return found.frame(caller, (type_ or _LEAVES.get(domain, "memory"), file, line, LEAF))


def columns(found: Tree, most: int = MOST_FRAMES) -> dict[str, Any]:
    """The tree as columns; frames too small to be seen in any mode are left to their callers."""
    totals = found.totals()
    whole = [value or 1.0 for value in totals[0]]
    # A frame is never larger than its caller, so that whoever is kept has a caller that is.
    shares = [max(v / w for v, w in zip(t, whole, strict=True)) for t in totals]
    order = sorted(range(1, len(shares)), key=lambda frame: (-shares[frame], frame))
    kept = [0, *sorted(order[:most])]
    index = {frame: at for at, frame in enumerate(kept)}
    values = [[0.0] * len(MODES) for _ in kept]
    for frame, own_values in enumerate(found.values):
        while frame not in index:
            frame = found.callers[frame]
        sums = values[index[frame]]
        for mode, value in enumerate(own_values):
            sums[mode] += value
    names: dict[Name, int] = {}
    files: dict[str, int] = {}
    for frame in kept:
        names.setdefault(found.names[frame], len(names))
        files.setdefault(found.names[frame][1], len(files))
    return {
        "files": list(files),
        "names": [[name, files[file], line, whose] for name, file, line, whose in names],
        "caller": [index[found.callers[frame]] for frame in kept],
        "name": [names[found.names[frame]] for frame in kept],
        "self": {
            mode: shorts(values[at][number] for at in range(len(kept)))
            for number, mode in enumerate(MODES)
        },
        "left_out": len(shares) - len(kept),
    }
