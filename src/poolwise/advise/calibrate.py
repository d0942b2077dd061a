"""What memory costs on this machine, measured once in fresh child processes and cached.

A verdict is a subtraction of these prices, never a rule of thumb. Every `Price` is in CPU seconds
with a range: what it is when little disturbs, and what repeated processes showed.

    >>> from poolwise.advise import calibrate
    >>> prices = calibrate.load()                                       # doctest: +SKIP
    >>> prices.fault(1 << 20)                                           # doctest: +SKIP
    Price(value=2.3e-06, low=2.1e-06, high=2.6e-06)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import sysconfig
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal, Self

from poolwise import __version__
from poolwise.advise.probe import probe
from poolwise.errors import PoolwiseError

SCHEMA = 7
HUGE_PAGE = 2 << 20
SMALL_BYTES = 512

Regime = Literal["mmap", "trim"]
Progress = Callable[[int, int], None]

# Parts of `_calibration_child`, and the share of the time that each one needs.
_PARTS = {"fault": 3.0, "huge": 1.5, "threads": 1.5, "memory": 2.0, "python": 1.0, "pools": 0.5}
_PROCESSES = 3  # fresh processes a part: two of them never agree exactly, and that is the spread
SECONDS = 8.0  # for all of them; the start of the last one may go past it
_START_SECONDS = 0.1  # of one child, before it measures anything
_PROBE_SECONDS = 0.05  # between two probes: later ones are compared with these
_RANGE = 0.04  # repeated calibrations differ by this at least
_FLOOR = 1e-10  # no price is below: a difference of two noisy times can be

_EVERYWHERE = (
    *(
        "zero_written",
        "zero_alone",
        "copy",
        "allocate",
        "object",
        "construct",
        "gc_young",
        "gc_full",
        "gc_garbage",
    ),
    *("pool_pair", "pool_reset", "pool_lease", "buffer_pair", "probe"),
)

# What changes malloc or the interpreter's allocators in a child, and so must not reach it.
_CHILD_PYTHON = ("PYTHONPATH", "PYTHONHOME")
_NOT_FOR_CHILDREN = ("MALLOC_", "GLIBC_TUNABLES", "PYTHON", "POOLWISE")


class CalibrationError(PoolwiseError, RuntimeError):
    """The prices of this machine cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Price:
    """CPU seconds on a quiet machine, and the range that repeated measurements showed."""

    value: float
    low: float
    high: float

    def __add__(self, other: Price) -> Price:
        return Price(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Price:
        """This price `factor` (at least 0) times."""
        return Price(self.value * factor, self.low * factor, self.high * factor)

    def spanning(self, other: Price) -> Price:
        """Between the two, with a range that holds both."""
        return Price(
            math.sqrt(self.value * other.value),
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """A price by size. Between two measured sizes it is a straight line on log-log paper."""

    sizes: tuple[int, ...]  # ascending
    prices: tuple[Price, ...]

    def at(self, size: int) -> Price:
        """The price at `size`; outside the measured sizes, that of the nearest one."""
        if size <= self.sizes[0]:
            return self.prices[0]
        if size >= self.sizes[-1]:
            return self.prices[-1]
        right = bisect_left(self.sizes, size)
        below, above = self.prices[right - 1], self.prices[right]
        lower, upper = self.sizes[right - 1], self.sizes[right]
        part = math.log(size / lower) / math.log(upper / lower)

        def between(a: float, b: float) -> float:
            return math.exp((1 - part) * math.log(a) + part * math.log(b))

        return Price(
            between(below.value, above.value),
            between(below.low, above.low),
            between(below.high, above.high),
        )

    def in_proportion(self, size: int) -> Price:
        """As `at`, but outside the measured sizes the price of a *byte* is the nearest one."""
        inside = min(max(size, self.sizes[0]), self.sizes[-1])
        return self.at(inside) * (size / inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The prices of one machine. Sizes are in bytes, prices in CPU seconds."""

    machine: Mapping[str, str]
    curves: Mapping[str, Curve]
    prices: Mapping[str, Price]

    def fault(
        self,
        block_bytes: int,
        *,
        huge: bool = False,
        regime: Regime | None = None,
        threads: bool = False,
    ) -> Price:
        """A page of 4 KiB that a block of `block_bytes` takes afresh from the kernel.

        The difference between a block that is taken, written in full and given back to the
        kernel in each round, and the same block kept: fault, zeroing by the kernel (which warms
        the cache for the write that follows), and unmapping. `regime` says how it goes back:
        "mmap" (each block a mapping of its own) or "trim" (the top of the heap is cut); by
        default the range spans both. `threads`: another thread of the process is running, which
        has to hear of each unmapping.

        `huge` is for a malloc'ed block that is advised MADV_HUGEPAGE, as numpy does from 4 MiB:
        a huge page's worth of it, its two ends together, still comes in small pages, and
        the range allows for half as much and for half as much again. Where the kernel has huge
        pages switched off, `huge` changes nothing.
        """
        small = self._page("threads" if threads else "fault", block_bytes, regime)
        if not huge or "huge_mmap" not in self.curves:
            return small
        inside = self.huge_page(block_bytes, regime=regime)

        def mixed(small: float, inside: float, ends: float) -> float:
            share = min(1.0, ends * HUGE_PAGE / max(1, block_bytes))
            return share * small + (1 - share) * inside

        return Price(
            mixed(small.value, inside.value, 1.0),
            mixed(small.low, inside.low, 0.5),
            mixed(small.high, inside.high, 1.5),
        )

    def huge_page(self, block_bytes: int, *, regime: Regime | None = None) -> Price:
        """As `fault`, for 4 KiB inside a huge page of 2 MiB: one fault brings 512 of them.

        For a caller who knows how many huge pages there were. Raises KeyError where the kernel
        has huge pages switched off.
        """
        return self._page("huge", block_bytes, regime)

    def _page(self, name: str, block_bytes: int, regime: Regime | None) -> Price:
        if regime is not None:
            return self.curves[f"{name}_{regime}"].at(block_bytes)
        mmap, trim = self.curves[f"{name}_mmap"], self.curves[f"{name}_trim"]
        return mmap.at(block_bytes).spanning(trim.at(block_bytes))

    def zero(self, nbytes: int) -> Price:
        """Zeroing `nbytes` that are resident.

        Between what it saves a program that then writes all of the block (zeroing has pulled it
        into the cache, so that the write is the cheaper for it) and one that writes none of it.
        """
        written = self.curves["zero_written"].in_proportion(nbytes)
        alone = self.curves["zero_alone"].in_proportion(nbytes)
        middle = math.sqrt(written.value * alone.value)
        ends = math.sqrt(written.value * middle), math.sqrt(alone.value * middle)
        return Price(middle, min(ends), max(ends))

    def copy(self, nbytes: int) -> Price:
        """Copying `nbytes` between blocks that are resident and not just used."""
        return self.curves["copy"].in_proportion(nbytes)

    def allocate(self, nbytes: int) -> Price:
        """A malloc of `nbytes` with its free, through Python's allocator, the block resident.

        Up to 512 bytes it is the small-object allocator's, which takes about as long for each
        size: the middle of what was measured, since single differences of a few ns are noise.
        """
        curve = self.curves["allocate"]
        if nbytes > SMALL_BYTES:
            return curve.at(nbytes)
        small = [
            p for size, p in zip(curve.sizes, curve.prices, strict=True) if size <= SMALL_BYTES
        ]
        return sorted(small, key=lambda price: price.value)[len(small) // 2]

    def obj_allocate(self, nbytes: int) -> Price:
        """Making and dropping an object with a block of `nbytes` (`bytearray`), zeroing aside."""
        return self.prices["object"] + self.allocate(nbytes)

    @property
    def construct_overhead(self) -> Price:
        """Calling a class with slots and no `__init__`, and dropping the object."""
        return self.prices["construct"]

    @property
    def pool_pair(self) -> Price:
        """`get` and `put` of a Pool without `reset`, as a program calls them."""
        return self.prices["pool_pair"]

    @property
    def pool_reset(self) -> Price:
        """What a `reset` that does nothing, but is a Python function, adds to `pool_pair`."""
        return self.prices["pool_reset"]

    @property
    def pool_lease(self) -> Price:
        """`with pool.lease()`, without `reset`."""
        return self.prices["pool_lease"]

    @property
    def buffer_pair(self) -> Price:
        """`acquire` of a BufferPool, and dropping the buffer."""
        return self.prices["buffer_pair"]

    def gc_object(self, *, full: bool = False) -> Price:
        """One tracked object passed over by a young collection, or by a full one."""
        return self.prices["gc_full" if full else "gc_young"]

    @property
    def gc_garbage(self) -> Price:
        """One object found to be garbage by a collection, and freed with what it holds."""
        return self.prices["gc_garbage"]

    def scaled(self, factor: Price) -> Calibration:
        """All prices times `factor`, whose range adds to theirs."""

        def scale(price: Price) -> Price:
            return Price(
                price.value * factor.value, price.low * factor.low, price.high * factor.high
            )

        return Calibration(
            machine=self.machine,
            curves={
                name: Curve(curve.sizes, tuple(map(scale, curve.prices)))
                for name, curve in self.curves.items()
            },
            prices={name: scale(price) for name, price in self.prices.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json`; `from_json` takes them back."""
        return {
            "schema": SCHEMA,
            "machine": dict(self.machine),
            "curves": {
                name: [
                    {"bytes": size, **asdict(price)}
                    for size, price in zip(curve.sizes, curve.prices, strict=True)
                ]
                for name, curve in self.curves.items()
            },
            "prices": {name: asdict(price) for name, price in self.prices.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError on anything else."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}")
        curves = {}
        for name, points in data["curves"].items():
            sizes = tuple(int(point["bytes"]) for point in points)
            if not sizes or any(a >= b for a, b in pairwise(sizes)):
                raise ValueError(f"sizes of {name} do not ascend")
            curves[name] = Curve(sizes, tuple(_price_from_json(point) for point in points))
        prices = {name: _price_from_json(price) for name, price in data["prices"].items()}
        return cls(machine=dict(data["machine"]), curves=curves, prices=prices)


def load(
    *, refresh: bool = False, seconds: float = SECONDS, progress: Progress | None = None
) -> Calibration:
    """The prices of this machine: from the cache, or measured now in about `seconds`.

    `refresh` measures in any case; less time gives wider ranges. `progress(done, total)` is called
    while measuring; by default a line on standard error is kept up to date. A cache that cannot be
    read or written is said in one sentence on standard error, and does no harm. Raises
    CalibrationError where the C library or the allocator in use cannot be measured.
    """
    key = machine()
    path = cache_path(key)
    if not refresh:
        cached = _read(path, key)
        if cached is not None:
            return cached
    calibration = measure(key, seconds, progress or _progress_line)
    _write(path, calibration)
    return calibration


def cached() -> Calibration | None:
    """The prices of this machine, if they have been measured."""
    key = machine()
    return _read(cache_path(key), key)


def machine() -> dict[str, str]:
    """All that the prices depend on: a change of any of these measures them again."""
    return {
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "page_bytes": str(os.sysconf("SC_PAGE_SIZE")),
        "huge_pages": huge_pages(),
        "libc": " ".join(platform.libc_ver()),
        "python": sys.version,
        "build": "optimised" if optimised_build() else "not optimised",
        "poolwise": f"{__version__} {_core_digest()}",
    }


def child_environment() -> dict[str, str]:
    """The environment of a measured child: nothing that changes how memory is allocated."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _CHILD_PYTHON or not name.startswith(_NOT_FOR_CHILDREN)
    }


def optimised_build() -> bool:
    """True if this interpreter was built with profile-guided optimisation."""
    return "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))


def huge_pages() -> str:
    """The kernel's setting of transparent huge pages: always, madvise or never."""
    with suppress(OSError, IndexError):
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        return text.split("[")[1].split("]")[0]
    return "never"


def cache_path(key: Mapping[str, str]) -> Path:
    """Where the prices of the machine `key` are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # The specification says to ignore a relative path.
    root = Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()
    text = json.dumps([SCHEMA, dict(key)], sort_keys=True)
    return root / "poolwise" / f"calibration-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def measure(key: Mapping[str, str], seconds: float, progress: Progress) -> Calibration:
    """Measure all prices now, whatever the cache holds. Raises CalibrationError."""
    parts = [part for part in _PARTS if part != "huge" or key["huge_pages"] != "never"]
    # Round robin: the processes of one part lie apart, so that a bad second hits one of each.
    plan = parts * _PROCESSES
    deadline = time.monotonic() + seconds
    samples: dict[str, dict[str, list[list[float]]]] = {}
    for done, part in enumerate(plan):
        progress(done, len(plan))
        left = deadline - time.monotonic()
        if left <= 0 and done >= len(parts):
            break
        share = _PARTS[part] / sum(_PARTS[later] for later in plan[done:])
        for name, by_size in _run_child(part, max(0.0, left * share - _START_SECONDS)).items():
            for size, values in by_size.items():
                samples.setdefault(name, {}).setdefault(size, []).append(values)
    progress(len(plan), len(plan))
    curves: dict[str, Curve] = {}
    prices: dict[str, Price] = {}
    for name, measured in samples.items():
        if name == "probe":
            prices[name] = _reference([value for values in measured[""] for value in values])
        elif "" in measured:
            prices[name] = _price(measured[""])
        else:
            sizes = sorted(measured, key=int)
            curves[name] = Curve(
                tuple(int(size) for size in sizes),
                tuple(_price(measured[size]) for size in sizes),
            )
    missing = [name for name in _expected(parts) if name not in curves and name not in prices]
    if missing:
        raise CalibrationError(
            f"no price for {missing[0]}: malloc does not follow mallopt's thresholds here; "
            "is another allocator preloaded?"
        )
    return Calibration(machine=dict(key), curves=curves, prices=prices)


def _expected(parts: Iterable[str]) -> list[str]:
    paged = [f"{part}_{way}" for part in parts if part in ("fault", "huge", "threads")
             for way in ("mmap", "trim")]  # fmt: skip
    return [*paged, *_EVERYWHERE]


def _run_child(part: str, seconds: float) -> dict[str, dict[str, list[float]]]:
    spec = find_spec("poolwise.advise._calibration_child")
    assert spec is not None
    assert spec.origin is not None
    command = [sys.executable, "-P", spec.origin, part, f"{seconds:.3f}"]
    probes: list[float] = []
    with subprocess.Popen(
        command,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        while True:
            try:
                output, errors = child.communicate(timeout=_PROBE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                probes.append(probe())
            except BaseException:
                child.kill()
                raise
    if child.returncode != 0:
        lines = errors.strip().splitlines() or [f"exit code {child.returncode}"]
        raise CalibrationError(f"calibration of {part!r} failed: {lines[-1]}")
    result: dict[str, dict[str, list[float]]] = json.loads(output)
    return {**result, "probe": {"": probes or [probe()]}}


def _price(processes: list[list[float]]) -> Price:
    """The price when little disturbs: the lower quartile of all samples.

    On a busy machine the same fault costs up to a third more CPU time, because others empty the
    caches in between; what disturbs only ever adds, and a calibration outlives it. The range
    holds the lower quartile of each process and the middle of all samples, on both sides and
    never closer than _RANGE; but nothing is claimed to be much cheaper than it ever was.
    """
    pooled = sorted(value for values in processes for value in values)
    value = _quartile(pooled)
    quartiles = [_quartile(sorted(values)) for values in processes]
    spread = max(
        _RANGE * abs(value), *(abs(other - value) for other in (median(pooled), *quartiles))
    )
    low = max(value - spread, (1 - _RANGE) * pooled[0])
    return Price(*(max(_FLOOR, end) for end in (value, low, value + spread)))


def _reference(probes: list[float]) -> Price:
    """The lower quartile of all probes with its own 95 % interval, between order statistics.

    They are the same work in the same process, a few to each child: nothing differs by the child.
    """
    ascending = sorted(probes)
    last = len(ascending) - 1
    error = 1.96 * math.sqrt(len(ascending) * 0.25 * 0.75)
    low, high = (ascending[round(min(max(last / 4 + e, 0), last))] for e in (-error, error))
    return Price(_quartile(ascending), low, high)


def _quartile(ascending: list[float]) -> float:
    return ascending[(len(ascending) - 1) // 4]


def _price_from_json(data: Mapping[str, Any]) -> Price:
    price = Price(float(data["value"]), float(data["low"]), float(data["high"]))
    if not 0 < price.low <= price.value <= price.high < math.inf:
        raise ValueError(f"{price} is no price")
    return price


def _read(path: Path, key: Mapping[str, str]) -> Calibration | None:
    try:
        cached = Calibration.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        _say(f"calibration cache {path} cannot be read ({error.strerror}): measuring again")
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        _say(f"calibration cache {path} is damaged: measuring again")
        return None
    return cached if cached.machine == key else None


def _write(path: Path, calibration: Calibration) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(calibration.to_json(), indent=1))
        partial.replace(path)  # a reader sees the old file or the new one, never half of one
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        _say(
            f"calibration cannot be kept in {path.parent} ({error.strerror}): it will be measured "
            "again next time, unless XDG_CACHE_HOME names a writable folder"
        )


def _progress_line(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        text = f"\rpoolwise: measuring what memory costs on this machine … {100 * done // total} %"
        print(text, end=end, file=sys.stderr, flush=True)
    elif done == 0:
        _say("measuring what memory costs on this machine, once …")


def _say(sentence: str) -> None:
    print(f"poolwise: {sentence}", file=sys.stderr, flush=True)


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware", "cpu part")):
                return line.partition(":")[2].strip()
    return platform.machine()


def _core_digest() -> str:
    """Of the compiled core: the prices of the pools are those of this very build."""
    spec = find_spec("poolwise._core")
    assert spec is not None
    assert spec.origin is not None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:12]
