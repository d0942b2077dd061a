"""One small run of benchmarks/report.py, which makes the page of a long recording."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "report.py"


def test_the_page_of_many_samples_stays_small(tmp_path: Path) -> None:
    sizes = []
    for samples in ("10000", "40000"):
        words = ["--samples", samples, "--opens", "0", "--json", "r.json", "--page", "r.html"]
        subprocess.run([sys.executable, SCRIPT, *words], cwd=tmp_path, check=True, timeout=240)
        figures = json.loads((tmp_path / "r.json").read_text())
        assert figures["page_bytes"] == (tmp_path / "r.html").stat().st_size
        assert figures["opened_seconds"] == []
        sizes.append(figures["page_bytes"])
    assert sizes[1] < 1.5 * sizes[0] < 3_000_000
