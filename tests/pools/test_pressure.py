"""Memory pressure: what each source says, and a real control group with a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolwise.pools import pressure

MIB = 1 << 20

own_memory_only = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer maps terabytes of its own"
)


def lay_out(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v2(root: Path, current: int, limit: object = 100 * MIB, inactive: int = 0) -> Path:
    group = "sys/fs/cgroup/app.slice"
    return lay_out(
        root,
        {
            "proc/self/cgroup": "0::/app.slice",
            f"{group}/memory.current": current,
            f"{group}/memory.max": limit,
            f"{group}/memory.high": "max",
            f"{group}/memory.stat": f"anon 5\ninactive_file {inactive}",
        },
    )


@pytest.mark.parametrize(
    ("used", "tier"), [(10, "low"), (69, "low"), (70, "medium"), (89, "medium"), (90, "high")]
)
def test_tiers_of_a_group(tmp_path: Path, used: int, tier: str) -> None:
    found = pressure.read(root=v2(tmp_path, used * MIB))
    assert (found.tier, found.source) == (tier, "cgroup v2")
    assert (found.used_bytes, found.limit_bytes) == (used * MIB, 100 * MIB)
    assert found.share == used / 100


@pytest.mark.parametrize(
    ("before", "used", "tier"),
    [
        ("medium", 66, "medium"),
        ("medium", 64, "low"),
        ("high", 86, "high"),
        ("high", 84, "medium"),
        ("high", 64, "low"),
        ("low", 66, "low"),
        ("medium", 86, "medium"),
    ],
)
def test_a_tier_is_left_below_its_bound(
    tmp_path: Path, before: pressure.Tier, used: int, tier: str
) -> None:
    assert pressure.read(before, root=v2(tmp_path, used * MIB)).tier == tier


def test_cached_files_do_not_count(tmp_path: Path) -> None:
    found = pressure.read(root=v2(tmp_path, 95 * MIB, inactive=50 * MIB))
    assert (found.tier, found.used_bytes) == ("low", 45 * MIB)


def test_the_tightest_limit_above_counts(tmp_path: Path) -> None:
    v2(tmp_path, 10 * MIB)
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/app.slice/worker",
            "sys/fs/cgroup/app.slice/worker/memory.current": 5 * MIB,
            "sys/fs/cgroup/app.slice/worker/memory.max": "max",
            "sys/fs/cgroup/app.slice/memory.current": 95 * MIB,
        },
    )
    assert pressure.read(root=root).tier == "high"


def test_a_group_without_a_limit_leaves_it_to_the_machine(tmp_path: Path) -> None:
    v2(tmp_path, 95 * MIB, limit="max")
    root = lay_out(tmp_path, {"proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 250 kB"})
    found = pressure.read(root=root)
    assert (found.source, found.tier, found.share) == ("machine", "medium", 0.75)


def test_the_first_version_of_groups(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/abc"
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n0::/",
            f"{group}/memory.usage_in_bytes": 95 * MIB,
            f"{group}/memory.limit_in_bytes": 100 * MIB,
            f"{group}/memory.stat": f"total_inactive_file {2 * MIB}",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 5 * MIB,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        },
    )
    found = pressure.read(root=root)
    assert (found.tier, found.source, found.used_bytes) == ("high", "cgroup v1", 93 * MIB)


@pytest.mark.parametrize(
    ("stalled", "tier", "source"),
    [(0.0, "low", "cgroup v2"), (12.0, "medium", "PSI"), (50.0, "high", "PSI")],
)
def test_stalls_raise_the_tier(tmp_path: Path, stalled: float, tier: str, source: str) -> None:
    v2(tmp_path, 10 * MIB)
    line = f"some avg10={stalled} avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00"
    found = pressure.read(root=lay_out(tmp_path, {"proc/pressure/memory": line}))
    assert (found.tier, found.source, found.stalled) == (tier, source, stalled)


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    found = pressure.read(root=tmp_path)
    assert (found.tier, found.limit_bytes, found.share) == ("low", 0, 0.0)


def test_nonsense_is_left_out(tmp_path: Path) -> None:
    v2(tmp_path, 10 * MIB, limit="much")
    root = lay_out(tmp_path, {"proc/pressure/memory": "some avg10=lots", "proc/meminfo": "none"})
    assert pressure.read(root=root).tier == "low"


def test_this_machine_says_something() -> None:
    found = pressure.read()
    assert found.limit_bytes > 0
    assert 0 < found.share < 1.5


@own_memory_only
def test_a_limit_of_the_process_counts() -> None:
    source = """
import mmap, resource
from poolwise.pools import pressure
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))
hoard = mmap.mmap(-1, 95 * (1 << 40) // 100, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
print(pressure.read().tier, pressure.read().source)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    words = done.stdout.split()
    if words and words[1] != "rlimit":
        pytest.skip("a control group with a limit stands before the process's own here")
    assert words == ["high", "rlimit"], done.stderr


# ---- a real group: the kernel's own figures, and a pool that gives memory back


@pytest.fixture
def group() -> Iterator[Path]:
    v1 = Path("/sys/fs/cgroup/memory")
    base = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
    folder = base / f"poolwise-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if v1.is_dir() else "memory.max"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(256 * MIB))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


@own_memory_only
def test_a_pool_gives_memory_back_before_its_group_is_full(group: Path) -> None:
    source = f"""
import os, time
open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
import poolwise
from poolwise.pools import pressure, trimmer
trimmer.POLL_SECONDS = 0.05
assert pressure.read().tier == "low", pressure.read()
buffers = poolwise.BufferPool(max_size=1 << 20, max_bytes=1 << 28, trim_seconds=3600)
out = [buffers.acquire(1 << 20) for _ in range(236)]
for buffer in out:
    memoryview(buffer)[::4096] = bytes(256)
found = pressure.read()
assert found.tier == "high" and found.source.startswith("cgroup"), found
while out:
    out.pop().release()
end = time.monotonic() + 30
while buffers.stats().idle_bytes and time.monotonic() < end:
    time.sleep(0.01)
stats = buffers.stats()
assert stats.idle_bytes == 0 and stats.trims_by_reason["pressure"] > 0, stats
assert pressure.read("high").tier == "low", pressure.read()
print("gave back")
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout == "gave back\n", done.stderr
