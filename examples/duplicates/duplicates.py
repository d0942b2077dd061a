"""Find functions of the standard library that are near copies of each other.

The body of every function is cut into overlapping runs of words, the set of runs is summed up in a
MinHash of datasketch, and an index of these finds the pairs that share most of their runs.

    python duplicates.py --functions 2400
"""

from __future__ import annotations

import argparse
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from datasketch import MinHash, MinHashLSH

SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}
WORD = re.compile(r"\w+|[^\w\s]")
HEAD = re.compile(r"^( *)(?:async )?def (\w+)")
RUN = 5
SMALLEST = 30


@dataclass(frozen=True, slots=True)
class Function:
    """One function: where it is, its length in words, and the sketch of its body."""

    place: str
    words: int
    sketch: MinHash


def bodies(source: str) -> Iterator[tuple[str, int, str]]:
    """Name, line and body of each outermost function: the lines that are indented deeper."""
    lines = source.splitlines()
    end = 0
    for number, line in enumerate(lines):
        if number < end or not (head := HEAD.match(line)):
            continue
        deeper = head[1] + " "
        end = number + 1
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(deeper)):
            end += 1
        yield head[2], number + 1, "\n".join(lines[number + 1 : end])


def sketch_of(words: list[str]) -> MinHash:
    sketch = MinHash(num_perm=128, seed=1)
    for start in range(len(words) - RUN + 1):
        sketch.update(" ".join(words[start : start + RUN]).encode())
    return sketch


def functions() -> Iterator[Function]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not SKIPPED.isdisjoint(relative.parts):
            continue
        for name, line, body in bodies(path.read_text("utf-8", errors="replace")):
            words = WORD.findall(body)
            if len(words) >= SMALLEST:
                yield Function(f"{relative}:{line} {name}", len(words), sketch_of(words))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--functions", type=int, default=2400, help="how many to compare")
    parser.add_argument("--similar", type=float, default=0.8, help="share of runs in common")
    options = parser.parse_args()

    index = MinHashLSH(threshold=options.similar, num_perm=128)
    known: dict[str, Function] = {}
    pairs: list[tuple[float, int, str, str]] = []
    for function in islice(functions(), options.functions):
        for place in index.query(function.sketch):
            other = known[str(place)]
            likeness = function.sketch.jaccard(other.sketch)
            if likeness >= options.similar:
                pairs.append((likeness, function.words, other.place, function.place))
        if function.place not in known:
            known[function.place] = function
            index.insert(function.place, function.sketch)

    words = sum(function.words for function in known.values())
    print(f"{len(known)} functions of {words} words, {len(pairs)} pairs alike")
    for likeness, length, one, two in sorted(pairs, key=lambda pair: (-pair[1], pair[2:]))[:12]:
        print(f"  {likeness:4.2f} {length:5} words  {one}  =  {two}")


if __name__ == "__main__":
    main()
