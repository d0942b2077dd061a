"""The verdicts' changes as a unified diff, for `poolwise try --against`.

Only changes of a known form are written:

- `x = Class(…)` becomes `with _pool.lease() as x:` around the rest of its block. A pooled object
  that somebody still holds is never handed out again, so an object that escapes costs a miss,
  not a bug; whether a used object needs a `reset` is for a human to say.
- `bytearray(n)` becomes a view of a pooled block, or of one made once. It is not zeroed each time,
  which is where the gain is: a line at the head of the diff says so, and `try` compares what both
  programs print.

What cannot be changed this way is said in a line at the head of the diff.
"""

from __future__ import annotations

import ast
import difflib
import io
import os
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from poolwise.advise.forms import is_size
from poolwise.advise.verdicts import BUFFER_POOL, POOL, PREALLOCATE, Advice, Verdict

INDENT = "    "


@dataclass(frozen=True, slots=True)
class _Refused(Exception):
    why: str


def diff(advice: Advice, root: str = "") -> str:
    """A unified diff of all changes; empty of changes if no verdict asks for one.

    Files are named relative to the current directory, or to `root`, the program's, if they are
    not below it: `poolwise try` looks in both.
    """
    by_file: dict[str, list[Verdict]] = {}
    for verdict in advice.verdicts:
        if verdict.site is not None and verdict.verdict in (POOL, BUFFER_POOL, PREALLOCATE):
            by_file.setdefault(verdict.site.file, []).append(verdict)
    head: list[str] = []
    body: list[str] = []
    for file, verdicts in sorted(by_file.items()):
        try:
            old = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            head.append(f"# {file}: not changed: cannot be read ({error})")
            continue
        new = old
        # From the bottom up: a change moves only the lines below it.
        for verdict in sorted(verdicts, key=lambda v: -_line(v)):
            try:
                new = _changed(new, verdict)
                if verdict.verdict != POOL:
                    head.append(f"# {file}:{_line(verdict)}: the block is no longer zeroed")
            except _Refused as refused:
                head.append(f"# {file}:{_line(verdict)}: not changed: {refused.why}")
        if new != old:
            name = os.path.relpath(file)
            if name.startswith(os.pardir):
                name = os.path.relpath(file, root or None)
            body += difflib.unified_diff(
                old.splitlines(keepends=True),
                new.splitlines(keepends=True),
                f"a/{name}",
                f"b/{name}",
            )
    return "".join(line + "\n" for line in head) + "".join(body)


def _line(verdict: Verdict) -> int:
    return (verdict.site.position.line if verdict.site else None) or 0


def _changed(source: str, verdict: Verdict) -> str:
    site = verdict.site
    assert site is not None
    tree = ast.parse(source)
    call = _call_at(tree, site.position.line, site.position.column)
    if verdict.verdict == POOL:
        return _with_lease(source, tree, call, site.type or ast.unparse(call.func))
    if isinstance(call.func, ast.Name) and call.func.id == "bytearray":
        if not is_size(call):
            raise _Refused("it is made from data, which has to be copied in; the report shows how")
        return _reused_bytes(source, tree, call, verdict)
    raise _Refused("shapes and sizes are for you to choose; the report shows the form to write")


def _call_at(tree: ast.Module, line: int | None, column: int | None) -> ast.Call:
    """The outermost call that begins there: what `Class(…).configured()` gives is worth keeping."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (node.lineno, node.col_offset) == (line, column):
            return node
    raise _Refused("there is no call at this place")


def _with_lease(source: str, tree: ast.Module, call: ast.Call, type_name: str) -> str:
    block, index, function = _statement_of(tree, call)
    statement = block[index]
    if not (
        isinstance(statement, ast.Assign)
        and statement.value is call
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
    ):
        raise _Refused("the object gets no name of its own here; give it one, then lease it")
    name = statement.targets[0].id
    rest = block[index + 1 :]
    if not rest:
        raise _Refused(f"{name} is used outside the block that makes it")
    inside = {id(node) for following in rest for node in ast.walk(following)}
    for node in ast.walk(function):
        named = isinstance(node, ast.Name) and node.id == name
        if named and id(node) not in inside and node is not statement.targets[0]:
            raise _Refused(f"{name} is used outside the block that makes it")
    _check_names(call, function)
    lines = source.splitlines(keepends=True)
    first, last = statement.lineno - 1, (rest[-1].end_lineno or rest[-1].lineno) - 1
    if _has_long_string(source, first + 1, last + 1):
        raise _Refused("a string over several lines stands in the block; indent it by hand")
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    pool = f"_{_snake(type_name)}_pool"
    body = lines[(statement.end_lineno or statement.lineno) : last + 1]
    lines[first : last + 1] = [
        f"{indent}with {pool}.lease() as {name}:\n",
        *(INDENT + line if line.strip() else line for line in body),
    ]
    return _with_definition(
        "".join(lines), tree, call, f"{pool} = poolwise.Pool(lambda: {ast.unparse(call)})"
    )


def _reused_bytes(source: str, tree: ast.Module, call: ast.Call, verdict: Verdict) -> str:
    lines = source.splitlines(keepends=True)
    row = call.lineno - 1
    if call.end_lineno != call.lineno:
        raise _Refused("the call stands over several lines")
    if verdict.verdict == PREALLOCATE:
        _check_names(call, _statement_of(tree, call)[2])
        new = f"_buffer_{call.lineno}"
        definition = f"{new} = memoryview({ast.unparse(call)})"
    else:
        new = f"memoryview(_buffers.acquire({ast.unparse(call.args[0])}))"
        size = 1 << max(verdict.memory_bytes // max(verdict.capacity, 1) - 1, 1).bit_length()
        limit = size * (verdict.capacity + 1)
        definition = f"_buffers = poolwise.BufferPool(max_size={size}, max_bytes={limit})"
    raw = lines[row].encode()
    lines[row] = (raw[: call.col_offset] + new.encode() + raw[call.end_col_offset :]).decode()
    return _with_definition("".join(lines), tree, call, definition)


def _statement_of(
    tree: ast.Module, call: ast.Call
) -> tuple[list[ast.stmt], int, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The block and place of the statement that holds the call, and the function around it."""
    found: tuple[list[ast.stmt], int, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef] | None
    found = None

    def visit(node: ast.AST, function: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        nonlocal found
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node
        for _, value in ast.iter_fields(node):
            if not isinstance(value, list):
                continue
            for index, child in enumerate(value):
                if isinstance(child, ast.stmt) and any(n is call for n in ast.walk(child)):
                    found = (value, index, function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, tree)
    if found is None:
        raise _Refused("there is no statement around this call")
    return found


def _check_names(call: ast.Call, function: ast.AST) -> None:
    """The pool is made at the top of the module: its factory may not use a function's names."""
    if isinstance(function, ast.Module):
        return
    local = {
        node.id for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}  # fmt: skip
    used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    if used & local:
        raise _Refused(f"its arguments use the function's own {', '.join(sorted(used & local))}")


def _has_long_string(source: str, first: int, last: int) -> bool:
    return any(
        token.type == tokenize.STRING
        and token.start[0] != token.end[0]
        and token.end[0] >= first
        and token.start[0] <= last
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
    )


def _with_definition(source: str, tree: ast.Module, call: ast.Call, definition: str) -> str:
    """Put the pool before the top-level statement that uses it, and the import at the top."""
    lines = source.splitlines(keepends=True)
    if definition.partition(" = ")[0] + " = " not in source:
        around = next(s for s in tree.body if any(node is call for node in ast.walk(s)))
        decorators = getattr(around, "decorator_list", [])
        at = min([around.lineno, *(d.lineno for d in decorators)]) - 1
        lines[at:at] = [definition + "\n", "\n", "\n"]
    if "poolwise." in definition and not re.search(r"^import poolwise$", source, re.MULTILINE):
        imports = [s for s in tree.body if isinstance(s, ast.Import | ast.ImportFrom)]
        top = imports[-1].end_lineno or 0 if imports else _after_docstring(tree)
        lines[top:top] = ["import poolwise\n"]
    return "".join(lines)


def _after_docstring(tree: ast.Module) -> int:
    return (tree.body[0].end_lineno or 0) if tree.body and ast.get_docstring(tree) else 0


def _snake(name: str) -> str:
    last = name.rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower()
