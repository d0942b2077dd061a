"""The data of a report's page: sums that can be counted by hand, bounds, and hostile names."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import SUMMARY, Life, made
from sampled_programs import Record

from poolwise.profile import recording, sites
from poolwise.profile.recording import (
    ALIVE,
    COLLECTED,
    CONSTRUCTION,
    NUMPY,
    THINNED,
    UNKNOWN_STACK,
    Recording,
)
from poolwise.profile.report import data, flame, page
from poolwise.profile.report.levels import Level
from poolwise.profile.report.rows import Sums
from poolwise.profile.sites import OwnCode

SECOND = 10**9
HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--",
    "$data ${title}",
    "fünf 五 \U0001f40d \u2028",
    "lone \udcff surrogate",
    "\x00\x1b[31m\r\n",
]


def totals(found: Recording) -> dict[str, float]:
    shown: dict[str, float] = data.of(found)["totals"]
    return shown


def test_the_root_is_all_memory_by_each_mode() -> None:
    found = made(
        [
            Life(0, 4, size=100, weight=3.0),
            Life(1, None, size=1000, weight=2.0),
            Life(2, 3, size=7, weight=1.0, domain=NUMPY),
            Life(3, 10, size=64, weight=50.0, domain=CONSTRUCTION),
        ]
    )
    assert totals(found) == {
        "alloc_objects": 6,
        "alloc_space": 3 * 100 + 2 * 1000 + 7,
        "inuse_objects": 2,
        "inuse_space": 2000,
        "heaptime": 3 * 100 * 4 + 2000 * 9 + 7,
    }


def test_what_was_thinned_does_not_count_and_what_stayed_counts_for_two() -> None:
    found = made([Life(0, 2, kind=THINNED), Life(0, 9, size=10), Life(6, 9, size=10)])
    found.thinnings = {1: 1}
    assert totals(found)["alloc_objects"] == 2 + 1
    assert totals(found)["alloc_space"] == 30


def test_callers_come_first_and_no_weight_is_lost_with_small_frames() -> None:
    draw = random.Random(3)
    found = made([Life(draw.uniform(0, 5), draw.choice([None, 9]), size=draw.randrange(1, 999),
                       stack=draw.randrange(1, 400)) for _ in range(3000)], stacks=400)  # fmt: skip
    tree = flame.tree(found, OwnCode(None), 10 * SECOND)
    whole = tree.totals()[0]
    for most in (0, 1, 10, 100_000):
        columns = flame.columns(tree, most)
        frames = len(columns["caller"])
        assert frames == min(most, len(tree.names) - 1) + 1
        assert columns["left_out"] == len(tree.names) - frames
        assert all(caller < at for at, caller in enumerate(columns["caller"]) if at)
        for number, mode in enumerate(flame.MODES):
            assert sum(columns["self"][mode]) == pytest.approx(whole[number], rel=1e-3)


def test_the_largest_frames_stay() -> None:
    lives = [Life(0, 1, size=1, stack=stack) for stack in range(1, 50)]
    found = made([*lives, Life(0, 1, size=10_000, stack=30)], stacks=50)
    tree = flame.tree(found, OwnCode(None), 10 * SECOND)
    columns = flame.columns(tree, most=flame_depth(tree, 30))
    names = [columns["names"][name][0] for name in columns["name"]]
    assert "f30" in names


def flame_depth(tree: flame.Tree, stack: int) -> int:
    """How many frames it takes to show one stack, with what it allocates."""
    frame, depth = tree.place(stack), 1
    while frame:
        frame, depth = tree.callers[frame], depth + 1
    return depth


def test_the_import_system_and_what_started_the_program_are_no_frames() -> None:
    starter = str(Path(sites.POOLWISE) / "program" / "child.py")
    files = [starter, "<frozen runpy>", "app.py", "<frozen importlib._bootstrap>", "lib.py"]
    found = made([Life(0, 1, stack=5)], files=files)
    columns = flame.columns(flame.tree(found, OwnCode(None), SECOND))
    paths = [columns["files"][columns["names"][name][1]] for name in columns["name"]]
    assert paths == ["", "app.py", "lib.py", "lib.py"]  # the root; the last is what was allocated


def test_a_stack_that_is_not_known_is_in_the_graph_and_in_no_site() -> None:
    found = made([Life(0, 1, size=10, stack=UNKNOWN_STACK), Life(0, 1, size=20, stack=0)])
    shown = data.of(found)
    assert shown["totals"]["alloc_space"] == 30
    assert shown["sites"] == []
    names = [shown["flame"]["names"][name][0] for name in shown["flame"]["name"]]
    assert "(stack not known)" in names


def test_a_row_says_what_its_samples_add_up_to() -> None:
    found = made(
        [
            Life(0, 2, size=100, weight=4.0),
            Life(0, 2, size=100, weight=4.0, kind=COLLECTED),
            Life(0, 2, size=100, weight=4.0, death_thread=2),
            Life(0, None, size=50, weight=2.0),
        ]
    )
    (row,) = data.of(found)["sites"]
    assert (row["function"], row["file"], row["kind"]) == ("f1", "app.py", "memory")
    assert (row["objects"], row["bytes"], row["samples"]) == (14, 1300, 4)
    assert (row["alive_objects"], row["alive_bytes"]) == (2, 100)
    assert row["heaptime"] == 2400 + 100 * 10
    assert row["censored"] == pytest.approx(2 / 14, rel=1e-3)
    assert row["same_thread"] == pytest.approx(2 / 3, rel=1e-3)
    assert row["collected"] == pytest.approx(1 / 3, rel=1e-3)
    assert row["freed_at"] == [["f1", "app.py", 1, 0.6667]]  # the collector is no place
    assert row["life"]["ns"]["quantiles"][1] == pytest.approx(2 * SECOND, rel=0.2)
    assert row["objects_error"] == pytest.approx(1.96 * (3 * 4 * 3 + 2) ** 0.5, rel=1e-3)
    for clock in ("ns", "volume", "collections"):
        life = row["life"][clock]
        assert sum(life["objects"][0]) == 12
        assert sum(life["objects"][1]) == 2
        assert sum(life["bytes"][0]) == 1200
        assert sum(life["bytes"][1]) == 100


def test_a_construction_is_time_and_no_memory() -> None:
    found = made([Life(0, 2, size=100, weight=4.0, domain=CONSTRUCTION, duration_ns=700)])
    shown = data.of(found)
    (row,) = shown["sites"]
    assert row["kind"] == "construction"
    assert (row["objects"], row["bytes"], row["call_ns"]) == (4, 0, 700)
    assert "bytes" not in row["life"]["ns"]
    assert not any(shown["level"]["bytes"])
    assert shown["totals"]["alloc_objects"] == 0


def test_sites_that_have_no_row_are_in_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MOST_SITES", 5)
    found = made([Life(0, 1, size=stack, stack=stack) for stack in range(1, 41)], stacks=40)
    shown = data.of(found)
    assert len(shown["sites"]) == 5
    assert shown["other_sites"]["sites"] == 35
    for name in Sums._fields:
        rows = sum(row[name] for row in shown["sites"])
        whole = sum(getattr(data.sums(site, 10 * SECOND), name) for site in sites.find(found))
        assert rows + shown["other_sites"][name] == pytest.approx(whole, rel=1e-3)


lives = st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(1, 10**6), st.integers(1, 5))


@given(st.lists(lives, min_size=1, max_size=30))
def test_the_area_under_a_level_is_the_heaptime(drawn: list[tuple[float, float, int, int]]) -> None:
    level = Level(0, 10 * SECOND)
    heaptime = alive_time = 0.0
    for first, second, size, weight in drawn:
        birth, death = (int(at * SECOND) for at in sorted((first, second)))
        level.change(birth, weight, weight * size)
        level.change(death, -weight, -weight * size)
        alive_time += weight * (death - birth) / SECOND
        heaptime += weight * size * (death - birth) / SECOND
    width = 10 / len(level.bytes())
    assert sum(level.bytes()) * width == pytest.approx(heaptime, rel=1e-6, abs=1e-3)
    assert sum(level.objects()) * width == pytest.approx(alive_time, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("title", "change"),
    [
        ("No end", {"finished": False}),
        ("Lost samples", {"lost": 3}),
        ("Hook taken out", {"hook_removals": 1}),
        ("Unknown stacks", {"unknown_stacks": 5}),
        ("Deep stacks", {"truncated_stacks": 5}),
        ("Forks", {"forks": 2}),
        ("Thinning", {"thinned": 9}),
    ],
)
def test_what_is_missing_is_said(title: str, change: dict[str, object]) -> None:
    found = made([Life(0, 1)])
    before = {note["title"] for note in data.of(found)["notes"]}
    found.summary = replace(SUMMARY, **change)
    after = {note["title"] for note in data.of(found)["notes"]}
    assert after - before == {title}
    assert {"Free lists", "Still alive"} <= before


def test_a_cut_recording_is_said() -> None:
    found = made([Life(0, 1)])
    found.cut_bytes = 77
    (note,) = [note for note in data.of(found)["notes"] if note["title"] == "Cut recording"]
    assert "77 bytes" in note["text"]
    assert note["lost"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_can_leave_its_place(name: str) -> None:
    found = made([Life(0, 1)], files=[name], function=name, type_=name)
    shown = data.of(found, name=name, no_advice=name)
    shown["sites"][0]["expression"] = name
    text = page.page(shown)
    text.encode("utf-8")
    assert text.count("</script>") == len(re.findall("<script[ >]", text)) == 2
    assert text.count("<!--") == 0
    assert "<img" not in text
    back = json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])
    assert back == json.loads(json.dumps(shown))
    assert back["sites"][0]["function"] == name


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    text = page.page(data.of(made([Life(0, 1)])))
    outside = text.replace("http://www.w3.org/2000/svg", "")  # the name of a language
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttp|import\(|src=", outside)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
    assert not re.search(r"<[a-z]+[^>]* on[a-z]+=", text)
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "profile-json.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    shown = data.of(made([Life(0, 1), Life(0, None)]))
    (site,), life = shown["sites"], shown["sites"][0]["life"]
    parts = [shown[name] for name in ("summary", "flame", "totals", "other_sites", "level")]
    for part in (shown, *parts, site, life, life["ns"], shown["notes"][0]):
        assert set(part) <= documented, set(part) - documented


def test_a_large_recording_is_a_small_page() -> None:
    draw = random.Random(5)
    found = made(
        [
            Life(draw.uniform(0, 9), draw.choice([None, 9.5]), size=draw.randrange(1, 10**6),
                 weight=draw.uniform(1, 1e4), stack=1 + number % 15_000)
            for number in range(40_000)
        ],
        stacks=15_000,
    )  # fmt: skip
    shown = data.of(found)
    assert len(shown["flame"]["caller"]) == flame.MOST_FRAMES + 1
    assert len(shown["sites"]) == data.MOST_SITES
    assert len(page.page(shown)) < 3_000_000


def test_a_real_program_to_the_byte(record: Record) -> None:
    ran = record(
        """
        kept = []
        def hold():
            kept.append(bytes(100_000))  # hold
        for _ in range(20):
            hold()
            bytes(50_000)  # drop
        """
    )
    found = ran.recording
    shown = data.of(found)
    memory = [
        (number, birth)
        for number, birth in enumerate(found.births)
        if birth.domain != CONSTRUCTION and found.deaths[number].kind != THINNED
    ]
    allocated = sum(max(b.size, found.deaths[n].size) for n, b in memory)
    assert shown["totals"]["alloc_objects"] == pytest.approx(len(memory), rel=1e-3)
    assert shown["totals"]["alloc_space"] == pytest.approx(allocated, rel=1e-3)
    alive = [n for n, _ in memory if found.deaths[n].kind == ALIVE]
    assert shown["totals"]["inuse_objects"] == pytest.approx(len(alive), rel=1e-3)
    rows = {row["expression"]: row for row in shown["sites"] if row["kind"] == "memory"}
    assert rows["bytes(100_000)"]["objects"] == 20
    assert rows["bytes(50_000)"]["alive_objects"] == 0
    assert rows["bytes(50_000)"]["objects"] == 20
    assert rows["bytes(50_000)"]["same_thread"] == 1
    names = [shown["flame"]["names"][name][0] for name in shown["flame"]["name"]]
    assert "hold" in names


def test_a_recording_without_samples_has_a_page(tmp_path: Path) -> None:
    text = page.page(data.of(Recording(str(tmp_path), summary=SUMMARY)))
    assert "</html>" in text
    assert recording.Recording(str(tmp_path)).end_ns == 0
