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
CHILD_PREFIX = "samples-"  # of the logs of children: samples-PID.log
META_NAME = "meta.json"
EXPRESSIONS_NAME = "expressions.json"  # the source text of its places, kept for later
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
    ceiling), ``exact`` (every allocation), ``children`` (whether those of fork and multiprocessing
    are sampled, too, each into a log of its own there; they are unless told not to), ``objects``
    (count all objects created, and those that come from a free list, by type: slow), ``program``
    (its words) and ``own_code`` (the directory or file of its code), where whoever started it knows
    them.

    Raises:
        OSError: the directory cannot be written to.
        RuntimeError: this process is being sampled already.
        UnknownInterpreter: its stack cannot be read, or its objects not be counted.
    """
    import os

    global _directory, _process
    directory = os.path.abspath(options["dir"])
    if os.getpid() != _process:
        _core.sampler_stop()  # the child of a fork is followed until it records itself
    _start({**options, "dir": directory}, is_child=False)
    _directory, _process = directory, os.getpid()


def start_as_child(options: dict[str, Any]) -> None:
    """Sample this process, a child of one that is sampled with the same options.

    Where that cannot be, the child goes on as it is: it is the user's, and asked for nothing.
    """
    from contextlib import suppress

    with suppress(OSError, RuntimeError):
        _start(options, is_child=True)


def _start(options: dict[str, Any], *, is_child: bool) -> None:
    import atexit
    import gc

    global _started

    from poolwise.profile import children

    follows = bool(options.get("children", True))
    check_stack_reader()
    mean_bytes = float(options.get("mean_bytes", DEFAULT_MEAN_BYTES))
    per_second = float(options.get("per_second", DEFAULT_PER_SECOND))
    exact = bool(options.get("exact", False))
    if not is_child:
        _write_account(options, mean_bytes, per_second, exact)
    _core.sampler_start(options["dir"], mean_bytes, per_second, exact, follows, is_child)
    if options.get("objects", False):
        try:
            _core.sampler_count_objects()
        except RuntimeError as error:
            _core.sampler_stop()
            raise UnknownInterpreter(f"cannot record: {error}") from None
    if not is_child:
        _forget_children(options["dir"])
    if follows:
        children.follow(options)
    _started += 1
    _hook_libraries_when_loaded()
    if _core.sampler_collection not in gc.callbacks:  # in the child of a fork it may be
        gc.callbacks.append(_core.sampler_collection)
    _core.sampler_hook_constructions(_metaclasses())
    atexit.register(_stop_at_exit)


def _forget_children(directory: str) -> None:
    """Remove what the children of an earlier recording left."""
    import os

    for name in os.listdir(directory):
        if name.startswith(CHILD_PREFIX) and name.endswith((".log", ".tail")):
            os.unlink(os.path.join(directory, name))


def stop() -> None:
    """End the recording; what is alive now stays known as alive. Does nothing if there is none.

    Raises:
        RecordingError: the recording could not be written to its end.
    """
    import atexit
    import gc
    import os

    from poolwise.profile import children

    children.leave()
    if _core.sampler_collection in gc.callbacks:
        gc.callbacks.remove(_core.sampler_collection)
    atexit.unregister(_stop_at_exit)
    try:
        if _core.sampler_stop() and os.getpid() == _process:
            with open(os.path.join(_directory, END_NAME), "w") as file:
                print(*gc.get_threshold(), int(gc.isenabled()), gc.get_freeze_count(), file=file)
    except OSError as error:
        raise RecordingError(
            f"{_directory}: the recording was cut short ({error.strerror}); "
            "make room, leave its file descriptor open, and record again"
        ) from None


_directory, _process = "", 0
_started = 0  # recordings of this process


def _write_account(
    options: dict[str, Any], mean_bytes: float, per_second: float, exact: bool
) -> None:
    """Write what `meta.json` says from the start on; `poolwise.profile.meta` reads it."""
    import os
    import time

    try:
        with open("/proc/self/stat", "rb") as stat:
            faults = int(stat.read().rpartition(b") ")[2].split()[7])
        account = {
            "schema": 1,
            "program": options.get("program") or _words(),
            "own_code": options.get("own_code"),
            "python": sys.version.split()[0],
            "process": os.getpid(),
            "started_unix_ns": time.time_ns(),
            "started_ns": time.monotonic_ns(),
            "mean_bytes": mean_bytes,
            "per_second": per_second,
            "exact": exact,
            "before": {"cpu_seconds": time.process_time(), "page_faults": faults},
        }
        path = os.path.join(options["dir"], META_NAME)
        with open(path, "w", encoding="utf-8") as file:
            file.write(_json(account) + "\n")
    except OSError:
        return  # the log, without which this is nothing, fails too, or can do without


def _words() -> list[str]:
    """The words behind `python` and its options; some of them, if the program changed `sys.argv`"""
    count = len(sys.argv)
    behind_option = sys.orig_argv[-count - 1 : -count] in (["-m"], ["-c"])
    return sys.orig_argv[-count - behind_option :]


def _json(value: Any) -> str:
    """`value` as JSON, without the modules that importing json would bring into the program."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(k)}: {_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(_json_character, value)) + '"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _json_character(c: str) -> str:
    if " " <= c <= "~" and c not in '"\\':
        return c
    units = c.encode("utf-16-be", "surrogatepass").hex()
    return "".join("\\u" + units[at : at + 4] for at in range(0, len(units), 4))


def recording_into() -> str | None:
    """The directory of the recording that this process is writing; None if it writes none."""
    import gc
    import os

    ours = _process == os.getpid() and _core.sampler_collection in gc.callbacks
    return _directory if ours else None


def flush() -> tuple[str, int] | None:
    """Write what is known so far, so that the log can be read while the recording goes on.

    Returns:
        Its directory, and its number among those of this process; None if none is under way.

    Raises:
        RecordingError: it could not be written.
    """
    try:
        under_way = _core.sampler_flush()
    except OSError as error:
        raise RecordingError(
            f"{_directory}: the recording was cut short ({error.strerror}); "
            "make room and record again"
        ) from None
    return (_directory, _started) if under_way else None


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
    # Not by its public name, importlib.machinery: on 3.14 that imports warnings and more, sampled.
    from _frozen_importlib_external import ExtensionFileLoader

    _core.sampler_hook_libraries()
    plain = ExtensionFileLoader.create_module
    if plain.__module__ == __name__:
        return

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        module = plain(self, spec)
        _core.sampler_hook_libraries()
        return module

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]
