"""What a recording does not show: said in the page, each in a sentence or two."""

from __future__ import annotations

from typing import Any

from poolwise.profile.recording import Recording, Summary

FEW = 30  # samples: with fewer, a site's figures are shown as unsure


def notes(recording: Recording) -> list[dict[str, Any]]:
    """Each note as {"title", "text", "lost"}; `lost`: this recording is less than it should be."""
    summary = recording.summary
    assert summary is not None
    found = [*_of_this_run(recording, summary), *_of_any_run(summary)]
    return [{"title": title, "text": text, "lost": lost} for title, text, lost in found]


def _of_this_run(recording: Recording, summary: Summary) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []
    if recording.cut_bytes:
        found.append(
            ("Cut recording", f"The log ends in the middle of a chunk: its last "
             f"{recording.cut_bytes:,} bytes cannot be read, all before them stands.", True)
        )  # fmt: skip
    if not summary.finished:
        found.append(
            ("No end", "The program ended without its exit handlers, or still runs: about the "
             "last half second is missing, and what was alive then counts as alive.", True)
        )  # fmt: skip
    if summary.lost:
        found.append(
            ("Lost samples", f"Of {summary.lost:,} samples the end was not seen. They count as "
             "ended when that was noticed: too late, if anything.", True)
        )  # fmt: skip
    if summary.hook_removals:
        found.append(
            ("Hook taken out", f"Something took the sampler's hook out {summary.hook_removals:,} "
             "times (tracemalloc, stopped after our start, does that). It was put back; deaths "
             "in between are not known.", True)
        )  # fmt: skip
    if summary.unknown_stacks:
        found.append(
            ("Unknown stacks", f"{summary.unknown_stacks:,} samples have no stack, as there were "
             "too many different ones. They stand in the flame graph as “stack not known”, and "
             "in no site.", True)
        )  # fmt: skip
    if summary.truncated_stacks:
        found.append(
            ("Deep stacks", f"{summary.truncated_stacks:,} samples had stacks too deep to keep "
             "whole: their outermost frames are missing, so the flame graph shows them at its "
             "root.", True)
        )  # fmt: skip
    if summary.forks:
        found.append(
            ("Forks", f"The program forked {summary.forks:,} times. What its children allocated "
             "is not in this recording.", True)
        )  # fmt: skip
    if summary.thinned:
        found.append(
            ("Thinning", f"{summary.thinned:,} samples were dropped by a fair coin when too many "
             "were alive at once; each that stayed counts for two. Means are not changed by "
             "that, intervals are wider.", False)
        )  # fmt: skip
    return found


def _of_any_run(summary: Summary) -> list[tuple[str, str, bool]]:
    seconds = f"{summary.overhead_seconds:.2g} s of CPU"
    return [
        ("Free lists", "CPython keeps freed tuples, floats, lists, dicts, frames and a few others "
         "in free lists of its own. An object that is made from such a list allocates nothing, so "
         "it is not seen; the memory behind it seems to live on from one object to the next. "
         "Counts of these types are too low, their lifetimes too long.", False),
        ("A sample, not all", f"{summary.samples:,} allocations were followed; each counts as many "
         "times as its chance to be followed was small. Sums are right in the mean. Figures of a "
         f"site with fewer than {FEW} samples are shown in grey: take them as a hint.", False),
        ("Still alive", "What is alive at the end has lived at least so long, not exactly so long. "
         "It is drawn apart, and medians account for it (Kaplan and Meier).", False),
        ("Own memory of libraries", "A library that carves its objects out of large blocks of its "
         "own shows these blocks, not the objects.", False),
        ("The sampler's own cost", f"It took about {seconds} while the program ran. Its memory is "
         "not counted in this page.", False),
    ]  # fmt: skip
