"""A recorded trace of allocations, kept as text, as events for `tests/core/replay.c`.

`python tests/profile/traces.py > tests/profile/trace.txt` records it anew: the program below under
the exact sampler. Its lines, in order of time, each after so many nanoseconds since the last:

    site    FUNCTION LINE DOMAIN        sites are numbered from 0 as they come
    + SITE THREAD AFTER BYTES           a block is made; blocks are numbered from 0 as they come
    ~ BLOCK THREAD AFTER BYTES          it is resized
    - BLOCK THREAD AFTER KIND           it ends (KIND as in `recording.py`)
    collection AFTER

The recording does not keep the sizes between a block's first and last, but how many there were:
they are taken to grow by equal factors, evenly over the first half of its life.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sampled_programs import run_program, write_program

from poolwise.profile import recording

TRACE = Path(__file__).with_name("trace.txt")
BIRTH, REALLOC, DEATH = range(3)
EVENT = struct.Struct("=II64s")
LARGEST_BYTES = 1 << 20
ONE_LINE = b"\xe8\x00"  # a table of positions: all of the code is on its first line

# Pages of a wiki are read and parsed by two threads and written by a third; trees have cycles, a
# cache throws out its oldest, an index grows to the end.
PROGRAM = """
import collections, gc, os, queue, random, re, threading, zlib
from poolwise.profile import child

random.seed(5)
WORDS = [f"{chr(97 + n % 26)}{n:x}" for n in range(400)]
word = re.compile(r"\\\\w+|[^\\\\w]")

class Element:
    def __init__(self, name, parent=None):
        self.name, self.parent, self.children = name, parent, []
        if parent is not None:
            parent.children.append(self)

def source(number):
    draw = random.Random(number)
    length = draw.choice([2, 2, 3, 10])
    return " ".join(draw.choice(WORDS) for _ in range(length)).encode()

def read(number):
    data = source(number)
    packed = bytearray(zlib.compress(data * draw_copies(number)))
    return bytes(memoryview(zlib.decompress(packed))[: len(data)])

def draw_copies(number):
    return [1, 4, 20, 200][number % 4]

def tokens(text):
    found = []
    for match in word.finditer(text):
        found.append(match.group())
    return found

def tree(found):
    root = Element("page")
    section = root
    for number, token in enumerate(found):
        if number % 8 == 0:
            section = Element("section", root)
        if token != " ":
            Element(token, section)
    return root

def render(root):
    out = bytearray()
    for section in root.children:
        out += b"<section>"
        for leaf in section.children:
            out += f"<b>{leaf.name}</b>".encode()
    return bytes(out)

def parse(numbers, parsed):
    while (number := numbers.get()) is not None:
        parsed.put((number, tree(tokens(read(number).decode()))))
    parsed.put(None)

def write(parsed, workers):
    cache, index = collections.OrderedDict(), []
    while workers:
        item = parsed.get()
        if item is None:
            workers -= 1
            continue
        number, root = item
        page = render(root)
        cache[number] = page.ljust(2048 << number % 5)
        index.append([number, len(page), str(number) * 9])
        if len(cache) > 6:
            cache.popitem(last=False)
        if number % 12 == 11:
            gc.collect()
    return cache, index

gc.disable()
numbers, parsed = queue.Queue(), queue.Queue(maxsize=8)
threads = [threading.Thread(target=parse, args=(numbers, parsed)) for _ in range(2)]
child.start({"dir": os.environ["TRACED"], "exact": True})
for thread in threads:
    thread.start()
for number in range(PAGES):
    numbers.put(number)
for thread in threads:
    numbers.put(None)
kept = write(parsed, len(threads))
child.stop()
"""


@dataclass
class Trace:
    """What is replayed: `events` for the driver, and what its recordings leave out."""

    events: bytes
    codes: list[recording.Code] = field(default_factory=list)
    nodes: list[recording.Node] = field(default_factory=list)

    def name(self, read: recording.Recording) -> None:
        """Give a recording of the driver the sites that its stacks stand for."""
        read.codes, read.nodes = self.codes, self.nodes


def load() -> Trace:
    """The trace as events for the driver, and its sites."""
    now = start = 1_000_000_000
    volume = collections = blocks = 0
    volumes: dict[int, int] = {}
    stacks: list[int] = []  # by site
    domains: list[int] = []
    events: list[bytes] = []
    trace = Trace(b"")

    def birth(site: int, thread: int, size: int) -> bytes:
        nonlocal volume
        volume += size
        volumes[thread] = volumes.get(thread, 0) + size
        return struct.pack(
            "=QQQQdIIIIII", now, volumes[thread], volume, size, 0.0, stacks[site], thread, 0,
            domains[site], collections, 0,
        )  # fmt: skip

    def death(thread: int, kind: int) -> bytes:
        return struct.pack(
            "=QQQQQIIIIIHH", 0, now, volumes.get(thread, 0), volume, 0, 0, thread, 0, 0,
            collections, kind, 0,
        )  # fmt: skip

    places: list[int] = []
    for line in TRACE.read_text(encoding="utf-8").splitlines():
        what, *words = line.split()
        if what == "site":
            code = recording.Code("wiki.py", words[0], int(words[1]), ONE_LINE)
            if code not in trace.codes:
                trace.codes.append(code)
                trace.nodes.append(recording.Node(0, len(trace.codes), 0))
            stacks.append(trace.codes.index(code) + 1)
            domains.append(int(words[2]))
            continue
        values = [int(word) for word in words]
        if what == "collection":
            now += values[0]
            collections += 1
            continue
        of, thread, after, last = values
        now += after
        if what == "+":
            places.append(of)
            events.append(EVENT.pack(BIRTH, blocks, birth(of, thread, last)))
            blocks += 1
        elif what == "~":
            events.append(EVENT.pack(REALLOC, of, birth(places[of], thread, last)))
        else:
            events.append(EVENT.pack(DEATH, of, death(thread, last)))
    assert now > start
    trace.events = b"".join(events)
    return trace


def record(directory: Path) -> Iterator[str]:
    """Run the program under the exact sampler: the lines of its trace."""
    file = write_program(directory, PROGRAM.replace("PAGES", "24"), "wiki.py")
    done = run_program(file, None, env={"TRACED": str(directory)})
    assert done.returncode == 0, done.stderr
    read = recording.read(directory)
    numbers: dict[tuple[str, int | None, int], int] = {}
    events: list[tuple[int, int, str, int, int]] = []  # time, order, what, birth, last word
    ticks: list[tuple[int, int]] = []
    places: dict[int, int] = {}
    for number, birth in enumerate(read.births):
        own = [n for n in read.stack(birth.stack) if read.code(n).file == str(file)]
        death = read.deaths[number]
        if not own or birth.domain == recording.CONSTRUCTION or death.size > LARGEST_BYTES:
            continue
        key = (read.code(own[0]).function, read.position(own[0]).line, birth.domain)
        if key not in numbers:
            numbers[key] = len(numbers)
            yield f"site {key[0].replace(' ', '')} {key[1]} {key[2]}"
        places[number] = numbers[key]
        events.append((birth.time_ns, 0, "+", number, birth.size))
        for step in range(1, death.reallocs + 1):
            part = step / death.reallocs
            grown = round(birth.size * (death.size / birth.size) ** part)
            moment = birth.time_ns + int((death.time_ns - birth.time_ns) * part / 2)
            events.append((moment, step, "~", number, grown))
        events.append((death.time_ns, 1 << 20, "-", number, death.kind))
        ticks += [(birth.time_ns, birth.collections), (death.time_ns, death.collections)]
    seen = dict(sorted(ticks))
    now, collected = min(event[0] for event in events), 0
    blocks: dict[int, int] = {}
    for time_ns, _, what, number, last in sorted(events):
        after = time_ns - now
        now += after
        for _ in range(seen.get(time_ns, collected) - collected):
            yield "collection 0"
            collected += 1
        if what == "+":
            blocks[number] = len(blocks)
            yield f"+ {places[number]} {read.births[number].thread} {after} {last}"
        else:
            thread = (read.deaths[number] if what == "-" else read.births[number]).thread
            yield f"{what} {blocks[number]} {thread} {after} {last}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.writelines(f"{line}\n" for line in record(Path(folder)))
