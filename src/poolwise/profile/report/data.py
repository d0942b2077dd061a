"""A recording, folded into what one page shows: some hundreds of kilobytes, whatever it holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from poolwise.profile import sites
from poolwise.profile.recording import Recording
from poolwise.profile.report import flame
from poolwise.profile.report.levels import INTERVALS, Level
from poolwise.profile.report.notes import FEW, notes
from poolwise.profile.report.rounding import short, shorts
from poolwise.profile.report.rows import Sums, row, sums
from poolwise.profile.sites import OwnCode, Site

SCHEMA = 1
MOST_SITES = 200  # rows of the table; what is left is one row


def of(
    recording: Recording,
    *,
    name: str = "",
    found: Sequence[Site] | None = None,
    program: str | None = None,
    advice: dict[str, Any] | None = None,
    no_advice: str = "",
) -> dict[str, Any]:
    """The data of a page, as plain values for JSON. Every key: docs/reference/profile-json.md.

    Args:
        recording: with its summary.
        name: what to call it; by default its directory's name.
        found: from `poolwise.profile.sites.find`, where that has been done already.
        program: a file or directory whose code is the user's own, as for `sites.find`.
        advice: the advice on this recording, as of `poolwise.advise.report.to_json`.
        no_advice: why there is none, in one sentence.
    """
    summary = recording.summary
    assert summary is not None
    own = OwnCode(program)
    end_ns = recording.end_ns
    start_ns = recording.births[0].time_ns if recording.births else end_ns
    if found is None:
        found = sites.find(recording, program)
    ranked = _ranked([(site, sums(site, end_ns)) for site in found])
    shown, rest = ranked[:MOST_SITES], ranked[MOST_SITES:]
    tree = flame.tree(recording, own, end_ns)
    everything = Level(start_ns, end_ns)
    of_site = []
    for site, _ in shown:
        of_site.append(level := Level(start_ns, end_ns))
        if site.kind != "construction":
            level.add(site)
            everything.join(level)
    for site, _ in rest:
        if site.kind != "construction":
            everything.add(site)
    return {
        "schema": SCHEMA,
        "name": name or os.path.basename(os.path.abspath(recording.directory)),
        "few": FEW,
        "summary": {
            "seconds": short((end_ns - start_ns) / 1e9),
            "cpu_seconds": short(summary.cpu_seconds),
            "page_faults": summary.minor_faults,
            "peak_rss": summary.peak_bytes,
            "samples": summary.samples,
            "collections": list(summary.collections),
            "collection_seconds": shorts(summary.collection_seconds),
        },
        "totals": dict(zip(flame.MODES, shorts(tree.totals()[0], 9), strict=True)),
        "flame": flame.columns(tree),
        "sites": [
            row(recording, own, site, total, end_ns) | {"level": _level(level)}
            for (site, total), level in zip(shown, of_site, strict=True)
        ],
        "other_sites": {"sites": len(rest), **_added([total for _, total in rest])},
        "level": _level(everything) | {"intervals": INTERVALS},
        "advice": advice,
        "no_advice": no_advice if advice is None else "",
        "notes": notes(recording),
    }


def _ranked(found: list[tuple[Site, Sums]]) -> list[tuple[Site, Sums]]:
    """By the largest share that a site has of anything: whatever the page is sorted by, what
    comes first there is among the first here."""
    whole = [sum(column) or 1.0 for column in zip(*(total for _, total in found), strict=True)]
    return sorted(found, key=lambda pair: -max(v / w for v, w in zip(pair[1], whole, strict=True)))


def _added(totals: list[Sums]) -> dict[str, float]:
    columns = zip(*totals, strict=True) if totals else [()] * len(Sums._fields)
    return dict(zip(Sums._fields, shorts(map(sum, columns)), strict=True))


def _level(level: Level) -> dict[str, Any]:
    return {"objects": shorts(level.objects()), "bytes": shorts(level.bytes())}
