"""The forms that write into memory you already have: each that can be run is run."""

from __future__ import annotations

import ctypes
import io
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from poolwise.advise.forms import form_of, makes_size

np = pytest.importorskip("numpy")

A = np.arange(12.0).reshape(3, 4) - 4.5
B = np.linspace(1.0, 2.0, 12).reshape(3, 4)
N = np.arange(12).reshape(3, 4)
MASK = A > 0


def in_place(expression: str, names: dict[str, Any], **given: str) -> Any:
    """What stands in `buf` after both lines of the form, placeholders filled in from `given`."""
    form = form_of(expression, array=True)
    assert form is not None, expression
    scope = {"np": np, "os": os, **names}
    before, at = form.before, form.at
    for placeholder, value in given.items():
        before, at = before.replace(placeholder, value), at.replace(placeholder, value)
    exec(before, scope)
    buffer = scope["buf"]
    for _ in range(2):  # the second time writes over the first
        exec(at, scope)
        assert scope["buf"] is buffer
    return buffer


ARRAYS = {"A": A, "B": B, "N": N, "M": N % 3, "S": np.arange(9.0).reshape(3, 3), "t": A.T}


@pytest.mark.parametrize(
    "expression",
    [
        "A + B", "A - B", "A * B", "A / B", "A // B", "A % B", "B ** 2.5", "A @ t", "N & M",
        "N | M", "N ^ M", "N << M", "N >> M", "-A", "~N", "A > B", "A < B", "A >= B", "A <= B",
        "A == B", "A != B", "A * 2.0", "1.0 / B", "A[1:] + B[:-1]", "(A + B) * B",
        "np.sqrt(B)", "np.abs(A)", "np.exp(A)", "np.clip(A, -1, 1)", "np.add(A, B)",
        "np.maximum(A, B)", "np.dot(A, t)", "np.sum(A, axis=0)", "np.mean(A, axis=1)",
        "np.cumsum(A, axis=0)", "np.arctan2(A, B)", "np.matmul(A, t)", "np.round(A, 1)",
        "np.logical_and(A > 0, B > 1)", "np.isfinite(A)", "np.take(A, [0, 2], axis=1)",
        "np.einsum('ij,ij->i', A, B)", "A.sum(axis=0)", "A.clip(0, 1)", "np.outer(A, B)",
        "np.std(A, axis=0)", "np.median(A, axis=0)", "np.power(B, 3)", "np.concatenate([A, B])",
        "np.stack([A, B])", "np.argmax(A, axis=1)", "np.greater(A, B)", "np.floor(A)",
        "np.fft.fft(A)", "np.trace(S)", "A.astype(np.int64)", "A.copy()", "np.zeros_like(A)",
        "np.ones_like(A)", "np.zeros((3, 4))", "np.ones(5)",
    ],
)  # fmt: skip
def test_numpy_forms_give_the_same_values(expression: str) -> None:
    plain = eval(expression, {"np": np, **ARRAYS})
    buffer = in_place(
        expression, ARRAYS, SHAPE=repr(np.shape(plain)), DTYPE=f"np.dtype('{plain.dtype}')"
    )
    np.testing.assert_array_equal(buffer, plain)


def test_full_and_where() -> None:
    plain = np.full((2, 3), 7)
    np.testing.assert_array_equal(in_place("np.full((2, 3), 7)", {}, VALUE="7"), plain)
    names = {"MASK": MASK, "A": A, "B": B}
    buffer = in_place("np.where(MASK, A, B)", names, SHAPE="(3, 4)", DTYPE="float")
    np.testing.assert_array_equal(buffer, np.where(MASK, A, B))


def test_random_numbers_go_into_the_buffer() -> None:
    for method in ("random", "standard_normal"):
        rng, twin = np.random.default_rng(3), np.random.default_rng(3)
        form = form_of(f"rng.{method}((3, 4))", array=True)
        assert form is not None
        scope: dict[str, Any] = {"np": np, "rng": rng}
        exec(form.before, scope)
        exec(form.at, scope)
        np.testing.assert_array_equal(scope["buf"], getattr(twin, method)((3, 4)))


def run(expression: str, names: dict[str, Any], **given: str) -> dict[str, Any]:
    form = form_of(expression, array=False)
    assert form is not None, expression
    scope = {"os": os, "ctypes": ctypes, "struct": struct, **names}
    for line in (form.before, form.at):
        for placeholder, value in given.items():
            line = line.replace(placeholder, value)
        exec(line, scope)
    return scope


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(200)))
    with open(path, "rb") as file:
        scope = run("file.read(64)", {"file": file})
        assert bytes(scope["buf"][: scope["n"]]) == bytes(range(64))
    with open(path, "rb") as file:
        scope = run("file.read1(64)", {"file": file})
        assert bytes(scope["buf"][: scope["n"]]) == bytes(range(64))
    with io.BytesIO(b"abc") as stream:
        scope = run("stream.read(64)", {"stream": stream})
        assert bytes(scope["buf"][: scope["n"]]) == b"abc"
    scope = run("path.read_bytes()", {"path": path}, LARGEST="4096")
    assert bytes(scope["buf"][: scope["n"]]) == path.read_bytes()


def test_pread(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(range(200)))
    descriptor = os.open(tmp_path / "data", os.O_RDONLY)
    try:
        scope = run("os.pread(descriptor, 64, 100)", {"descriptor": descriptor}, SIZE="64")
        assert bytes(scope["buf"][: scope["n"]]) == os.pread(descriptor, 64, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg"])
def test_sockets(call: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"hello")
        scope = run(f"sock.{call}(4096)", {"sock": ours})
        assert bytes(scope["buf"][: scope["n"]]) == b"hello"


def test_pieces() -> None:
    record = struct.Struct("<IHd")
    scope = run("record.pack(1, 2, 3.5)", {"record": record})
    assert bytes(scope["buf"]) == record.pack(1, 2, 3.5)
    scope = run("b''.join(parts)", {"parts": [b"ab", b"", b"cde"], "at": 0}, LARGEST="64")
    assert bytes(scope["buf"][: scope["at"]]) == b"abcde"
    array = np.arange(5.0)
    scope = run("array.tobytes()", {"array": array}, SIZE="array.nbytes")
    assert bytes(scope["buf"]) == array.tobytes()


def test_pack_of_the_module() -> None:
    scope = run("struct.pack('<IH', 1, 2)", {})
    assert bytes(scope["buf"]) == struct.pack("<IH", 1, 2)


def test_plain_buffers() -> None:
    assert len(run("bytearray(1000)", {})["buf"]) == 1000
    assert len(run("ctypes.create_string_buffer(64)", {})["buf"]) == 64


@pytest.mark.parametrize(
    "expression",
    ["", "not python (", "x", "'text'", "foo(1)", "lambda: 3", "A if B else C", "f(x)(y)", "[1]"],
)  # fmt: skip
def test_what_has_no_form_has_none(expression: str) -> None:
    assert form_of(expression, array=False) is None


@pytest.mark.parametrize("expression", ["1 < x < 3", "x in y", "x and y", "x is y", "not x"])
def test_operators_that_no_single_call_replaces_have_none(expression: str) -> None:
    assert form_of(expression, array=True) is None


def test_an_operator_of_something_else_than_arrays_has_none() -> None:
    assert form_of("a + b", array=False) is None


def test_text_is_not_written_into_a_buffer() -> None:
    assert form_of("', '.join(words)", array=False) is None


def test_a_random_choice_of_the_standard_library_has_none() -> None:
    assert form_of("random.random()", array=False) is None
    assert form_of("copy.copy(thing)", array=False) is None


def test_data_is_copied_and_a_size_is_not() -> None:
    scope = run("bytearray(data[2:])", {"data": b"abcdef"}, LARGEST="64")
    assert bytes(scope["buf"][: scope["n"]]) == b"cdef"
    sized = ["bytearray(n)", "bytearray(2 * n)", "bytearray(len(x))", "bytearray(self.size)"]
    data = ["bytearray(b'x')", "bytearray(x[1:])", "bytearray(f.read())", "bytearray('é', 'utf-8')",
            "bytearray(b'x' * 100)", "bytearray([1, 2])", "bytearray()"]  # fmt: skip
    assert [makes_size(expression) for expression in sized + data] == [True] * 4 + [False] * 7


def test_builtins_are_numpy_s_twin_or_nothing() -> None:
    np.testing.assert_array_equal(in_place("abs(A)", ARRAYS, SHAPE="(3, 4)", DTYPE="float"), abs(A))
    assert form_of("max(A, B)", array=True) is None
    assert form_of("sum(rows)", array=True) is None


def test_both_lines_make_the_code() -> None:
    form = form_of("sock.recv(65536)", array=False)
    assert form is not None
    assert form.code().splitlines() == [
        "buf = memoryview(bytearray(65536))  # once, before the loop",
        "n = sock.recv_into(buf)",
    ]
