"""Build a browsable source reference of the standard library: one page a module, and an index.

Each page lists the module's classes and functions with links into the numbered, escaped source
below. The pages are rendered by jinja2 and are not kept: printed are their sizes, a checksum, and
the modules with the most definitions.

    python reference.py --kilobytes 25000
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined

SKIPPED = {"__pycache__", "site-packages", "dist-packages"}
DEFINITION = re.compile(r"^( *)(class|def|async def) (\w+)")
TEMPLATES = {
    "layout.html": """<!doctype html>
<html><head><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1>{% block body %}{% endblock %}</body></html>
""",
    "module.html": """{% extends "layout.html" %}
{% macro link(definition) -%}
<a href="#L{{ definition.line }}" class="{{ definition.kind | replace(' ', '-') }}">
{{- definition.name }}</a>
{%- endmacro %}
{% block body %}
<ul>
{% for definition in definitions %}
<li style="margin-left: {{ definition.depth }}em">{{ link(definition) }}</li>
{% endfor %}
</ul>
<pre>
{% for line in lines %}
<span id="L{{ loop.index }}">{{ "%5d" | format(loop.index) }}  {{ line }}</span>
{% endfor %}
</pre>
{% endblock %}
""",
    "index.html": """{% extends "layout.html" %}
{% block body %}
{% for letter, group in modules | groupby("letter") %}
<h2>{{ letter | upper }}</h2>
{% for module in group %}<a href="{{ module.name }}.html">{{ module.name }}</a> {% endfor %}
{% endfor %}
{% endblock %}
""",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A class or function: where it is and how deep it is nested."""

    kind: str
    name: str
    line: int
    depth: int


@dataclass(frozen=True, slots=True)
class Module:
    """A module as the index shows it."""

    name: str
    letter: str
    definitions: int
    page_size: int


def sources(limit_bytes: int) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of the library's modules in a fixed order, up to so many bytes."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not SKIPPED.isdisjoint(relative.parts):
            continue
        limit_bytes -= path.stat().st_size
        if limit_bytes < 0:
            return
        text = path.read_text("utf-8", errors="replace")
        yield ".".join(relative.with_suffix("").parts), text.splitlines()


def definitions_in(lines: list[str]) -> list[Definition]:
    return [
        Definition(match[2], match[3], number, len(match[1]) // 4)
        for number, line in enumerate(lines, start=1)
        if (match := DEFINITION.match(line))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kilobytes", type=int, default=25000, help="how much source to publish")
    options = parser.parse_args()

    environment = Environment(
        loader=DictLoader(TEMPLATES), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    template = environment.get_template("module.html")
    digest = hashlib.sha1()
    modules = []
    for name, lines in sources(options.kilobytes * 1000):
        definitions = definitions_in(lines)
        page = template.render(title=name, definitions=definitions, lines=lines).encode()
        digest.update(page)
        modules.append(Module(name, name[0].lower(), len(definitions), len(page)))
    index = environment.get_template("index.html").render(title="Modules", modules=modules).encode()
    digest.update(index)

    total = sum(module.page_size for module in modules)
    print(f"{len(modules)} pages, {total} bytes, index of {len(index)} bytes")
    print(f"sha1 of all pages: {digest.hexdigest()}")
    for module in sorted(modules, key=lambda module: (-module.definitions, module.name))[:8]:
        print(f"  {module.name:32} {module.definitions:5} definitions {module.page_size:8} bytes")


if __name__ == "__main__":
    main()
