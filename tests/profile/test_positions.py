"""Positions decoded from a location table are those that the interpreter gives."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolwise.profile.positions import NOWHERE, position_at

STDLIB = Path(sysconfig.get_paths()["stdlib"])
FILES = [
    "argparse.py",
    "ast.py",
    "asyncio/base_events.py",
    "collections/__init__.py",
    "dataclasses.py",
    "email/_header_value_parser.py",
    "enum.py",
    "functools.py",
    "inspect.py",
    "json/decoder.py",
    "pydoc_data/topics.py",
    "statistics.py",
    "textwrap.py",
    "threading.py",
    "typing.py",
]
MOST_OFFSETS = 200  # a code object; each look decodes the table from its start


def code_objects(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def check(source: str, file: str = "generated.py") -> list[CodeType]:
    """Compare all of the source's code objects with the interpreter's word for them."""
    codes = list(code_objects(compile(source, file, "exec")))
    for code in codes:
        said = list(code.co_positions())
        for unit in {*range(0, len(said), 1 + len(said) // MOST_OFFSETS), len(said) - 1}:
            ours = position_at(code.co_linetable, code.co_firstlineno, 2 * unit)
            assert tuple(ours) == said[unit], f"{file}: {code.co_qualname}, unit {unit}"
    return codes


@pytest.mark.parametrize("file", FILES)
def test_standard_library(file: str) -> None:
    assert check((STDLIB / file).read_text(encoding="utf-8"), file)


def test_a_call_over_several_lines() -> None:
    check("made = list(\n    map(\n        lambda x: [\n            x,\n        ],\n[1,\n 2]))\n")


@pytest.mark.parametrize("width", [70, 126, 127, 128, 254, 255, 256, 257, 4000, 70_000])
def test_long_lines(width: int) -> None:
    # The columns go through each form of entry: short, one byte each, variable length.
    check(f"x = '{'-' * width}'; y = [x for x in {{x: {{x}}}}]; z = (lambda: x + y)\n")


def test_columns_are_bytes() -> None:
    (code,) = check("größe = '日本語🐍'; y = [größe]\n")
    columns = {
        position_at(code.co_linetable, code.co_firstlineno, at)
        for at in range(0, len(code.co_code), 2)
    }
    start = len("größe = '日本語🐍'; y = ".encode())
    assert (1, 1, start, start + len("[größe]".encode())) in columns


def test_lines_that_go_back_and_far_apart() -> None:
    check("f(a,\n  b,\n\n" + "\n" * 5000 + "  c\n  , [d\n for d in e]) if (\ng) else h\n")


def test_no_position_at_all() -> None:
    code = compile("def f():\n    yield 1\n", "f.py", "exec").co_consts[0]
    places = {position_at(code.co_linetable, code.co_firstlineno, at) for at in range(0, 64, 2)}
    assert NOWHERE in places  # beyond the table, in any version
    assert position_at(b"", 1, 0) == NOWHERE
    # Code that says where it is by line alone.
    bare = code.replace(co_linetable=bytes([0x80 | 13 << 3 | 7, 4]))
    said = next(iter(bare.co_positions()))
    assert said == (bare.co_firstlineno + 2, bare.co_firstlineno + 2, None, None)
    assert position_at(bare.co_linetable, bare.co_firstlineno, 0) == said


names = st.sampled_from(["a", "größe", "日本", "x" * 300])
literals = st.integers(0, 9).map(str) | st.text("abé日🐍", max_size=300).map(repr)
SHAPES = [
    "{a}({b}, {c})", "{a}(\n{b},\n\n  {c})", "[{a} for {n} in {b} if {c}]",
    "(lambda {n}: {a} + {b})", "{{{a}: {b} for {n} in {c}}}", "({a}\n if {b} else\n{c})",
    "({a} for {n} in\n {b})", "{a}.{n}[{b}:{c}]", "[*{a}, {b},\n\n\n{c}]",
]  # fmt: skip


@st.composite
def grown(draw: st.DrawFn, parts: st.SearchStrategy[str]) -> str:
    shape = draw(st.sampled_from(SHAPES))
    return shape.format(**{part: f"({draw(parts)})" for part in "abc"}, n=draw(names))


expressions = st.recursive(names | literals, grown, max_leaves=12)
statements = st.one_of(
    expressions,
    st.builds("{} = {}".format, names, expressions),
    st.builds(
        "def {}(n={}):\n\n    with {} as m:\n        yield {}".format, names, *[expressions] * 3
    ),
    st.builds("for {} in {}:\n    try: {}\n    finally: {}".format, names, *[expressions] * 3),
    st.builds("class {}({}):\n    held = {}".format, names, expressions, expressions),
)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # calls of numbers and the like
@given(st.lists(statements, min_size=1, max_size=5))
def test_generated_code(parts: list[str]) -> None:
    check("\n".join(parts) + "\n")
