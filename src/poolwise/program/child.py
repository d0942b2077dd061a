"""Run a user's program as its own: the first code of the child process.

Started by file name (`python …/child.py INSTRUCTIONS [-m] TARGET ARGS…`, see `launch.py`), not by
`-m`: runpy would import contextlib, collections and functools before the program does, hide their
cost, and put the current directory in front of `sys.path`. For the same reason this file imports
nothing but `sys` and `os`, which every interpreter has loaded already, and not poolwise either.

INSTRUCTIONS is a Python literal in ASCII, written by `Instructions.encode`, since `eval` costs no
import: {"core": path of the C core, "mallopt": ((parameter, value), …), "gc": (thresholds),
"overlay": {path: path}, "profile": dict or None}.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def _strip(traceback: "Any") -> "Any":
    """The traceback without our own frames at its top."""
    ours = _strip.__code__.co_filename  # 3.14 has taken __file__ away by now
    while traceback is not None and traceback.tb_frame.f_code.co_filename == ours:
        traceback = traceback.tb_next
    return traceback


def _hide_our_frames() -> None:
    """Let the interpreter report the program's last exception as if we were not there.

    Only for an exception on its way out: SystemExit, the exit by SIGINT after a KeyboardInterrupt,
    threads and atexit handlers stay the interpreter's own work.
    """
    own_hook = sys.excepthook

    def hook(kind: "Any", value: "Any", traceback: "Any") -> None:
        sys.excepthook = own_hook
        sys.last_traceback = traceback = _strip(traceback)
        own_hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = hook


def _apply_settings(core: str, mallopt: list[tuple[int, int]], thresholds: list[int]) -> None:
    if mallopt:
        # The module of our own is not the program's `poolwise._core`: nothing lands in sys.modules.
        import _imp
        from _frozen_importlib import ModuleSpec
        from _frozen_importlib_external import ExtensionFileLoader

        loader = ExtensionFileLoader("poolwise._core", core)
        module = _imp.create_dynamic(ModuleSpec("poolwise._core", loader, origin=core))
        _imp.exec_dynamic(module)
        for parameter, value in mallopt:
            module.mallopt(parameter, value)
    if thresholds:
        import gc

        gc.set_threshold(*thresholds)


def _install_overlay(overlay: dict[str, str]) -> None:
    """Compile the files named in `overlay` from another file's text; their names stay their own.

    Neither reads nor writes bytecode caches for them, whichever text they get: so a program whose
    overlay maps each file to itself pays for the same compilations.
    """
    from _frozen_importlib_external import SourceFileLoader

    names = {os.path.basename(path) for path in overlay}
    own_get_code, own_get_data = SourceFileLoader.get_code, SourceFileLoader.get_data

    def replacement(path: str) -> "str | None":
        return overlay.get(os.path.realpath(path)) if os.path.basename(path) in names else None

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        return own_get_data(self, replacement(path) or path)

    def get_code(self: "Any", fullname: str) -> "Any":
        path = self.get_filename(fullname)
        if replacement(path) is None:
            return own_get_code(self, fullname)
        return self.source_to_code(self.get_data(path), path)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]
    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def _is_import_path(path: str) -> bool:
    """Whether Python would look for `__main__` inside: a directory or a zip file."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _fresh_main() -> "ModuleType":
    """A `__main__` module as the interpreter makes it, in place of this file's."""
    from _frozen_importlib import BuiltinImporter

    ours = sys.modules["__main__"]
    main = type(sys)("__main__")
    main.__dict__["__builtins__"] = ours.__dict__["__builtins__"]
    main.__loader__ = BuiltinImporter
    if "__annotations__" in ours.__dict__:
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


def _script_code(path: str, main: "ModuleType") -> "Any":
    """The compiled script, with `main` told where it came from."""
    from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader

    kind = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
    loader = kind("__main__", path)
    main.__dict__.update(__file__=path, __loader__=loader)
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None
    if kind is SourcelessFileLoader:
        return loader.get_code("__main__")
    return compile(loader.get_data(path), path, "exec", dont_inherit=True)


def _run(instructions: "Any", as_module: bool, target: str, args: list[str]) -> None:
    flags = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    sys.orig_argv[1:] = [*flags, *(["-m"] if as_module else []), target, *args]
    sys.argv[:] = ["-m" if as_module else target, *args]
    first_path = None if sys.flags.safe_path else sys.path.pop(0)
    main = _fresh_main()

    _apply_settings(instructions["core"], instructions["mallopt"], instructions["gc"])
    if instructions["overlay"]:
        _install_overlay(instructions["overlay"])
    if instructions["profile"] is not None:
        from poolwise.profile.child import start  # type: ignore[import-untyped, unused-ignore]

        start(instructions["profile"])

    if as_module:
        import runpy

        if first_path is not None:
            sys.path.insert(0, os.getcwd())
        runpy._run_module_as_main(target)  # type: ignore[attr-defined]
    elif _is_import_path(target):
        import runpy

        sys.path.insert(0, os.path.join(os.getcwd(), target))
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]
    else:
        if first_path is not None:
            sys.path.insert(0, os.path.dirname(os.path.realpath(target)))
        path = os.path.join(os.getcwd(), target)
        exec(_script_code(path, main), main.__dict__)


def _start() -> None:
    as_module = sys.argv[2] == "-m"
    target = 3 if as_module else 2
    instructions = eval(sys.argv[1], {})
    try:
        _run(instructions, as_module, sys.argv[target], sys.argv[target + 1 :])
    except BaseException:
        _hide_our_frames()
        raise


if __name__ == "__main__":
    _start()
