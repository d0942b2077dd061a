"""How short memory is: one look at what the kernel says of the control group, else the machine.

Sources, the nearest to a kill first, each where the kernel has it::

    cgroup v2   memory.current less inactive_file (what docker stats shows), by memory.max or .high
    cgroup v1   memory.usage_in_bytes less total_inactive_file, by memory.limit_in_bytes
    rlimit      the process's address space or resident set, by RLIMIT_AS or RLIMIT_RSS
    machine     MemTotal less MemAvailable, by MemTotal
    PSI         memory.pressure of the group, else /proc/pressure/memory: time that tasks waited
                for memory; it can raise the tier, not lower it

Tiers and their bounds (70 % and 90 %) are those of .NET's ArrayPool; a tier is left only five
points below its bound, so that a process at the bound does not flap. What idle blocks hold falls
only because blocks go back by MADV_DONTNEED: MADV_FREE would leave these figures as they are.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import Literal

Tier = Literal["low", "medium", "high"]

BOUNDS: dict[Tier, float] = {"medium": 0.70, "high": 0.90}
HYSTERESIS = 0.05
STALLED: dict[Tier, float] = {"medium": 10.0, "high": 40.0}  # percent of the last ten seconds
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """What was found at one look.

    >>> from poolwise.pools import pressure
    >>> pressure.read().tier in ("low", "medium", "high")
    True
    """

    tier: Tier
    source: str
    """Where the figures come from: `cgroup v2`, `cgroup v1`, `rlimit`, `machine`, or `PSI` where
    it alone raised the tier."""
    used_bytes: int
    limit_bytes: int
    stalled: float
    """Percent of the last ten seconds in which some task waited for memory; 0 where unknown."""

    @property
    def share(self) -> float:
        """Used by limit, 0 to about 1."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


def read(before: Tier = "low", *, root: str | os.PathLike[str] = "/") -> Pressure:
    """Look once. `before`: the tier of the last look; `root`: where `proc` and `sys` are.

    Never raises: a source that is not there or cannot be read is left out.
    """
    base = os.fspath(root).rstrip("/")
    group = _group(base)
    found = _cgroup_v2(base, group) or _cgroup_v1(base, group) or _rlimit(base) or _machine(base)
    source, used, limit = found or ("machine", 0, 0)
    stalled = _stalled(base, group)
    tier = _tier(used / limit if limit else 0.0, BOUNDS, HYSTERESIS, before)
    by_stalls = _tier(stalled, STALLED, STALLED["medium"] / 2, before)
    order: list[Tier] = ["low", "medium", "high"]
    if order.index(by_stalls) > order.index(tier):
        tier, source = by_stalls, "PSI"
    return Pressure(tier=tier, source=source, used_bytes=used, limit_bytes=limit, stalled=stalled)


def _tier(value: float, bounds: dict[Tier, float], slack: float, before: Tier) -> Tier:
    if value >= bounds["high"] - (slack if before == "high" else 0.0):
        return "high"
    if value >= bounds["medium"] - (slack if before != "low" else 0.0):
        return "medium"
    return "low"


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: str) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _field(path: str, name: str) -> int:
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return 0


def _group(root: str) -> dict[str, str]:
    """Controller to the path of our group; v2 is the controller without a name."""
    found = {}
    for line in _text(f"{root}/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = path.lstrip("/")
    return found


def _folders(base: str, path: str) -> list[str]:
    """Our group's folder and those above it: the tightest limit counts. Inside a container the
    path may lie outside of what is mounted: then the mounted root is ours."""
    words = [word for word in path.split("/") if word]
    if not os.path.isdir("/".join([base, *words])):
        words = []
    return ["/".join([base, *words[:depth]]) for depth in range(len(words), -1, -1)]


def _tightest(found: list[tuple[str, int, int]]) -> tuple[str, int, int] | None:
    return max(found, key=lambda one: one[1] / one[2], default=None)


def _cgroup_v2(root: str, group: dict[str, str]) -> tuple[str, int, int] | None:
    if "" not in group:
        return None
    found = []
    for folder in _folders(f"{root}/sys/fs/cgroup", group[""]):
        used = _number(f"{folder}/memory.current")
        limits = [_number(f"{folder}/memory.max"), _number(f"{folder}/memory.high")]
        known = [limit for limit in limits if limit]
        if used is not None and known:
            used -= _field(f"{folder}/memory.stat", "inactive_file")
            found.append(("cgroup v2", max(used, 0), min(known)))
    return _tightest(found)


def _cgroup_v1(root: str, group: dict[str, str]) -> tuple[str, int, int] | None:
    if "memory" not in group:
        return None
    found = []
    for folder in _folders(f"{root}/sys/fs/cgroup/memory", group["memory"]):
        used = _number(f"{folder}/memory.usage_in_bytes")
        limit = _number(f"{folder}/memory.limit_in_bytes")
        if used is not None and limit and limit < _UNLIMITED:
            used -= _field(f"{folder}/memory.stat", "total_inactive_file")
            found.append(("cgroup v1", max(used, 0), limit))
    return _tightest(found)


def _rlimit(root: str) -> tuple[str, int, int] | None:
    words = _text(f"{root}/proc/self/statm").split()
    if len(words) < 2:
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    pairs = [(int(words[0]), resource.RLIMIT_AS), (int(words[1]), resource.RLIMIT_RSS)]
    found = []
    for pages, which in pairs:
        limit = resource.getrlimit(which)[0]
        if limit != resource.RLIM_INFINITY and limit > 0:
            found.append(("rlimit", pages * page, limit))
    return _tightest(found)


def _machine(root: str) -> tuple[str, int, int] | None:
    path = f"{root}/proc/meminfo"
    total, free = _field(path, "MemTotal") * 1024, _field(path, "MemAvailable") * 1024
    return ("machine", total - free, total) if total else None


def _stalled(root: str, group: dict[str, str]) -> float:
    own = f"{root}/sys/fs/cgroup/{group.get('', '')}/memory.pressure"
    for line in (_text(own) or _text(f"{root}/proc/pressure/memory")).splitlines():
        words = line.split()
        if words[:1] == ["some"]:
            for word in words[1:]:
                name, _, value = word.partition("=")
                if name == "avg10":
                    try:
                        return float(value)
                    except ValueError:
                        return 0.0
    return 0.0
