"""A recording as two tables, `samples` and `sites`; docs/reference/recording-format.md has both.

What `sites.find` gathers for the verdicts is here row by row, and complete: what was allocated
without a line of Python, too.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from poolwise.profile import meta, recording
from poolwise.profile.arrow import FLOAT64, INT32, INT64, LIST, STRUCT, TEXT, Field, Table
from poolwise.profile.bulk import without_collections
from poolwise.profile.meta import Meta
from poolwise.profile.positions import NOWHERE
from poolwise.profile.recording import ALIVE, CONSTRUCTION, LOST, NO_STACK, THINNED, Node, Recording
from poolwise.profile.sites import POOLWISE, Frame, OwnCode

SCHEMA = 1  # of both tables: within one number, columns are only added
SITES_IN_BATCH = 1024  # their stacks are long, and a batch's texts must stay below 2 GiB


class SampleRow(NamedTuple):
    """One sampled allocation, which stands for `weight` of them. None where it is still alive."""

    site_id: int
    size_bytes: int
    weight: float
    birth_ns: int
    death_ns: int | None
    life_bytes: int | None
    life_collections: int | None
    birth_thread: int
    death_thread: int | None
    process: int
    nonresident_pages: int


class SiteRow(NamedTuple):
    """A place where memory is asked for, by one way to it. `stack` is innermost first.

    Function, file and position are those of the innermost frame of the user's own code; None where
    there is none.
    """

    site_id: int
    function: str | None
    file: str | None
    line: int | None
    end_line: int | None
    column: int | None
    end_column: int | None
    type: str | None
    stack: tuple[Frame, ...]


SAMPLE_FIELDS = (
    Field("site_id", INT64),
    Field("size_bytes", INT64),
    Field("weight", FLOAT64),
    Field("birth_ns", INT64),
    Field("death_ns", INT64, nullable=True),
    Field("life_bytes", INT64, nullable=True),
    Field("life_collections", INT64, nullable=True),
    Field("birth_thread", INT64),
    Field("death_thread", INT64, nullable=True),
    Field("process", INT64),
    Field("nonresident_pages", INT64),
)
# Inside a list all may be null, though none but lines are: ibis casts results to its own types, and
# pyarrow before 20 cannot cast to a struct with parts that may not.
FRAME = Field(
    "frame",
    STRUCT,
    nullable=True,
    children=(
        Field("function", TEXT, nullable=True),
        Field("file", TEXT, nullable=True),
        Field("line", INT32, nullable=True),
    ),
)
SITE_FIELDS = (
    Field("site_id", INT64),
    Field("function", TEXT, nullable=True),
    Field("file", TEXT, nullable=True),
    Field("line", INT32, nullable=True),
    Field("end_line", INT32, nullable=True),
    Field("column", INT32, nullable=True),
    Field("end_column", INT32, nullable=True),
    Field("type", TEXT, nullable=True),
    Field("stack", LIST, children=(FRAME,)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An open recording.

    samples: one row a sampled allocation, in the order of their births.
    sites: where they were made; `site_id` counts from 0, so it is also the place in the table.
    meta: what is known beside them. end_ns: the last moment known, on the clock of `birth_ns`.
    recording: what was read, for what is not in the tables.
    """

    samples: Table[SampleRow]
    sites: Table[SiteRow]
    meta: Meta
    end_ns: int
    recording: Recording


@without_collections()
def read(directory: str | os.PathLike[str]) -> Profile:
    """Read the recording in `directory`.

    Raises:
        RecordingError: there is none, it is not one of ours, or nothing in it is whole.
    """
    recorded = recording.read(directory, process=None)
    about = meta.read(directory)
    end_ns = recorded.end_ns
    rows, sites = _numbered(recorded, about)
    metadata = {
        "poolwise.schema": str(SCHEMA),
        "poolwise.end_ns": str(end_ns),
        "poolwise.program": " ".join(about.program),
    }
    return Profile(
        samples=Table("samples", SAMPLE_FIELDS, rows, metadata=metadata),
        sites=Table("sites", SITE_FIELDS, sites, batch_rows=SITES_IN_BATCH, metadata=metadata),
        meta=about,
        end_ns=end_ns,
        recording=recorded,
    )


class _SampleRows:
    """The rows of `samples`, made while they are read: a recording may hold millions."""

    def __init__(
        self, recorded: Recording, process: int, births: array[int], sites: array[int]
    ) -> None:
        self.recorded = recorded
        self.process = process  # of the program itself
        self.births = births
        self.sites = sites

    def __len__(self) -> int:
        return len(self.births)

    def __iter__(self) -> Iterator[SampleRow]:
        recorded = self.recorded
        births, deaths, weight_of = recorded.births, recorded.deaths, recorded.weight
        process_of = [one.pid or self.process for one in recorded.processes]
        for number, site_id in zip(self.births, self.sites, strict=True):
            birth = births[number]
            death = deaths.get(number)
            death_ns = life_bytes = life_collections = death_thread = None
            size_bytes = birth.size
            if death is not None:
                size_bytes = death.size
                if death.kind != ALIVE:
                    death_ns = death.time_ns
                    life_bytes = recording.life_bytes(birth, death)
                    life_collections = death.collections - birth.collections
                    death_thread = None if death.kind == LOST else death.thread
            yield SampleRow(
                site_id,
                size_bytes,
                weight_of(number),
                birth.time_ns,
                death_ns,
                life_bytes,
                life_collections,
                birth.thread,
                death_thread,
                process_of[recorded.process(number)],
                birth.nonresident_pages,
            )


def _numbered(recorded: Recording, about: Meta) -> tuple[_SampleRows, list[SiteRow]]:
    """The rows of the samples, and the sites that they name.

    A timed class call is no allocation, and what a thinning took away is made up for by the weight
    of what it left: neither is a row.
    """
    own = OwnCode(about.own_code)
    places: dict[int, Node | None] = {}
    births, chosen = array("q"), array("q")
    numbers: dict[tuple[int, str | None], int] = {}
    for number, birth in enumerate(recorded.births):
        death = recorded.deaths.get(number)
        if birth.domain == CONSTRUCTION or (death is not None and death.kind == THINNED):
            continue
        stack = birth.stack
        if stack not in places:
            place = own.frame(recorded, stack)
            places[stack] = None if place is None else place[0]
        found = recorded.type(number)
        # All that is not of the user's doing is one site, by type.
        key = stack if places[stack] else NO_STACK, None if found is None else found.name
        births.append(number)
        chosen.append(numbers.setdefault(key, len(numbers)))
    sites = [
        _site(recorded, site_id, stack, places.get(stack), type_name)
        for (stack, type_name), site_id in numbers.items()
    ]
    return _SampleRows(recorded, about.process, births, chosen), sites


def _site(
    recorded: Recording, site_id: int, stack: int, node: Node | None, type_name: str | None
) -> SiteRow:
    code = None if node is None else recorded.code(node)
    position = NOWHERE if node is None else recorded.position(node)
    frames: list[Frame] = []
    for each in recorded.stack(stack):
        its = recorded.code(each)
        if its.file.startswith(POOLWISE):
            break  # what started the program
        frames.append(Frame(its.function, its.file, recorded.position(each).line))
    return SiteRow(
        site_id,
        None if code is None else code.function,
        None if code is None else code.file,
        *position,
        type_name,
        tuple(frames),
    )
