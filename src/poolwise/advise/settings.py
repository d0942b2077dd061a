"""The `settings` remedy: what glibc's malloc and the garbage collector can be told.

**malloc.** glibc takes a block above its mmap threshold from the kernel and hands it back when it
is freed, and it hands back what is free at the top of its heap above its trim threshold: the next
block faults in every page anew. Both thresholds start low and follow the first large block freed,
so that the same program is cheap or dear by accident. Fixed high, a freed block stays. Measured
with fresh processes, numpy blocks filled and freed, glibc 2.36, CPU microseconds a round as it
comes -> with these values (resident memory at the peak in MiB):

    blocks         main thread               another thread
    1 x 1 MiB        25 ->    18 ( 31,  32)     27 ->    18 ( 32,  32)
    2 x 8 MiB      1280 ->   729 ( 54,  54)   1107 ->   646 ( 54,  54)
    2 x 40 MiB    12345 ->  4381 (110, 150)  10156 ->  3977 (110, 150)
    2 x 100 MiB   27036 -> 10059 (230, 330)  25152 -> 24463 (229, 229)

Why these values:

- *mmap threshold 256 MiB*: 4K images and their float twins have 25 to 200 MB. A glibc before 2.35
  allows 32 MiB at most, and stays with that. No mapping at all (M_MMAP_MAX = 0) gains no more, and
  an array of gigabytes that is mostly never touched would then become resident.
- *trim threshold 512 MiB*: twice that, as glibc's own rule has it. It bounds what is kept.
- *top pad 64 MiB*: a heap of another thread than the main one is 64 MiB large at most, and is given
  back as a whole when it empties, whatever the trim threshold, unless the pad is as large: 6103 us
  and 424 faults without, 3977 us and 107 faults with it, for the 2 x 40 MiB above. Padding is
  address space, never touched.
- *not* M_ARENA_MAX = 1: it would help blocks above 64 MiB on other threads (25 -> 9.7 ms), which
  are mapped always, but then all threads wait for one lock.

What it costs: freed memory stays with the process (one block more at the peak, above), and zeroed
memory that nobody touches must be cleared when it is used again: `numpy.zeros` of two blocks of
8 MiB, never written, 106 -> 638 us, of 40 MiB 27 -> 2283 us. `poolwise try` shows which it is.

**gc.** The young generation is collected after so many container objects more than before; 700 is
little for a program that builds large structures. (50,000, 20, 10) collects it 70 times less often
and keeps at most 50,000 dead cycles longer.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass

from poolwise import _core
from poolwise.errors import UsageError
from poolwise.program import settings as values

PARTS = ("malloc", "gc")


@dataclass(frozen=True, slots=True)
class Settings:
    """The values, for reports. Bytes; thresholds as `gc.set_threshold` takes them."""

    mmap_threshold_bytes: int
    trim_threshold_bytes: int
    top_pad_bytes: int
    gc_thresholds: tuple[int, int, int]


_malloc = dict(values.MALLOC)
SETTINGS = Settings(
    mmap_threshold_bytes=_malloc[values.M_MMAP_THRESHOLD],
    trim_threshold_bytes=_malloc[values.M_TRIM_THRESHOLD],
    top_pad_bytes=_malloc[values.M_TOP_PAD],
    gc_thresholds=values.GC,
)


def parse_remedies(text: str) -> tuple[str, ...]:
    """The parts of the settings remedy that `--with` names, in the order of `PARTS`.

    Example: `parse_remedies("settings:gc") == ("gc",)`. Raises UsageError for an unknown remedy,
    and for malloc settings on another C library than glibc.
    """
    known = {"settings": PARTS} | {f"settings:{part}": (part,) for part in PARTS}
    chosen: set[str] = set()
    for remedy in (word.strip() for word in text.split(",")):
        if remedy not in known:
            raise UsageError(
                f"--with {text}: there is no remedy {remedy!r}; "
                "known are settings, settings:malloc and settings:gc"
            )
        chosen.update(known[remedy])
    if "malloc" in chosen:
        check_libc()
    return tuple(part for part in PARTS if part in chosen)


def check_libc() -> None:
    """Raise UsageError unless the C library is glibc."""
    try:
        known = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            "settings:malloc: no malloc settings are known for this C library, only for glibc; "
            "use --with settings:gc"
        )


def apply(parts: Sequence[str]) -> None:
    """Give this process the settings named in `parts`, as the child does before its program.

    Example: `apply(["gc"])`. Raises UsageError for "malloc" on another C library than glibc.
    """
    if "malloc" in parts:
        check_libc()
        for parameter, value in values.MALLOC:
            _core.mallopt(parameter, value)
    if "gc" in parts:
        gc.set_threshold(*values.GC)


def describe(parts: Sequence[str]) -> str:
    """What a user writes to have the settings without poolwise: a line a part.

    Example: `describe(["gc"]) == "gc.set_threshold(50_000, 20, 10)  # after: import gc"`.
    """
    lines = []
    if "malloc" in parts:
        lines.append(
            f"MALLOC_MMAP_THRESHOLD_={SETTINGS.mmap_threshold_bytes} "
            f"MALLOC_TRIM_THRESHOLD_={SETTINGS.trim_threshold_bytes} "
            f"MALLOC_TOP_PAD_={SETTINGS.top_pad_bytes} python …  # before the program's name"
        )
    if "gc" in parts:
        young, middle, old = SETTINGS.gc_thresholds
        lines.append(f"gc.set_threshold({young:_}, {middle}, {old})  # after: import gc")
    return "\n".join(lines)
