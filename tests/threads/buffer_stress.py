"""No block ever has two owners: threads that acquire, keep, release, hand over, die and are born.

    python tests/threads/buffer_stress.py --operations 100000

Each holder writes its mark to both ends of its block, and must find it there when it gives the
block back, by release() or by the last reference, in its own thread or in another. All the time one
thread trims, clears and asks for figures. In the end nothing is out. Then pools whose last
reference goes while two threads drop its buffers. Ends with 1 and a sentence at the first fault.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import threading

import poolwise

LIFE = 3_000  # operations of one thread
HANDS = 20  # buffers a thread holds at most
SIZES = (10, 100, 1000, 5000, 60_000, 70_000)  # the last is beyond the pool


class Stress:
    """One pool, and what threads hand to one another."""

    def __init__(self) -> None:
        self.pool = poolwise.BufferPool(max_size=1 << 16, max_bytes=4 << 20, trim_seconds=None)
        self.handed: queue.SimpleQueue[poolwise.Buffer] = queue.SimpleQueue()
        self.faults: list[str] = []
        self.ended = False

    def acquire(self, size: int, mark: int) -> tuple[poolwise.Buffer, int]:
        buffer = self.pool.acquire(size)
        with memoryview(buffer) as view:
            view[0] = view[-1] = mark
        return buffer, mark

    def check(self, buffer: poolwise.Buffer, mark: int) -> None:
        with memoryview(buffer) as view:
            if (view[0], view[-1]) != (mark, mark):
                self.faults.append(f"a block of {len(view)} bytes was written by somebody else")

    def live(self, seed: int) -> None:
        draw = random.Random(seed)
        held: list[tuple[poolwise.Buffer, int]] = []
        for turn in range(LIFE):
            what = draw.random()
            if len(held) < HANDS and (what < 0.5 or not held):
                held.append(self.acquire(draw.choice(SIZES), (seed + turn) & 0xFF))
                continue
            buffer, mark = held.pop(draw.randrange(len(held)))
            self.check(buffer, mark)
            if what < 0.75:
                buffer.release()
            elif what < 0.85:
                self.handed.put(buffer)
            elif not self.handed.empty():
                try:
                    buffer = self.handed.get_nowait()
                except queue.Empty:
                    continue

    def disturb(self) -> None:
        turn = 0
        while not self.ended:
            turn += 1
            self.pool.clear() if turn % 10 == 0 else self.pool.trim()
            stats = self.pool.stats()
            if stats.out_bytes + stats.idle_bytes > stats.max_bytes:
                self.faults.append(f"over budget: {stats}")


def orphan() -> None:
    """The pool's last reference goes while two threads drop its buffers."""
    pool = poolwise.BufferPool(max_size=64, max_bytes=1 << 16, trim_seconds=None)
    parts = [[pool.acquire(40) for _ in range(25)] for _ in range(2)]
    threads = [threading.Thread(target=part.clear) for part in parts]
    for thread in threads:
        thread.start()
    del pool
    for thread in threads:
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=4, help="at once (default 4)")
    ns = parser.parse_args()
    stress = Stress()
    disturber = threading.Thread(target=stress.disturb)
    disturber.start()
    rounds = -(-ns.operations // (LIFE * ns.threads))
    for turn in range(rounds):
        threads = [
            threading.Thread(target=stress.live, args=(turn * ns.threads + number,))
            for number in range(ns.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if stress.faults:
            break
    stress.ended = True
    disturber.join()
    while not stress.handed.empty():
        stress.handed.get()
    stats = stress.pool.stats()
    if stats.out or stats.out_bytes:
        stress.faults.append(f"not all came back: {stats}")
    if stress.faults:
        sys.exit(f"buffer stress: {stress.faults[0]}")
    for _ in range(100):
        orphan()
    print(f"{rounds * ns.threads * LIFE:,} operations: every block had one owner")


if __name__ == "__main__":
    main()
