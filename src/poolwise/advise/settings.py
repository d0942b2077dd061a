"""The `settings` remedy: what glibc's malloc and the garbage collector can be told."""

from __future__ import annotations

import os

from poolwise.errors import UsageError

PARTS = ("malloc", "gc")


def parse_remedies(text: str) -> tuple[str, ...]:
    """The parts of the settings remedy that `--with` names, in the order of `PARTS`.

    Example: `parse_remedies("settings:gc") == ("gc",)`. Raises UsageError for an unknown remedy,
    and for malloc settings on another C library than glibc.
    """
    chosen: set[str] = set()
    for remedy in text.split(","):
        name, _, part = remedy.strip().partition(":")
        if name != "settings" or (part and part not in PARTS) or remedy.strip().endswith(":"):
            raise UsageError(
                f"--with {text}: there is no remedy {remedy.strip()!r}; "
                "known are settings, settings:malloc and settings:gc"
            )
        chosen |= {part} if part else set(PARTS)
    if "malloc" in chosen:
        check_libc()
    return tuple(part for part in PARTS if part in chosen)


def check_libc() -> None:
    """Raise UsageError unless the C library is glibc."""
    try:
        known = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        known = False
    if not known:
        raise UsageError(
            "settings:malloc: no malloc settings are known for this C library, only for glibc; "
            "use --with settings:gc"
        )
