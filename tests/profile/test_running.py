"""Which Python a process runs, told from the outside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from poolwise.profile.running import interpreter_of


def test_our_own_interpreter() -> None:
    found = interpreter_of(os.getpid())
    assert found is not None
    assert found.version == sys.version_info[:2]
    assert found.free_threaded == ("t" in sys.abiflags)
    assert found.path == os.path.realpath(sys.executable)
    assert str(found) == "Python {}.{}{} ({})".format(
        *sys.version_info[:2], "t" if found.free_threaded else "", found.path
    )


def test_what_is_no_python() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            assert interpreter_of(process.pid) is None
        finally:
            process.kill()


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(OSError):
        interpreter_of(process.pid)


def test_a_python_that_is_too_old_to_tell_its_version(tmp_path: os.PathLike[str]) -> None:
    # An older Python exports Py_BytesMain, and no Py_Version: so does this program.
    source = os.path.join(tmp_path, "old.c")
    program = os.path.join(tmp_path, "old")
    with open(source, "w") as file:
        file.write("#include <unistd.h>\nint Py_BytesMain(void) { return 0; }\n"
                   "int main(void) { write(1, \"u\", 1); pause(); return 0; }\n")  # fmt: skip
    subprocess.run(
        ["cc", "-rdynamic", "-o", program, source], check=True, stderr=subprocess.DEVNULL
    )
    with subprocess.Popen([program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            found = interpreter_of(process.pid)
        finally:
            process.kill()
    assert found is not None
    assert found.version is None
    assert str(found).startswith("a Python older than 3.11 (")
