"""The children of a sampled program are sampled as well.

A fork is followed by the sampler itself. The `spawn` and `forkserver` methods of multiprocessing
start an interpreter anew; such a child first unpickles a dictionary that its parent prepared (name,
path, arguments), and something in it that starts the sampler when unpickled is all it takes: no
environment variable, no file that every interpreter would load. Not followed: whatever else a
program starts by exec, subprocess or posix_spawn.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SPAWN = "multiprocessing.spawn"

# Run in the child: where poolwise is not on its path, the child goes on without.
_START = """\
try:
    from poolwise.profile.child import start_as_child
except ImportError:
    pass
else:
    start_as_child({options!r})
"""


class _Starter:
    """Unpickled, it starts the sampler."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, dict[str, Any]]]:
        return exec, (_START.format(options=_options), {})


class _Finder:
    """Stands in front of sys.meta_path until `multiprocessing.spawn` is imported, to change it."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _SPAWN:
            return None
        sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        loader: Any = spec.loader
        plain = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            plain(module)
            _change(module)

        loader.exec_module = exec_module
        return spec


_options: dict[str, Any] | None = None


def follow(options: dict[str, Any]) -> None:
    """Have children that multiprocessing starts anew sampled with these options from now on."""
    global _options
    first = _options is None
    _options = options
    if not first:
        return
    if _SPAWN in sys.modules:
        _change(sys.modules[_SPAWN])
    else:
        sys.meta_path.insert(0, _Finder)


def _change(spawn: ModuleType) -> None:
    plain = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = plain(name)
        if _options:
            data["poolwise"] = _Starter()
        return data

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


def leave() -> None:
    """No longer."""
    global _options
    if _options is not None:
        _options = {}
