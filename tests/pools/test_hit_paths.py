"""The hit paths on the machine code: no call, no lock, no atomic with the GIL; and how long.

From the entry of a function to its `ret`, along branches but past no call: these are the hits. How
many instructions the shortest and the longest of them have is kept in hit_paths.json for the one
compiler that it names; `POOLWISE_WRITE_GOLDEN=1 pytest tests/pools/test_hit_paths.py` writes it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import pytest

from poolwise import _core

GOLDEN = Path(__file__).with_name("hit_paths.json")
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# Without the GIL a buffer pool enters its critical section, which is a call.
BUFFERS = () if FREE else ("pw_acquire", "buffer_release")
FUNCTIONS = ("pw_pool_get", "pw_pool_put", *BUFFERS)
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t((?:lock |rep |data16 |cs )*\S+) *(.*)$", re.MULTILINE)
COMPILER = re.compile(r"GCC: \([^)]*\) (\d+\.\d+\.\d+)")

pytestmark = [
    pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the table is of x86-64"),
    pytest.mark.skipif("asan" in sys.prefix, reason="a sanitizer adds instructions"),
]

Instruction = tuple[int, str, str]
"""Address, mnemonic with its prefix, operands."""


@cache
def disassembly() -> dict[str, list[Instruction]]:
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _core.__file__],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    functions: dict[str, list[Instruction]] = {}
    for block in text.split("\n\n"):
        head = re.match(r"\s*[0-9a-f]+ <([\w.]+)>:\n", block)
        if head is None:
            continue
        found = re.findall(
            r"^\s*([0-9a-f]+):\t((?:lock |rep |data16 |cs )*\S+) *(.*)$", block, re.M
        )
        functions[head[1]] = [(int(at, 16), name, operands) for at, name, operands in found]
    return functions


def hits(name: str) -> list[list[Instruction]]:
    """Every way without a loop and a call from the entry of the function to its `ret`."""
    code = disassembly()[name]
    index = {at: i for i, (at, _, _) in enumerate(code)}
    found: list[list[Instruction]] = []

    def walk(i: int, path: list[Instruction], seen: frozenset[int]) -> None:
        while i < len(code) and i not in seen:
            _, mnemonic, operands = code[i]
            path = [*path, code[i]]
            seen = seen | {i}
            target = index.get(int(operands.split()[0], 16)) if mnemonic[0] == "j" else None
            if mnemonic.startswith("ret"):
                found.append(path)
                return
            if mnemonic.startswith("call") or (mnemonic == "jmp" and target is None):
                return
            if mnemonic == "jmp":
                assert target is not None
                i = target
                continue
            if mnemonic[0] == "j" and target is not None:
                walk(target, path, seen)
            i += 1

    walk(0, [], frozenset())
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_hit_calls_nothing(name: str) -> None:
    assert hits(name), f"{name} has no way to its end without a call"


@pytest.mark.skipif(FREE, reason="without the GIL the shared queue needs atomics")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_locked_with_the_gil(name: str) -> None:
    for _, mnemonic, operands in disassembly()[name]:
        assert not mnemonic.startswith("lock "), f"{name}: {mnemonic} {operands}"
        assert not (mnemonic == "xchg" and "(" in operands), f"{name}: {mnemonic} {operands}"
        assert mnemonic not in ("mfence", "sfence", "lfence")


@pytest.mark.skipif(not FREE, reason="with the GIL nothing is locked at all")
@pytest.mark.parametrize("name", ["pw_pool_get", "pw_pool_put"])
def test_a_private_hit_is_not_locked_without_the_gil(name: str) -> None:
    shortest = min(hits(name), key=len)
    assert not any(mnemonic.startswith("lock ") for _, mnemonic, _ in shortest)


def test_hit_paths_are_as_long_as_in_the_table() -> None:
    comment = subprocess.run(
        ["objdump", "-s", "-j", ".comment", _core.__file__], check=True, capture_output=True
    ).stdout
    text = "".join(line[-16:].decode() for line in comment.splitlines() if line.startswith(b" "))
    found = COMPILER.search(text.replace(".", " ", 1) if text.startswith(".") else text)
    key = f"gcc {found[1] if found else '?'}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    key += "t" if FREE else ""
    lengths = {
        name: {"shortest": min(map(len, hits(name))), "longest": max(map(len, hits(name)))}
        for name in FUNCTIONS
    }
    table = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("POOLWISE_WRITE_GOLDEN"):
        table[key] = lengths
        GOLDEN.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")
    if key not in table:
        pytest.skip(f"the table has no {key}")
    assert lengths == table[key]
