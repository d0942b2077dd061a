"""Verdicts on programs that are really run: the kind of remedy and its sign, at fixed prices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from poolwise.advise.calibrate import Calibration
from poolwise.advise.case import START_UP_FAULTS
from poolwise.advise.verdicts import (
    BUFFER_POOL,
    DONT,
    POOL,
    PREALLOCATE,
    SETTINGS,
    Advice,
    Verdict,
)

if TYPE_CHECKING:
    from .conftest import Record

TEMPORARIES = """
    import numpy as np

    def work(a):
        b = a * 1.5
        c = b + a
        d = c - b
        e = d * c
        return float(e[0])

    a = np.ones(1 << 17)
    print(sum(work(a) for _ in range(400)))
"""

TREES = """
    import json
    text = json.dumps([{"id": n, "tags": [1, [n]], "at": {"x": n}} for n in range(20_000)])
    print(sum(len(json.loads(text)) for _ in range(5)))
"""

CODEC = """
    class Codec:
        def __init__(self{parameter}):
            self.table = [n * n % 251 for n in range(300)]
        def run(self, data):
            return sum(self.table[byte] for byte in data)

    kept = []

    def handle(data):
        codec = Codec({argument})
        {then}
        return codec.run(data)

    print(sum(handle(bytes(range(20))) for n in range(60_000)))
"""


def whole(advice: Advice) -> Verdict:
    return next(verdict for verdict in advice.verdicts if verdict.site is None)


def at(advice: Advice, text: str, kind: str = "memory") -> list[Verdict]:
    """The verdicts at places whose source begins so."""
    return [
        verdict
        for verdict in advice.verdicts
        if verdict.site and verdict.site.kind == kind and verdict.site.expression.startswith(text)
    ]


def test_blocks_that_are_handed_back_and_taken_again_want_settings(
    record: Record, prices: Calibration
) -> None:
    run = record(TEMPORARIES, exact=False)
    advice = run.judge(prices)
    verdict = whole(advice)
    assert verdict.verdict == SETTINGS, verdict.reason
    assert verdict.gain.low > 0
    assert "settings:malloc" in verdict.code or "--with settings " in verdict.code
    assert verdict.memory_bytes >= 4 << 20  # four arrays of a mebibyte live at once
    # What the settings take away is no reason to change code.
    assert {v.verdict for v in advice.verdicts if v.site} <= {DONT}


def test_elsewhere_than_on_glibc_the_places_are_named_themselves(
    record: Record, prices: Calibration
) -> None:
    advice = record(TEMPORARIES, exact=False).judge(prices, glibc=False)
    assert "malloc" not in whole(advice).code
    named = [v for v in advice.verdicts if v.verdict in (PREALLOCATE, BUFFER_POOL)]
    assert {v.site.function for v in named if v.site} == {"work"}
    assert all("out=buf" in v.code or "acquire" in v.code for v in named)


def test_large_structures_want_other_thresholds_of_the_collector(
    record: Record, prices: Calibration
) -> None:
    verdict = whole(record(TREES, exact=False).judge(prices))
    assert verdict.verdict == SETTINGS, verdict.reason
    assert "settings:gc" in verdict.code or "--with settings " in verdict.code
    assert "garbage collector takes" in verdict.reason


def test_a_dear_object_made_again_and_again_alike_wants_a_pool(
    record: Record, prices: Calibration
) -> None:
    source = CODEC.format(parameter="", argument="", then="pass")
    (verdict,) = at(record(source, exact=False).judge(prices), "Codec()", "construction")
    assert verdict.verdict == POOL, verdict.reason
    assert verdict.capacity == 1
    assert verdict.gain.low > 0.1
    assert verdict.bounds is not None
    assert verdict.bounds.hit > 0.9
    assert "poolwise.Pool(lambda: Codec())" in verdict.code


@pytest.mark.parametrize(
    ("argument", "then", "why"),
    [
        ("str(len(kept))", "kept.append(1)", "different arguments"),
        ("3", "kept.append(codec)", "stay alive"),
    ],
)
def test_no_pool_where_it_would_not_serve(
    record: Record, prices: Calibration, argument: str, then: str, why: str
) -> None:
    source = CODEC.format(parameter=", start", argument=argument, then=then)
    made = at(record(source, exact=False).judge(prices), "Codec(", "construction")
    assert [v.verdict for v in made] == [DONT]
    assert why in made[0].reason


@pytest.mark.parametrize(("alive", "kind"), [(1, PREALLOCATE), (3, BUFFER_POOL)])
def test_zeroed_buffers(record: Record, prices: Calibration, alive: int, kind: str) -> None:
    source = f"""
        from collections import deque
        def work():
            last = deque(maxlen={alive})
            for n in range(2000):
                if {alive} == 1:
                    block = bytearray(400_000)
                    block[n] = 1
                else:
                    last.append(bytearray(400_000))
        work()
    """
    (verdict,) = at(record(source).judge(prices), "bytearray(400_000)")
    assert verdict.verdict == kind
    assert verdict.gain.low > 0
    assert verdict.capacity == alive
    assert verdict.memory_bytes >= alive * 400_000


def test_small_objects_are_left_alone_with_the_figures(record: Record, prices: Calibration) -> None:
    source = "total = 0\nfor n in range(200_000):\n    pair = [n, n + 1]\n    total += pair[1]\n"
    verdicts = at(record(source).judge(prices), "n + 1")
    assert verdicts
    assert all(v.verdict == DONT and v.gain.high <= 0 for v in verdicts)
    assert all("making one costs" in v.reason for v in verdicts)


def test_a_place_is_named_once(record: Record, prices: Calibration) -> None:
    advice = record(TREES, exact=False).judge(prices)
    places = [(v.site.file, v.site.position, v.site.kind) for v in advice.verdicts if v.site]
    assert len(places) == len(set(places))
    values = [v.gain.value for v in advice.verdicts]
    assert values == sorted(values, reverse=True)
    assert all(v.gain.low <= v.gain.value <= v.gain.high for v in advice.verdicts)


def test_memory_that_is_free_inside_malloc_is_said_not_to_be_leaked(
    record: Record, prices: Calibration
) -> None:
    source = """
        blocks = [bytes(3000) for _ in range(60_000)]
        last = blocks[-1]
        del blocks
    """
    notes = record(source, exact=False).judge(prices).notes
    assert any("free inside malloc" in note and "not leaked" in note for note in notes)


def test_children_that_are_not_seen_are_said(record: Record, prices: Calibration) -> None:
    source = (
        "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait()\nx = [[n] for n in range(9)]\n"
    )
    notes = record(source, exact=False).judge(prices).notes
    assert any("forked 1 times" in note for note in notes)


def test_settings_never_save_more_faults_than_there_were(
    record: Record, prices: Calibration
) -> None:
    run = record("""
        for n in range(200):
            block = bytearray(400_000), bytearray(400_000)
    """)
    sampled = sum(site.touched_pages for site in run.sites)
    assert sampled > 10_000
    believed = run.outcome.minor_faults
    few = replace(run.outcome, minor_faults=START_UP_FAULTS + 500)
    gains = [
        verdict.gain.value * run.outcome.cpu_seconds
        for outcome in (replace(run.outcome, minor_faults=believed), few)
        for verdict in run._replace(outcome=outcome).judge(prices).verdicts
        if verdict.site is None
    ]
    page = prices.fault(400_000).value
    assert gains[0] > 10_000 * page
    assert gains[1] <= 510 * page
