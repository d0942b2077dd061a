"""Where a recording is written: a fresh directory, or one that may be written anew.

Part of `poolwise.profile.start`, so it runs inside programs that are measured: no heavy imports.
"""

from __future__ import annotations

import os
import time

from poolwise.errors import UsageError
from poolwise.profile.child import END_NAME, EXPRESSIONS_NAME, LOG_NAME, META_NAME

MAGIC = b"poolwise recording "
SEED = b'{"schema": 1}\n'  # of meta.json; as it is replaced, nothing else need be true of it


def is_recording(path: str | os.PathLike[str]) -> bool:
    """Whether this is a directory with a recording in it, whole or not, of any version."""
    try:
        with open(os.path.join(path, LOG_NAME), "rb") as log:
            head = log.read(len(MAGIC))
    except OSError:
        return False
    return MAGIC.startswith(head)  # an empty log: it was to become one


def prepare(directory: str | os.PathLike[str], *, force: bool = False) -> str:
    """Make `directory` and see that it can be written to; returns its path.

    With `force` an older recording in it is removed first; other files stay.

    Raises:
        UsageError: it cannot be written to, or holds something.
    """
    path = os.fspath(directory)
    try:
        os.makedirs(path, exist_ok=True)
        held = os.listdir(path)
        if held and not is_recording(path):
            raise UsageError(
                f"{path}: this directory holds something else than a recording ({min(held)}); "
                "name a new one"
            )
        if held and not force:
            raise UsageError(
                f"{path}: this directory holds a recording; name a new one, or write it anew "
                "(--force, force=True)"
            )
        for name in held:
            if _is_ours(name):
                os.unlink(os.path.join(path, name))
        # What cannot be written is said now, not when the program has run.
        with open(os.path.join(path, META_NAME), "wb") as seed:
            seed.write(SEED)
    except FileExistsError:
        raise UsageError(f"{path}: this is a file; name a directory for the recording") from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); name a directory in a place that can"
        ) from None
    return path


def _is_ours(name: str) -> bool:
    stem, _, ending = LOG_NAME.partition(".")  # samples.log, and of other processes samples-ID.log
    of_a_log = name.startswith(stem) and name.endswith((f".{ending}", ".tail"))
    return of_a_log or name in (META_NAME, END_NAME, EXPRESSIONS_NAME)


def fresh_name(program: str) -> str:
    """`poolwise-app-20260131-235959`: free here, with a number behind it if need be."""
    stem = os.path.basename(program.rstrip(os.sep)).removesuffix(".py") or "python"
    name = f"poolwise-{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    number, taken = 1, name
    while os.path.lexists(taken):
        number += 1
        taken = f"{name}-{number}"
    return taken
