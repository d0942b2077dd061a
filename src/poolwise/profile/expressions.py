"""The source text of sites, kept in the recording: the files may have changed when it is read."""

from __future__ import annotations

import json
import linecache
import os
from collections.abc import Callable

from poolwise.errors import RecordingError
from poolwise.profile import recording as recordings
from poolwise.profile import sites
from poolwise.profile.child import EXPRESSIONS_NAME, LOG_NAME
from poolwise.profile.positions import Position


def keep(recording: recordings.Recording, program: str | None = None) -> None:
    """Write what the source of the program's own frames reads now beside the recording.

    Only its code and nodes are looked at. `program`: see `sites.find`.

    Raises:
        RecordingError: the directory cannot be written to.
    """
    linecache.checkcache()
    own = sites.OwnCode(program)
    places = {
        (recording.code(node).file, recording.position(node))
        for node in recording.nodes
        if own.is_own(recording.code(node).file)
    }
    texts = {_key(*place): text for place in places if (text := sites.source_of(*place))}
    path = os.path.join(recording.directory, EXPRESSIONS_NAME)
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(texts, file, ensure_ascii=False)
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be written ({error.strerror}); make room or record elsewhere"
        ) from None


def reader(directory: str) -> Callable[[sites.Site], str]:
    """How to find a site's text: as kept, or from its file if that is older than the recording.

    The function returned gives "" where neither is there.
    """
    try:
        with open(os.path.join(directory, EXPRESSIONS_NAME), encoding="utf-8") as file:
            kept: dict[str, str] = json.load(file)
    except (OSError, ValueError):
        kept = {}
    linecache.checkcache()
    recorded_at = os.stat(os.path.join(directory, LOG_NAME)).st_mtime
    unchanged: dict[str, bool] = {}

    def is_unchanged(path: str) -> bool:
        if path not in unchanged:
            try:
                unchanged[path] = os.stat(path).st_mtime <= recorded_at
            except OSError:
                unchanged[path] = False
        return unchanged[path]

    def text(site: sites.Site) -> str:
        found = kept.get(_key(site.file, site.position))
        if found is None and is_unchanged(site.file):
            found = site.expression
        return found or ""

    return text


def _key(path: str, position: Position) -> str:
    return ":".join(str(part) for part in (*position, path))
