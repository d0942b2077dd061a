"""The rules of the house, as tests: what imports cost, who may import whom, what each name is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import poolwise
from poolwise.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "poolwise"
EVERYWHERE = {"errors", "_core", "__init__"}

# Imports point down only: a room, and whom it may enter beside itself and `EVERYWHERE`.
# `program` and `profile` stand side by side: the program's child starts the sampler, by a name
# that only it needs.
MAY_ENTER = {
    "pools": set(),
    "profile": set(),
    "program": {"profile.child"},
    "advise": {"pools", "profile", "program"},
    "bench": {"pools", "profile", "program", "advise", "_sharing"},
    "cli": {"pools", "profile", "program", "advise", "bench"},
}

# What a program that only pools must not pay for.
HEAVY = {
    "argparse", "asyncio", "ctypes", "email", "html", "http", "importlib.metadata", "json",
    "logging", "multiprocessing", "numpy", "rich", "shutil", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "unittest", "urllib",
}  # fmt: skip


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


USED = "pool = poolwise.Pool(list); pool.put(pool.get()); pool.stats()"


@pytest.mark.parametrize("use", ["", USED], ids=["imported", "used"])
def test_importing_poolwise_imports_no_other_package_and_nothing_heavy(use: str) -> None:
    names = python(
        f"import sys; before = set(sys.modules); import poolwise; {use}\n"
        "print(*sorted(set(sys.modules) - before))"
    ).split()
    assert "poolwise._core" in names
    foreign = {n.partition(".")[0] for n in names} - set(sys.stdlib_module_names) - {"poolwise"}
    assert not foreign
    assert not HEAVY & set(names)
    rooms = {name.split(".")[1] for name in names if name.startswith("poolwise.")}
    assert rooms == {"_core", "errors", "pools"}


def test_the_public_names_are_the_documented_ones() -> None:
    page = (ROOT / "docs" / "reference" / "python-api.md").read_text()
    documented = re.findall(r"^\.\. auto\w+:: poolwise\.(\w+)$", page, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == set(poolwise.__all__) - {"__version__"}
    assert poolwise.__all__ == sorted(poolwise.__all__)
    for name in poolwise.__all__:
        assert getattr(poolwise, name) is not None


@pytest.mark.parametrize("name", sorted(set(poolwise.__all__) - {"__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert (getattr(poolwise, name).__doc__ or "").strip()


def imported(path: Path) -> set[str]:
    """The modules of poolwise that a file imports, as names below `poolwise.`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports of poolwise are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.removeprefix("poolwise.") for name in names if name.startswith("poolwise.")}
    # `from poolwise import Pool` names what __init__ takes from the pools.
    return {"pools" if name in poolwise.__all__ else name for name in ours} - {"__version__"}


@pytest.mark.parametrize("room", sorted(MAY_ENTER))
def test_imports_point_down(room: str) -> None:
    files = sorted((SOURCE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            allowed = EVERYWHERE | {room} | MAY_ENTER[room]
            if path.name == "_calibration_child.py" or path.name == "_paradox_child.py":
                allowed |= {"pools"}
            assert any(name == a or name.startswith(a + ".") for a in allowed), (
                f"{path.relative_to(ROOT)} imports poolwise.{name}: {room} may not enter that room"
            )


def test_every_room_has_a_rule() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms == set(MAY_ENTER)


def test_nothing_is_put_off() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for folder in ("src", "benchmarks", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".c", ".h"):
                assert not words.search(path.read_text()), path


def test_versions_of_python_are_told_apart_in_two_files_only() -> None:
    # compat.h holds the differences of the C API; pystack.c is about nothing but the layout of
    # frames, which differs between versions and concerns nobody else.
    telling = {
        path.name for path in (SOURCE / "_core").iterdir() if "PY_VERSION_HEX" in path.read_text()
    }
    assert telling <= {"compat.h", "pystack.c"}


def test_structures_are_plain_c() -> None:
    # They can be compiled alone, and run under a thread sanitizer, without an interpreter.
    for name in ("blocks.h", "local.h", "sizeclass.h", "recording.h", "rng.h", "checked.h"):
        text = (SOURCE / "_core" / name).read_text()
        assert not re.search(r"Python\.h|PyObject", text), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "poolwise", command, "--help"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert not shown.stderr
    examples = shown.stdout.partition("examples:")[2]
    assert len(re.findall(rf"^  poolwise {command}\b", examples, re.MULTILINE)) >= 2
    assert "\x1b" not in shown.stdout


def test_every_command_has_a_section_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    headings = re.findall(r"^## poolwise (\w+)$", page, re.MULTILINE)
    assert headings == list(COMMANDS)
    for command in COMMANDS:
        shown = python(f"import sys; sys.argv[1:] = ['{command}', '--help']; "
                       "from poolwise.cli import main; main()")  # fmt: skip
        section = page.partition(f"## poolwise {command}\n")[2].partition("\n## ")[0]
        for option in re.findall(r"^  (?:-\w, )?(--?[a-z-]+)", shown, re.MULTILINE):
            if option not in ("-h", "--help"):
                assert f"`{option}" in section, f"{option} of poolwise {command} is not explained"


def test_the_make_targets_say_what_they_make() -> None:
    text = (ROOT / "Makefile").read_text()
    for phony in re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE):
        if phony != "checked":
            assert re.search(rf"^{phony}:.*## \S", text, re.MULTILINE), phony
