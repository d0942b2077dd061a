"""No object ever has two owners: threads that get, keep, put, drop, trim, die and are born.

    python tests/threads/stress.py --operations 1000000
    python tests/threads/stress.py --operations 100000000 --threads 8     (make stress)

Every thing carries a cookie, and an owner while it is out: `get` must find the owner empty, `put`
its own name. Threads live for a few thousand operations and leave what they hold to the next, as
survivors; some puts are left out at random. In the end no thing was lost that the pool counts.
Ends with 1 and a sentence at the first fault; --seed repeats the choices, not the schedule.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from typing import Any

import poolwise

LIFE = 5_000  # operations of one thread
HANDS = 40  # things a thread holds at most
COOKIE = 0x5EED


class Fault(Exception):
    """What must not be."""


class Thing:
    """What the pool makes: numbered, and marked with whoever has it."""

    __slots__ = ("cookie", "owner")

    def __init__(self) -> None:
        self.owner: object = None
        self.cookie = COOKIE ^ id(self)


class Stress:
    """One pool, and what happens to it."""

    def __init__(self, policy: Any, seed: int) -> None:
        self.pool = poolwise.Pool(Thing, trim=policy, max_age=2, trim_seconds=0.01)
        self.survivors: list[list[Thing]] = []
        self.lock = threading.Lock()
        self.faults: list[str] = []
        self.seed = seed

    def take(self, me: object) -> Thing:
        """A thing that nobody has."""
        thing = self.pool.get()
        if thing.owner is not None:
            raise Fault(f"get gave a thing that {thing.owner} has")
        if thing.cookie != COOKIE ^ id(thing):
            raise Fault("get gave a thing whose cookie is not its own")
        thing.owner = me
        return thing

    def give(self, thing: Thing, me: object) -> None:
        """Back to the pool."""
        if thing.owner is not me:
            raise Fault(f"a thing of {me} was taken over by {thing.owner}")
        thing.owner = None
        self.pool.put(thing)

    def live(self, number: int) -> None:
        """One thread's life."""
        try:
            self._live(number)
        except Exception as error:
            self.faults.append(f"{type(error).__name__}: {error}")

    def _live(self, number: int) -> None:
        me = f"thread {number}"
        choose = random.Random(self.seed * 1_000_003 + number)
        with self.lock:
            hands = self.survivors.pop() if self.survivors else []
        for thing in hands:
            thing.owner = me
        for _ in range(LIFE):
            what = choose.random()
            if what < 0.5 and len(hands) < HANDS:
                hands.append(self.take(me))
            elif what < 0.95 and hands:
                thing = hands.pop(choose.randrange(len(hands)))
                self.give(thing, me)
                del thing
            elif what < 0.97 and hands:
                hands.pop()  # a put that never comes
            elif what < 0.9705:
                self.pool.trim()
            elif what < 0.9706:
                self.pool.clear()
        with self.lock:
            self.survivors.append(hands)

    def run(self, operations: int, threads: int, progress: bool) -> None:
        """Lives one after the other, so many threads at once. Raises Fault."""
        lives = max(1, operations // LIFE)
        running: list[threading.Thread] = []
        said = time.monotonic()
        for number in range(lives):
            thread = threading.Thread(target=self.live, args=(number,))
            thread.start()
            running.append(thread)
            if len(running) >= threads:
                running.pop(0).join()
            if self.faults:
                break
            if progress and time.monotonic() > said + 5:
                said = time.monotonic()
                print(f"{100 * number // lives} % …", file=sys.stderr)
        for thread in running:
            thread.join()
        if self.faults:
            raise Fault(self.faults[0])
        stats = self.pool.stats()
        if not self.pool._check() or stats.hits + stats.misses != stats.gets:
            raise Fault(f"the counters do not add up: {stats}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=4, help="at once (default 4)")
    parser.add_argument("--policy", default="demand", help="of the trims (default demand)")
    parser.add_argument("--seed", type=int, default=1)
    ns = parser.parse_args()
    sys.setswitchinterval(1e-5)
    stress = Stress(ns.policy, ns.seed)
    start = time.monotonic()
    try:
        stress.run(ns.operations, ns.threads, progress=True)
    except Fault as fault:
        sys.exit(f"stress: {fault} (--policy {ns.policy} --seed {ns.seed})")
    stats = stress.pool.stats()
    print(
        f"{stats.gets} gets in {time.monotonic() - start:.0f} s, hit rate {stats.hit_rate:.3f}, "
        f"{stats.hits_stolen} stolen, {stats.hits_depot} from the depot, {stats.trims} trims, "
        f"{len(stress.pool.locals())} locals: every thing had one owner"
    )


if __name__ == "__main__":
    main()
