"""What a site knows of its lifetimes, in a few numbers: for reports."""

from __future__ import annotations

from dataclasses import dataclass

from poolwise.profile.recording import Recording
from poolwise.profile.sites import Frame, Site

CLOCKS = {"ns": "ns", "bytes": "volume", "collections": "collections"}  # as reports name them


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Lifetimes on one clock; None where too many are still alive."""

    median: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How the blocks of a site live and end.

    `clocks`: by "ns" (nanoseconds), "bytes" (allocated meanwhile) and "collections" (survived).
    """

    clocks: dict[str, Quantiles]
    same_thread_share: float
    collected_share: float
    captured_by: Frame | None
    freed_by: tuple[Frame, ...]


def life_of(recording: Recording, site: Site) -> Life:
    """Sum up the lifetimes of a site's blocks."""
    clocks: dict[str, Quantiles] = {}
    end_ns = recording.end_ns
    for name, clock in CLOCKS.items():
        lifetimes = site.lifetimes(clock, end_ns)
        clocks[name] = Quantiles(lifetimes.quantile(0.5), lifetimes.quantile(0.99))
    return Life(
        clocks=clocks,
        same_thread_share=site.same_thread_share,
        collected_share=site.collected_share,
        captured_by=site.captured_by(recording),
        freed_by=site.freed_by(recording),
    )
