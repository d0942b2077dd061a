"""Draw a report of `poolwise advise --json` as an SVG picture, as it looks in a terminal.

python docs/make_picture.py out/spectra.json docs/verdicts.svg [--lines N]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from poolwise.advise.gain import Gain

WIDTH = 104
STYLES = {"don't": "dim", "record longer": "yellow"}


def draw(report: dict[str, Any], lines: int) -> str:
    """The report's first `lines` verdicts, as SVG text without anything to load."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    words = " ".join(report["program"])
    console.print(f"[bold]$ poolwise advise {words}[/bold]", highlight=False)
    console.print(
        f"{report['cpu_seconds']:.2f} s of CPU, {report['page_faults']:,} page faults\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("verdict", no_wrap=True)
    table.add_column("gain, 95 %", justify="right", no_wrap=True)
    table.add_column("where and why")
    for verdict in report["verdicts"][:lines]:
        gain = verdict["gain"]
        table.add_row(
            Text(verdict["verdict"], style=STYLES.get(verdict["verdict"], "bold green")),
            str(Gain(gain["value"], gain["low"], gain["high"])),
            Text.assemble((where(verdict["site"]), "cyan"), "\n", verdict["reason"]),
        )
    console.print(table)
    if left := len(report["verdicts"]) - lines:
        console.print(f"… and {left} more", style="dim", highlight=False)
    svg = console.export_svg(title="poolwise advise", unique_id="poolwise")
    # rich names web fonts: a picture in a README loads nothing.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return "".join(line.rstrip() + "\n" for line in svg.splitlines() if line.strip())


def where(site: dict[str, Any] | None) -> str:
    """The place of a verdict, in one line."""
    if site is None:
        return "the whole program"
    made = f" ({site['type']})" if site["type"] else ""
    place = f"{site['function']} {os.path.basename(site['file'])}:{site['line']}"
    return f"{place}: {site['expression']}{made}"


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--lines", type=int, default=8, help="verdicts shown (default 8)")
    ns = parser.parse_args()
    ns.picture.write_text(draw(json.loads(ns.report.read_text()), ns.lines), encoding="utf-8")


if __name__ == "__main__":
    main()
