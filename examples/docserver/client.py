"""Ask the documentation server a fixed list of questions, a few at a time, and sum up the answers.

It stops after --requests answers or after --seconds, whichever comes first. What it prints depends
on the answers alone; pace and slowest answers go to standard error with --pace.

    python client.py http://127.0.0.1:8080 --requests 700 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import zlib
from dataclasses import dataclass, field

import aiohttp

START_SECONDS = 10.0
WORDS = ("import", "threading", "weakref", "memoryview", "deprecated", "surrogate", "yield from")
POSTED = "def area(radius):\n    'Area of a circle.'\n    return 3.14159 * radius ** 2\n" * 40


@dataclass
class Tally:
    """What came back: answers by status, bytes, one checksum, and how long each answer took."""

    statuses: dict[int, int] = field(default_factory=dict)
    size: int = 0
    checksum: int = 0
    seconds: list[float] = field(default_factory=list)


async def ask(session: aiohttp.ClientSession, number: int, modules: list[str]) -> tuple[int, bytes]:
    """The question of this number: mostly outlines, some posts, now and then a search."""
    if number % 25 == 24:
        question = session.get("/search", params={"q": WORDS[number // 25 % len(WORDS)]})
    elif number % 5 == 4:
        question = session.post("/outline", data=POSTED)
    else:
        question = session.get(f"/outline/{modules[number * 7 % len(modules)]}")
    async with question as response:
        return response.status, await response.read()


async def worker(
    session: aiohttp.ClientSession, numbers: list[int], modules: list[str], tally: Tally
) -> None:
    while numbers:
        number = numbers.pop()
        started = time.perf_counter()
        status, body = await ask(session, number, modules)
        tally.seconds.append(time.perf_counter() - started)
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.size += len(body)
        tally.checksum ^= zlib.crc32(body, number)


async def names_of_modules(session: aiohttp.ClientSession) -> list[str]:
    """The first question; a server that is still starting is waited for."""
    deadline = time.perf_counter() + START_SECONDS
    while True:
        try:
            async with session.get("/modules") as response:
                names: list[str] = await response.json()
                return names
        except aiohttp.ClientConnectionError:
            if time.perf_counter() > deadline:
                raise
            await asyncio.sleep(0.05)


async def load(url: str, requests: int, seconds: float, parallel: int) -> Tally:
    tally = Tally()
    async with aiohttp.ClientSession(url) as session:
        modules = await names_of_modules(session)
        numbers = list(range(requests - 1, -1, -1))
        work = asyncio.gather(*(worker(session, numbers, modules, tally) for _ in range(parallel)))
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            print(f"stopped after {seconds:g} s, {len(numbers)} not asked", file=sys.stderr)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=700)
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest it may take")
    parser.add_argument("--parallel", type=int, default=4, help="questions asked at a time")
    parser.add_argument("--pace", action="store_true", help="print rate and P99 to standard error")
    options = parser.parse_args()

    started = time.perf_counter()
    try:
        tally = asyncio.run(load(options.url, options.requests, options.seconds, options.parallel))
    except aiohttp.ClientError as error:
        print(f"no answer from {options.url} ({error}): start server.py first", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    answers = sum(tally.statuses.values())
    statuses = ", ".join(f"{count} x {code}" for code, count in sorted(tally.statuses.items()))
    print(f"{answers} answers ({statuses}), {tally.size} bytes, checksum {tally.checksum:08x}")
    if options.pace and tally.seconds:
        rate = answers / (time.perf_counter() - started)
        p99 = sorted(tally.seconds)[int(len(tally.seconds) * 0.99)]
        print(f"{rate:.0f} answers a second, P99 {p99 * 1000:.1f} ms", file=sys.stderr)
    return 0 if answers == options.requests else 1


if __name__ == "__main__":
    raise SystemExit(main())
