"""What the report says of a place's lifetimes, in words and as JSON."""

from __future__ import annotations

import io
from typing import Any

import pytest

from poolwise.advise.gain import Gain
from poolwise.advise.report import life_text, print_table, to_json
from poolwise.advise.verdicts import POOL, Advice, Verdict
from poolwise.profile.life import Life, Quantiles
from poolwise.profile.positions import Position
from poolwise.profile.sites import Frame, Site

SITE = Site("memory", "/home/me/app.py", "make", Position(7, 7, 4, 9), None)
NEVER = Quantiles(None, None)


def life(**changes: Any) -> Life:
    known: dict[str, Any] = {
        "clocks": {"ns": Quantiles(2500.0, 4e6), "bytes": Quantiles(64.0, None),
                   "collections": Quantiles(0.0, 1.0)},
        "same_thread_share": 1.0,
        "collected_share": 0.0,
        "captured_by": Frame("make", "/home/me/app.py", 7),
        "freed_by": (Frame("make", "/home/me/app.py", 9),),
    }  # fmt: skip
    return Life(**{**known, **changes})


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (life(), "half live 2 µs, 99 % at most 4 ms"),
        (life(clocks={"ns": NEVER}), "most outlive the recording"),
        (
            life(collected_share=0.8, clocks={"collections": Quantiles(3.0, None)}),
            "the collector frees 80 %, half within 3 collections",
        ),
        (
            life(same_thread_share=0.25),
            "half live 2 µs, 99 % at most 4 ms; 75 % are freed by another thread",
        ),
        (
            life(captured_by=Frame("serve", "/home/me/app.py", 80)),
            "half live 2 µs, 99 % at most 4 ms; freed within serve app.py:80",
        ),
    ],
)
def test_the_clock_that_matters_and_what_is_unusual(known: Life, text: str) -> None:
    assert life_text(SITE, known) == text


def test_table_and_json() -> None:
    verdict = Verdict(
        verdict=POOL, site=SITE, gain=Gain(0.2, 0.1, 0.3), memory_bytes=0, capacity=1,
        reason="dear to make", code="", life=life(),
    )  # fmt: skip
    advice = Advice(verdicts=[verdict], notes=[], cpu_seconds=1.0, page_faults=0)
    out = io.StringIO()
    print_table(advice, ["app.py"], out)
    assert "half live 2 µs" in out.getvalue()
    (made,) = to_json(advice, ["app.py"])["verdicts"]
    assert made["lifetimes"]["ns"] == {"median": 2500.0, "p99": 4e6}
    assert made["lifetimes"]["bytes"] == {"median": 64.0, "p99": None}
    assert made["captured_by"] == {"function": "make", "file": "/home/me/app.py", "line": 7}
    assert made["freed_by"][0]["line"] == 9
