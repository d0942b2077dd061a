"""The documentation's examples run, and the examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import poolwise
from poolwise.advise import report, verdicts
from poolwise.advise.gain import Gain

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
# Their imports run a benchmark's or a program's child.
CHILDREN = ("_child", "__main__", "program.child")
MODULES = ["poolwise"] + [
    module.name
    for module in pkgutil.walk_packages(poolwise.__path__, "poolwise.")
    if not module.name.endswith(CHILDREN) and module.name != "poolwise._core"
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sybil = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)])
    document = Document.parse(str(page), *sybil.parsers)
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with open(reader, "rb", buffering=0) as file, open(writer, "wb", buffering=0):
        # The docstrings of the C types begin in the middle.
        names = {
            "poolwise": poolwise,
            "pool": poolwise.Pool(bytearray),
            "buffers": poolwise.BufferPool(max_size=1 << 20, max_bytes=1 << 26),
            "file": file,
        }
        failed, _ = doctest.testmod(
            module,
            extraglobs=names if name == "poolwise" else None,
            optionflags=doctest.ELLIPSIS,
        )
    assert failed == 0


def test_the_core_types_have_examples() -> None:
    found = doctest.DocTestFinder(exclude_empty=True).find(poolwise)
    assert {test.name for test in found if test.examples} >= {
        "poolwise.Pool",
        "poolwise.BufferPool",
    }


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_json_page_names_every_key() -> None:
    advice = verdicts.Advice(
        verdicts=[
            verdicts.Verdict(
                verdict=verdicts.DONT, site=None, gain=Gain(0.0, 0.0, 0.0),
                memory_bytes=0, capacity=0, reason="", code="",
            )
        ],
        notes=[], cpu_seconds=1.0, page_faults=0,
    )  # fmt: skip
    page = (ROOT / "docs" / "reference" / "report-json.md").read_text()
    shown = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL).group(1))  # type: ignore[union-attr]
    made = report.to_json(advice, ["app.py"])
    assert list(shown) == list(made)
    assert list(shown["verdicts"][0]) == list(made["verdicts"][0])
    assert list(shown["verdicts"][0]["gain"]) == list(made["verdicts"][0]["gain"])
    for key in ("function", "file", "line", "expression", "type"):
        assert key in shown["verdicts"][0]["site"]
    assert shown["schema"] == report.SCHEMA


def test_every_verdict_has_a_page() -> None:
    folder = ROOT / "docs" / "explanation" / "verdicts"
    for verdict in (
        verdicts.DONT, verdicts.SETTINGS, verdicts.PREALLOCATE, verdicts.BUFFER_POOL, verdicts.POOL,
    ):  # fmt: skip
        page = folder / (verdict.replace("'", "").replace(" ", "-") + ".md")
        text = page.read_text()
        for heading in ("What it means", "Why", "When it is wrong", "What to write"):
            assert f"## {heading}" in text, f"{page.name}: {heading}"


def test_the_picture_is_made_from_a_report(tmp_path: Path) -> None:
    from_report = tmp_path / "report.json"
    from_report.write_text(
        json.dumps(
            {
                "schema": 1, "program": ["app.py"], "cpu_seconds": 2.0, "page_faults": 10,
                "verdicts": [
                    {
                        "verdict": "pool",
                        "site": {"function": "f", "file": "app.py", "line": 3,
                                 "expression": "Parser()", "type": "Parser"},
                        "gain": {"value": 0.1, "low": 0.09, "high": 0.11,
                                 "unit": "cpu_seconds_per_cpu_second"},
                        "memory_bytes": 0, "capacity": 1, "reason": "because", "code": "x",
                    }
                ],
                "notes": [],
            }
        )
    )  # fmt: skip
    picture = tmp_path / "picture.svg"
    subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_picture.py"), str(from_report), str(picture)],
        check=True,
    )
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "Parser()" in text
    loaded = text.replace("http://www.w3.org", "")
    assert not re.search("https?://", loaded)
