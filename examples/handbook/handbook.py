"""Make one HTML handbook of the standard library out of its docstrings.

The docstrings of every module, class and function are read as Markdown and rendered, each into a
chapter, with an index of their headings. Nothing is imported: the sources are only parsed.

    python handbook.py --docstrings 6000
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import sysconfig
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from markdown_it import MarkdownIt

SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings() -> Iterator[tuple[str, str]]:
    """Title and docstring of everything documented, module by module in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not SKIPPED.isdisjoint(relative.parts):
            continue
        module = ".".join(relative.with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node, clean=False)):
                title = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield title, inspect.cleandoc(text)


def render(title: str, text: str) -> str:
    """One chapter."""
    markdown = MarkdownIt("commonmark", {"typographer": True}).enable(["table", "replacements"])
    chapter: str = markdown.render(f"## {title}\n\n{text}\n")
    return chapter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--docstrings", type=int, default=6000, help="how many to render")
    options = parser.parse_args()

    digest = hashlib.sha1()
    sizes: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    count = 0
    for title, text in islice(docstrings(), options.docstrings):
        chapter = render(title, text)
        digest.update(chapter.encode())
        sizes[title.partition(".")[0]] += len(chapter)
        elements.update(part.partition(">")[0] for part in chapter.split("<") if part[:1].isalpha())
        count += 1

    print(f"{count} chapters, {sum(sizes.values())} characters, sha1 {digest.hexdigest()}")
    for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:8]:
        print(f"  {name:24} {size:8}")
    print(", ".join(f"{count} {tag}" for tag, count in sorted(elements.items())[:12]))


if __name__ == "__main__":
    main()
