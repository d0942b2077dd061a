"""What two commands put into a page: a recording, named after its program, and the advice on it."""

from __future__ import annotations

import os
from typing import Any

from poolwise.advise import report
from poolwise.advise.session import Read
from poolwise.advise.verdicts import Advice
from poolwise.profile.bulk import without_collections
from poolwise.profile.report import data


def page_data(opened: Read, advice: Advice | None, no_advice: str = "") -> dict[str, Any]:
    """The data of the page; `no_advice` says in a sentence why there is none."""
    about = opened.about
    with without_collections():
        return data.of(
            opened.recorded,
            name=" ".join((os.path.basename(about.program[0]), *about.program[1:]))
            if about.program
            else "",
            found=opened.sites,
            program=about.own_code,
            advice=None if advice is None else report.to_json(advice, about.program),
            no_advice=no_advice,
        )
