"""Publish the standard library as highlighted HTML, and report what its source is made of.

Each module is split into tokens by pygments and written as an HTML page into a temporary directory,
which is removed at the end. The report counts the kinds of tokens and names the densest modules.

    python highlight.py --kilobytes 2500
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pygments import lex
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from pygments.token import Comment, String, Token, Whitespace, _TokenType

NOT_CODE = (Comment, String, Whitespace, Token.Text)
SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}


@dataclass(frozen=True, slots=True)
class Page:
    """A module's page: how many lines of source, tokens that are code, and bytes of HTML."""

    module: str
    lines: int
    code_tokens: int
    html_bytes: int


def sources(limit_bytes: int) -> Iterator[tuple[str, str]]:
    """Name and source of the library's modules in a fixed order, up to so many bytes."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not SKIPPED.isdisjoint(relative.parts):
            continue
        limit_bytes -= path.stat().st_size
        if limit_bytes < 0:
            return
        yield ".".join(relative.with_suffix("").parts), path.read_text("utf-8", errors="replace")


def is_code(kind: _TokenType) -> bool:
    return not any(kind is family or kind.parent is family for family in NOT_CODE)


def publish(module: str, source: str, folder: Path, kinds: Counter[str]) -> Page:
    tokens = list(lex(source, PythonLexer()))
    kinds.update(str(kind) for kind, _ in tokens)
    html = HtmlFormatter(full=True, title=module, linenos="inline")
    target = folder / f"{module}.html"
    with target.open("w", encoding="utf-8") as file:
        html.format(tokens, file)
    return Page(
        module,
        lines=source.count("\n"),
        code_tokens=sum(is_code(kind) for kind, _ in tokens),
        html_bytes=target.stat().st_size,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kilobytes", type=int, default=2500, help="how much source to publish")
    options = parser.parse_args()

    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        pages = [
            publish(module, source, Path(folder), kinds)
            for module, source in sources(options.kilobytes * 1000)
        ]
        digest = hashlib.sha1()
        for file in sorted(Path(folder).iterdir()):
            digest.update(file.read_bytes())

    print(f"{len(pages)} pages, {sum(page.html_bytes for page in pages)} bytes of HTML")
    print(f"sha1 of all pages: {digest.hexdigest()}")
    for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:8]:
        print(f"  {kind.removeprefix('Token.'):28} {count:8}")
    dense = [page for page in pages if page.lines >= 100]
    dense.sort(key=lambda page: (-page.code_tokens / page.lines, page.module))
    print("densest modules, in tokens of code a line:")
    for page in dense[:5]:
        print(f"  {page.module:28} {page.code_tokens / page.lines:8.2f}")


if __name__ == "__main__":
    main()
