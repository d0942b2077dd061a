"""The page: data, style and script in one HTML file, which loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from string import Template
from typing import Any

PARTS = Path(__file__).parent / "parts"
SCRIPTS = (
    *("dom.js", "text.js", "data.js", "tip.js", "flame.js", "life.js", "sites.js", "heat.js"),
    *("levels.js", "detail.js", "verdicts.js", "main.js"),
)


def page(data: dict[str, Any]) -> str:
    """The page that shows `data`, which is of `poolwise.profile.report.data.of`.

    Whatever names the program has: in the data `<` is written as an escape, so that no element can
    begin there, and the script makes text of names and nothing else. The page's own policy lets
    no other script run than the one that is in it.
    """
    script = "\n".join(['"use strict";', *((PARTS / name).read_text("utf-8") for name in SCRIPTS)])
    # What the browser hashes is all between the tags, line ends included.
    digest = hashlib.sha256(f"\n{script}\n".encode()).digest()
    return Template((PARTS / "page.html").read_text("utf-8")).substitute(
        title=html.escape(f"{data['name']} - poolwise".encode("utf-8", "replace").decode()),
        style=(PARTS / "page.css").read_text("utf-8"),
        script_sources=f"'sha256-{base64.b64encode(digest).decode()}'",
        data=compact(data).replace("<", "\\u003c"),
        script=script,
    )


def compact(data: dict[str, Any]) -> str:
    """The data as JSON without a space, in ASCII, so that no name can be wrongly encoded."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
