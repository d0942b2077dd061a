"""Serve the outlines of the standard library's modules over HTTP, as JSON and as a search.

    GET /modules                 names of all modules
    GET /outline/NAME            classes and functions of a module with their first doc line
    GET /search?q=WORD           where a word occurs in the sources
    POST /outline                the outline of the Python source in the body

Without --requests it serves until it is told to stop. With --requests N it starts client.py against
itself, and ends when the client has its N answers:

    python server.py --port 8080
    python server.py --port 0 --requests 700
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web

SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Entry:
    """One class or function of an outline."""

    name: str
    line: int
    summary: str


def read_library() -> dict[str, str]:
    root = Path(sysconfig.get_path("stdlib"))
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path.read_text("utf-8", "replace")
        for path in sorted(root.rglob("*.py"))
        if SKIPPED.isdisjoint(path.relative_to(root).parts)
    }


def outline_of(source: str) -> list[Entry]:
    entries = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DEFINITIONS):
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            entries.append(Entry(node.name, node.lineno, summary))
    return sorted(entries, key=lambda entry: entry.line)


def outline_response(module: str, source: str) -> web.Response:
    try:
        entries = outline_of(source)
    except SyntaxError as error:
        raise web.HTTPBadRequest(text=f"{module} is not Python: {error}") from error
    return web.json_response({"module": module, "entries": [asdict(entry) for entry in entries]})


class Documentation:
    """The handlers, over the sources of all modules."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/modules", self.modules),
            web.get("/outline/{name}", self.outline),
            web.post("/outline", self.outline_of_body),
            web.get("/search", self.search),
        ]

    async def modules(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.sources))

    async def outline(self, request: web.Request) -> web.Response:
        module = request.match_info["name"]
        if module not in self.sources:
            raise web.HTTPNotFound(text=f"no module {module}")
        return outline_response(module, self.sources[module])

    async def outline_of_body(self, request: web.Request) -> web.Response:
        return outline_response("<posted>", await request.text())

    async def search(self, request: web.Request) -> web.Response:
        word = request.query.get("q", "")
        if not word:
            raise web.HTTPBadRequest(text="say what to search for: /search?q=WORD")
        found = [
            {"module": module, "line": number, "text": line.strip()}
            for module, source in self.sources.items()
            if word in source
            for number, line in enumerate(source.splitlines(), start=1)
            if word in line
        ]
        return web.json_response({"count": len(found), "found": found[:50]})


async def serve(port: int, requests: int | None) -> int:
    """Serves until cancelled, or until the client is done; returns the client's exit code."""
    app = web.Application()
    app.add_routes(Documentation(read_library()).routes())
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        print(f"serving on {url}", file=sys.stderr, flush=True)
        if requests is None:
            await asyncio.Event().wait()
            return 0
        script = str(Path(__file__).with_name("client.py"))
        client = await asyncio.create_subprocess_exec(
            sys.executable, script, url, "--requests", str(requests)
        )
        return await client.wait()
    finally:
        await runner.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8080, help="0 takes any free port")
    parser.add_argument("--requests", type=int, help="end after so many answers to a client")
    options = parser.parse_args()
    try:
        return asyncio.run(serve(options.port, options.requests))
    except OSError as error:
        print(f"cannot serve on port {options.port} ({error}): try --port 0", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
