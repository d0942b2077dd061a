"""Start the sampler inside the program that is measured. Imports next to nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from poolwise import _core
from poolwise.errors import PoolwiseError, RecordingError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

DEFAULT_MEAN_BYTES = 65536
DEFAULT_PER_SECOND = 1500.0
LOG_NAME = "samples.log"
END_NAME = "end.txt"  # the collector's state when the program ended: "thresholds enabled frozen"


class UnknownInterpreter(PoolwiseError, RuntimeError):
    """This interpreter cannot be sampled: the GIL that guards the sampler is not there, or the
    stack read from the interpreter's memory is not the stack that Python reports."""


def check_stack_reader() -> None:
    """Compare the raw reading of this thread's stack with ``sys._getframe``.

    Raises:
        UnknownInterpreter: they differ, so this interpreter's layout is not the one known; or
            it is a free-threaded build.
    """
    if "t" in sys.abiflags:
        raise UnknownInterpreter(
            f"cannot sample: the GIL guards the sampler, and this Python {sys.version.split()[0]} "
            "(free-threaded) has none; use a build that has one (the pools work on both)"
        )
    raw = _core.sampler_stack()
    reported: list[tuple[CodeType, int]] = []
    frame = sys._getframe()
    while frame is not None and len(reported) < len(raw):
        reported.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    # The innermost frame has moved on between the two looks: only its code can agree.
    same = len(raw) == len(reported) > 0 and raw[0][0] is reported[0][0]
    if not same or any(
        a[0] is not b[0] or a[1] != b[1] for a, b in zip(raw[1:], reported[1:], strict=True)
    ):
        raise UnknownInterpreter(
            f"cannot sample: this Python ({sys.version.split()[0]}) keeps its stack in a way "
            "poolwise does not know; use a release build of CPython 3.11 to 3.14"
        )


def start(options: dict[str, Any]) -> None:
    """Sample this process into ``options["dir"]`` until it ends.

    Options: ``dir`` (an existing directory), ``mean_bytes`` (between samples), ``per_second`` (the
    ceiling), ``exact`` (every allocation).

    Raises:
        OSError: the directory cannot be written to.
        RuntimeError: this process is being sampled already.
        UnknownInterpreter: its stack cannot be read.
    """
    import atexit
    import gc
    import os

    global _end_path
    check_stack_reader()
    _core.sampler_start(
        os.path.abspath(options["dir"]),
        float(options.get("mean_bytes", DEFAULT_MEAN_BYTES)),
        float(options.get("per_second", DEFAULT_PER_SECOND)),
        bool(options.get("exact", False)),
        bool(options.get("children", True)),
        False,
    )
    _hook_libraries_when_loaded()
    _end_path = os.path.join(options["dir"], END_NAME)
    gc.callbacks.append(_core.sampler_collection)
    _core.sampler_hook_constructions(_metaclasses())
    atexit.register(_stop_at_exit)


def stop() -> None:
    """End the recording; what is alive now stays known as alive. Does nothing if there is none.

    Raises:
        RecordingError: the recording could not be written to its end.
    """
    import atexit
    import gc

    if _core.sampler_collection in gc.callbacks:
        gc.callbacks.remove(_core.sampler_collection)
    atexit.unregister(_stop_at_exit)
    try:
        if _core.sampler_stop():
            with open(_end_path, "w") as file:
                print(*gc.get_threshold(), int(gc.isenabled()), gc.get_freeze_count(), file=file)
    except OSError as error:
        raise RecordingError(
            f"{_end_path}: the recording was cut short ({error.strerror}); "
            "make room, leave its file descriptor open, and record again"
        ) from None


_end_path = ""


def _stop_at_exit() -> None:
    from contextlib import suppress

    with suppress(RecordingError):  # the program's output is its own; the reader sees the cut
        stop()


def _metaclasses() -> list[type]:
    found: list[type] = []
    todo: list[type] = list(type.__subclasses__(type))
    while todo:
        metaclass = todo.pop()
        found.append(metaclass)
        todo += type.__subclasses__(metaclass)
    return found


def _hook_libraries_when_loaded() -> None:
    """Now, and whenever an extension module has been loaded, perhaps with libraries of its own."""
    from importlib.machinery import ExtensionFileLoader

    _core.sampler_hook_libraries()
    plain = ExtensionFileLoader.create_module
    if plain.__module__ == __name__:
        return

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        module = plain(self, spec)
        _core.sampler_hook_libraries()
        return module

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]
