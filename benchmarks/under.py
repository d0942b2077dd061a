"""Run a program under a profiler that is started inside its process; for benchmarks/overhead.py.

    python under.py counting|ddtrace DIRECTORY PROGRAM [its own arguments]

What the profiler has at the end goes into DIRECTORY.
"""

from __future__ import annotations

import atexit
import os
import sys


def counting(directory: str) -> None:
    """The hooks of counting.c, built by overhead.py, which is on PYTHONPATH."""
    from counting import counts, start  # type: ignore[import-not-found]

    start()
    atexit.register(lambda: save(os.path.join(directory, "counts"), repr(counts())))


def ddtrace(directory: str) -> None:
    """Its memory collector alone, with its own defaults; exported once, at the end, to a file."""
    os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
    from ddtrace.internal.datadog.profiling import ddup  # type: ignore[import-not-found]
    from ddtrace.profiling.collector.memalloc import (  # type: ignore[import-not-found]
        MemoryCollector,
    )

    if not ddup.is_available:
        sys.exit(f"ddtrace cannot profile here: {ddup.failure_msg}")
    ddup.config(output_filename=os.path.join(directory, "ddtrace"))
    ddup.start()
    collector = MemoryCollector()
    collector.start()

    def export() -> None:
        collector.snapshot()
        ddup.upload()

    atexit.register(export)


def save(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def main() -> None:
    name, directory, program = sys.argv[1:4]
    sys.argv[:] = sys.argv[3:]
    sys.path[0] = os.path.dirname(os.path.realpath(program))
    import runpy

    {"counting": counting, "ddtrace": ddtrace}[name](directory)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
