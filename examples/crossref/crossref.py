"""Cross-reference the standard library: which functions are called most, and from how far away.

Every module is parsed into a concrete syntax tree (libcst), and all trees are kept, since a
reference can point to any other module. Then definitions and calls are collected and joined by
name. The report lists the functions called most from other modules and the modules with the most
undocumented public functions.

    python crossref.py --kilobytes 1400
"""

from __future__ import annotations

import argparse
import builtins
import sysconfig
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

BUILTIN = {
    name for owner in (builtins, str, bytes, list, dict, set, int, float) for name in dir(owner)
}
SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}


@dataclass(slots=True)
class Module:
    """One parsed module and what was found in it."""

    name: str
    tree: cst.Module
    defined: list[str] = field(default_factory=list)
    undocumented: list[str] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)


class Collector(cst.CSTVisitor):
    """Walks a tree and notes definitions, missing docstrings and calls in its module."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        name = node.name.value
        self.module.defined.append(name)
        if not name.startswith("_") and node.get_docstring() is None:
            self.module.undocumented.append(name)

    def visit_Call(self, node: cst.Call) -> None:
        match node.func:
            case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
                self.module.called[name] += 1


def parse_library(limit_bytes: int) -> list[Module]:
    """Parses the library's modules in a fixed order until so many bytes of source are read."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not SKIPPED.isdisjoint(relative.parts):
            continue
        source = path.read_bytes()
        limit_bytes -= len(source)
        if limit_bytes < 0:
            break
        name = ".".join(relative.with_suffix("").parts)
        modules.append(Module(name, cst.parse_module(source)))
    return modules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kilobytes", type=int, default=1400, help="how much source to parse")
    options = parser.parse_args()

    modules = parse_library(options.kilobytes * 1000)
    for module in modules:
        module.tree.visit(Collector(module))

    homes: defaultdict[str, list[Module]] = defaultdict(list)
    for module in modules:
        for name in set(module.defined):
            homes[name].append(module)
    calls: Counter[str] = Counter()
    callers: Counter[str] = Counter()
    for module in modules:
        for name, count in module.called.items():
            if name in BUILTIN or len(homes[name]) != 1 or homes[name][0] is module:
                continue
            target = f"{homes[name][0].name}.{name}"
            calls[target] += count
            callers[target] += 1

    print(f"{len(modules)} modules, {sum(len(module.defined) for module in modules)} functions")
    print("called most from other modules:")
    for name, count in sorted(calls.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(f"  {name:40} {count:5} calls from {callers[name]} modules")
    print("most public functions without a docstring:")
    for module in sorted(modules, key=lambda module: (-len(module.undocumented), module.name))[:5]:
        print(f"  {module.name:40} {len(module.undocumented):5} of {len(module.defined)}")


if __name__ == "__main__":
    main()
