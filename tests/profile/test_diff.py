"""Two recordings compared: which sites are the same, what differs, and how often by chance."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampled_programs import run_program, write_program

from poolwise import UsageError
from poolwise.profile import budgets, diff, expressions, recording
from poolwise.profile.diff import Comparison, Group, Side

PROGRAM = """
kept = []

def rows(n):
    return [{"id": i, "name": "row %d" % i} for i in range(n)]

def encode(made):
    return ", ".join([str(row) for row in made])

def main(rounds=40):
    for number in range(rounds):
        made = rows(20)
        text = encode(made)
        buffer = bytearray(40_000)
        if number % 8 == 0:
            kept.append(buffer)

main()
"""

Recorded = Callable[..., Side]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """A program's recording; each call is a version in a directory of its own, unless told."""
    count = 0

    def run(source: str, folder: str | None = None, **options: object) -> Side:
        nonlocal count
        count += 1
        where = tmp_path / (folder or f"version {count}")
        where.mkdir(exist_ok=True)
        directory = tmp_path / f"recording {count}"
        options.setdefault("exact", "mean_bytes" not in options)
        done = run_program(write_program(where, source), directory, **options)
        assert done.returncode == 0, done.stderr
        read = recording.read(directory)
        expressions.keep(read)
        return diff.read_side(read)

    return run


def differing(comparison: Comparison) -> set[tuple[str, str, str]]:
    """What differs, as (function, expression, quantity)."""
    return {
        (row.groups[0].function, row.groups[0].expression, name)
        for row in comparison.rows
        for name in row.differing
    }


def of(comparison: Comparison, expression: str) -> diff.Row:
    (row,) = [r for r in comparison.rows if any(g.expression == expression for g in r.groups)]
    return row


# ---- real programs ------------------------------------------------------------------------


def test_a_program_does_not_differ_from_itself(recorded: Recorded) -> None:
    old = recorded(PROGRAM)
    assert not differing(diff.compare(old, old))
    moved = recorded("# a new line\n\n" + PROGRAM)
    comparison = diff.compare(old, moved)
    row = of(comparison, "bytearray(40_000)")
    assert [group.line for group in row.groups] == [16, 14]
    # Every allocation was recorded, so the smallest difference would show: there is none.
    own = {"rows", "rows.<locals>.<listcomp>", "encode", "encode.<locals>.<listcomp>", "main"}
    counted = {"objects", "churn", "left"}
    assert not {d for d in differing(comparison) if d[0] in own and d[2] in counted}


@pytest.mark.parametrize("options", [{"exact": True}, {"mean_bytes": 1024, "per_second": 1e9}])
def test_one_changed_site_is_found_and_no_other(
    recorded: Recorded, options: dict[str, object]
) -> None:
    old = recorded(PROGRAM, **options)
    changed = PROGRAM.replace("if number % 8 == 0:", "if True:")
    comparison = diff.compare(old, recorded(changed, **options))
    row = of(comparison, "bytearray(40_000)")
    assert {"held", "peak", "left"} <= row.differing
    assert not {"objects", "churn"} & row.differing
    left = row.pairs["left"]
    assert left.old.interval(0.05).value == pytest.approx(5 * 40_001, rel=0.01)
    assert left.new.interval(0.05).value == pytest.approx(40 * 40_001, rel=0.01)
    assert row.pairs["lifetime_bytes"].new.interval(0.05).value == math.inf
    assert "lifetime_bytes" in row.differing
    unchanged = {"rows", "rows.<locals>.<listcomp>", "encode", "encode.<locals>.<listcomp>"}
    assert not {
        d for d in differing(comparison) if d[0] in unchanged and not d[2].startswith("lifetime")
    }


def test_more_of_the_same_is_found(recorded: Recorded) -> None:
    options = {"mean_bytes": 512, "per_second": 1e9}
    old = recorded(PROGRAM, **options)
    new = recorded(PROGRAM.replace('"row %d" % i}', '"row %d" % i, "x": [i]}'), **options)
    comparison = diff.compare(old, new)
    assert ("rows", "[i]", "objects") in {
        (row.groups[0].function.partition(".")[0], row.groups[0].expression, name)
        for row in comparison.rows
        for name in row.differing
    }
    row = of(comparison, "[i]")
    assert row.old is None
    low, high = row.pairs["objects"].new.interval(0.05)[1:]
    assert low < 40 * 20 * 2  # a list, and its item array
    assert high > 40 * 20


def test_recordings_without_their_source(recorded: Recorded, tmp_path: Path) -> None:
    old = recorded(PROGRAM, "here")
    new = recorded(PROGRAM.replace("bytearray(40_000)", "bytearray(50_000)"), "here")
    # The texts were kept with each recording, though the file is another now.
    row = of(diff.compare(old, new), "bytearray(50_000)")
    assert row.old is not None  # the same line of the same function
    assert row.old.expression == "bytearray(40_000)"
    os.remove(tmp_path / "recording 1" / expressions.EXPRESSIONS_NAME)
    os.utime(tmp_path / "here" / "app.py", (2e9, 2e9))
    blind = diff.read_side(recording.read(tmp_path / "recording 1"))
    assert {group.expression for group in blind.groups if group.function == "main"} == {""}
    row = of(diff.compare(blind, new), "bytearray(50_000)")
    assert row.old is not None
    assert row.old.line == row.groups[0].line


def test_the_weights_are_those_of_the_sampler(recorded: Recorded) -> None:
    side = recorded(PROGRAM, mean_bytes=3000, per_second=1e9)
    samples = [s for group in side.groups for s in group.samples if not s.reallocs]
    assert len({s.size for s in samples}) > 10
    for sample in samples:
        if sample.size < 16384:  # a block that shrank was larger when it was sampled
            assert sample.weight <= side.weight_of(sample.size) * (1 + 1e-9)
    same = [s for s in samples if s.weight == pytest.approx(side.weight_of(s.size))]
    assert len(same) > 0.9 * len(samples)


def test_false_alarms_of_repeated_recordings_are_few(recorded: Recorded) -> None:
    sides = [recorded(PROGRAM, mean_bytes=2048, per_second=1e9) for _ in range(12)]
    alarms = 0
    for old, new in zip(sides[::2], sides[1::2], strict=True):
        alarms += bool(differing(diff.compare(old, new)))
    assert alarms <= 2  # of 6; with one in twenty, 3 and more come once in 450 times


# ---- simulated sampling -------------------------------------------------------------------


def thinned(side: Side, draw: random.Random, mean_bytes: float) -> Side:
    """What sampling would have left of an exact recording."""
    sampled = replace(side, mean_bytes=mean_bytes)
    groups = []
    for group in side.groups:
        samples = []
        for sample in group.samples:
            weight = sampled.weight_of(sample.size)
            if draw.random() < 1 / weight:
                samples.append(replace(sample, weight=weight, reallocs=0))
        if samples:
            groups.append(replace(group, samples=samples))
    return replace(sampled, groups=groups)


def test_false_alarms_stay_at_the_promised_rate(recorded: Recorded) -> None:
    exact = recorded(PROGRAM.replace("rounds=40", "rounds=12"))
    draw = random.Random(1)
    seeds = 60
    alarms = over = single = tests = 0
    wanted = budgets.parse("churn=0%,objects=0,held=0,peak=0,left=0,*:churn=0%,*:left=0")
    for _ in range(seeds):
        old, new = (thinned(exact, draw, 2048.0) for _ in "ab")
        comparison = diff.compare(old, new)
        alarms += bool(differing(comparison))
        over += any(spent.exceeded for spent in budgets.check(comparison, wanted))
        for row in comparison.rows:
            tests += len(row.pairs)
            single += sum(pair.differ(0.05) for pair in row.pairs.values())
    bound = 0.05 + 4 * math.sqrt(0.05 * 0.95 / seeds)
    assert alarms / seeds <= bound
    assert over / seeds <= bound
    assert 0.001 < single / tests <= 0.05  # the plain intervals are no wider than need be


def test_a_real_difference_is_found_in_nearly_all_samples(recorded: Recorded) -> None:
    exact = recorded(PROGRAM)
    changed = recorded(PROGRAM.replace("made = rows(20)", "made = rows(30)"))
    draw = random.Random(2)
    found = exceeded = 0
    for _ in range(20):
        comparison = diff.compare(thinned(exact, draw, 2048.0), thinned(changed, draw, 2048.0))
        found += any(name == "churn" for _, _, name in differing(comparison))
        spent = budgets.check(comparison, budgets.parse("rows*:objects=10%"))
        exceeded += any(one.exceeded for one in spent)
    assert found >= 18
    assert exceeded >= 18


# ---- which sites are the same -------------------------------------------------------------


def group(line: int, text: str, function: str = "f", file: str = "/a/b/app.py") -> Group:
    return Group(file, function, text, "memory", line, text or str(line))


def pairs(old: list[Group], new: list[Group]) -> set[tuple[int | None, int | None]]:
    return {(a and a.line, b and b.line) for a, b in diff.match(old, new)}


def test_sites_are_told_by_their_text() -> None:
    old = [group(10, "[]"), group(11, "{}"), group(12, "make()")]
    assert pairs(old, [group(20, "[]"), group(30, "{}"), group(11, "make()")]) == {
        (10, 20), (11, 30), (12, 11),
    }  # fmt: skip
    assert pairs(old, [group(20, "[]", "g")]) == {(10, None), (11, None), (12, None), (None, 20)}
    elsewhere = [group(5, "[]", file="/c/d/app.py"), group(6, "[]", file="/c/d/other.py")]
    assert pairs(old[:1], elsewhere) == {(10, 5), (None, 6)}


def test_files_of_one_name_are_told_by_their_folders() -> None:
    old = [group(1, "[]", file="/old/x/__init__.py"), group(2, "[]", file="/old/y/__init__.py")]
    new = [group(3, "[]", file="/new/y/__init__.py"), group(4, "[]", file="/new/x/__init__.py")]
    assert pairs(old, new) == {(1, 4), (2, 3)}


def test_a_changed_expression_is_the_same_site_if_it_is_the_only_one() -> None:
    assert pairs([group(10, "[0]")], [group(13, "[0, 1]")]) == {(10, 13)}
    assert pairs([group(10, "[0]"), group(11, "[1]")], [group(13, "[0, 1]")]) == {
        (10, None), (11, None), (None, 13),
    }  # fmt: skip
    changed = group(13, "(0, 1)")
    changed.types["tuple"] = 1
    assert pairs([group(10, "[0]")], [changed]) == {(10, None), (None, 13)}


def test_what_is_left_is_paired_only_if_it_would_have_been_sampled() -> None:
    old, new = group(10, "[0]"), group(13, "[0, 1]")
    old.samples = [None] * 10  # type: ignore[list-item]
    new.samples = [None] * 9  # type: ignore[list-item]
    assert diff.match([old], [new], least=9) == [(old, new)]
    assert diff.match([old], [new], least=10) == [(old, None), (None, new)]


GROUPS = st.lists(
    st.tuples(
        st.sampled_from(["f", "g", "C.f"]),
        st.sampled_from(["", "[]", "{}", "f(x)", "f( y )"]),
        st.sampled_from(["/a/app.py", "/a/b/app.py", "/c/lib.py"]),
        st.sampled_from(["memory", "array"]),
    ),
    unique=True,
    max_size=30,
)


@given(GROUPS, GROUPS, st.randoms(use_true_random=False))
def test_each_site_has_one_place(
    old: list[tuple[str, ...]], new: list[tuple[str, ...]], order: random.Random
) -> None:
    def made(keys: list[tuple[str, ...]]) -> list[Group]:
        groups = [Group(file, function, text, kind, line, text or str(line))
                  for line, (function, text, file, kind) in enumerate(keys, 1)]  # fmt: skip
        order.shuffle(groups)
        return groups

    olds, news = made(old), made(new)
    found = diff.match(olds, news)
    assert sorted(map(id, olds)) == sorted(id(a) for a, _ in found if a is not None)
    assert sorted(map(id, news)) == sorted(id(b) for _, b in found if b is not None)
    for a, b in found:
        assert a is not None or b is not None
        if a is not None and b is not None:
            assert (a.function, a.kind) == (b.function, b.kind)
            assert os.path.basename(a.file) == os.path.basename(b.file)
    for a, b in diff.match(olds, made(old)):
        if a is not None and a.expression:
            assert b is not None
            assert (a.line, a.expression) == (b.line, b.expression)


# ---- budgets ------------------------------------------------------------------------------

UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1 << 20, "GB": 1e9}


@given(
    st.sampled_from(["churn", "held", "peak", "left", "lifetime_bytes"]),
    st.sampled_from(["", "*:", "rows:", "C.<locals>.f:"]),
    st.integers(0, 10**6),
    st.sampled_from([*UNITS, "%"]),
)
def test_budgets_are_read(name: str, function: str, number: int, unit: str) -> None:
    (budget,) = budgets.parse(f" {function}{name} = {number}{unit} ")
    assert budget.quantity.name == name
    assert budget.function == (function[:-1] or None)
    assert budget.relative == (unit == "%")
    assert budget.limit == pytest.approx(number * UNITS.get(unit, 0.01))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write [FUNCTION:]QUANTITY=LIMIT"),
        ("churn", "write [FUNCTION:]QUANTITY=LIMIT"),
        ("speed=10%", "quantities are objects, churn, held, peak, left, lifetime, lifetime_bytes"),
        (":churn=10%", "write [FUNCTION:]QUANTITY=LIMIT"),
        ("churn=10%,held=", "budget 'held=': '' is no limit of held"),
        ("churn=-5%", "'-5%' is no limit of churn"),
        ("churn=5ms", "'5ms' is no limit of churn"),
        ("objects=5MiB", "'5MiB' is no limit of objects"),
        ("churn=1e9", "'1e9' is no limit of churn"),
        ("lifetime=1MiB", "one of: %, ns, us, µs, ms, s"),
    ],
)
def test_budgets_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        budgets.parse(text)


def test_a_budget_is_exceeded_by_the_whole_interval(recorded: Recorded) -> None:
    old = recorded(PROGRAM)
    new = recorded(PROGRAM.replace("if number % 8 == 0:", "if True:"))  # 35 of 40 kB more
    comparison = diff.compare(old, new)

    def exceeded(text: str) -> list[bool]:
        return [spent.exceeded for spent in budgets.check(comparison, budgets.parse(text))]

    assert exceeded("left=1MB") == exceeded("left=200%") == exceeded("main:left=1390kB") == [True]
    assert exceeded("left=2MB") == exceeded("main:left=1410kB") == exceeded("churn=5%") == [False]
    assert exceeded("nothing:left=0") == []
    assert any(exceeded("m*:left=1MB"))
