"""What `Pool` does in one thread, in plain lists: which object a get gives, what a trim drops.

Objects are numbers here, so that the model holds none. A list of the idle ends with its newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

HELD_MAX, LOOKS, PINS_MAX, BATCH = 32, 8, 3, 64


@dataclass
class Part:
    """A queue, and the fewest that were in since its period began, as its owner saw."""

    items: list[int] = field(default_factory=list)
    low: int = 0

    def pop(self) -> int | None:
        if not self.items:
            self.low = 0
            return None
        item = self.items.pop()
        self.low = min(self.low, len(self.items))
        return item

    def end_period(self) -> int:
        low = min(self.low, len(self.items))
        self.low = len(self.items)
        return low


class Model:
    """`held_by_others(number)`: whether somebody beside the pool refers to it, weakly or not."""

    def __init__(
        self,
        held_by_others: Callable[[int], bool],
        *,
        policy: str,
        max_age: int,
        max_idle: int | None,
        strict_limit: bool,
        narrow: bool,
    ) -> None:
        self.held_by_others = held_by_others
        self.policy = policy
        self.max_idle = max_idle
        self.strict_limit = strict_limit  # every put looks at max_idle
        self.narrow = narrow  # no private part
        self.slots: dict[str, int | None] = {"second": None, "newest": None}
        self.shared, self.depot, self.victim = Part(), Part(), Part()
        self.aside: list[tuple[int, int]] = []  # number, trims that found it held
        self.leaving: list[int] = []  # dropped, and the reference not yet given up
        self.lows = [0] * max_age
        self.trims = self.gets = self.gets_at_trim = self.regrettable = 0
        self.count: Counter[str] = Counter()

    # ---- who is idle

    @property
    def private(self) -> list[int]:
        return [each for each in self.slots.values() if each is not None]

    def idle(self) -> int:
        return (
            len(self.private)
            + len(self.shared.items)
            + len(self.depot.items)
            + len(self.victim.items)
        )

    def everywhere(self) -> list[int]:
        idle = self.private + self.shared.items + self.depot.items + self.victim.items
        return idle + [number for number, _ in self.aside]

    def sole(self, number: int, own: int = 0) -> bool:
        """`own`: how many references the model's lists should still have to it (it is out)."""
        references = self.everywhere().count(number) + self.leaving.count(number)
        return references == own and not self.held_by_others(number)

    def leave(self, number: int) -> None:
        self.count["dropped_pinned"] += 1
        self.leaving.append(number)

    # ---- get and put

    def get(self) -> int | None:
        """None: the factory makes a new one."""
        self.gets += 1
        item = self.take()
        self.leaving.clear()
        if item is not None:
            return item
        self.count["misses_held" if self.everywhere() else "misses_empty"] += 1
        if self.regrettable:
            self.regrettable -= 1
            self.count["regret"] += 1
        return None

    def take(self) -> int | None:
        for slot in "newest", "second":
            found = self.slots[slot]
            if found is not None and self.sole(found, own=1):
                self.count["hits_private"] += 1
                return self.take_private(slot)
        if self.slots["second"] is not None:  # the newest may be a loop's own variable: it stays
            self.put_aside(self.take_private("second"), 0)
        looks = {
            "shared": lambda: self.look(self.shared),
            "depot": lambda: self.look(self.depot),
            "held": self.look_aside,
            "victim": lambda: self.look(self.victim),
        }
        for where, look in looks.items():
            item = look()
            if item is not None:
                self.count[f"hits_{where}"] += 1
                return item
        return None

    def take_private(self, slot: str) -> int:
        number, self.slots[slot] = self.slots[slot], None
        assert number is not None
        return number

    def look(self, part: Part) -> int | None:
        for _ in range(LOOKS):
            item = part.pop()
            if item is None or self.sole(item):
                return item
            self.put_aside(item, 0)
        return None

    def look_aside(self) -> int | None:
        for at, (number, _) in enumerate(self.aside):
            if self.sole(number, own=1):
                self.take_aside(at)
                return number
        return None

    def take_aside(self, at: int) -> tuple[int, int]:
        taken, last = self.aside[at], self.aside.pop()
        if at < len(self.aside):
            self.aside[at] = last
        return taken

    def put_aside(self, number: int, pins: int) -> None:
        if self.sole(number):
            self.depot.items.append(number)
        elif len(self.aside) < HELD_MAX:
            self.aside.append((number, pins))
        else:
            self.leave(number)

    def put(self, number: int) -> None:
        room = len(self.private) < 2 and not self.narrow
        full = self.max_idle is not None and self.idle() >= self.max_idle
        if full and (self.strict_limit or not room):
            self.count["dropped_full"] += 1
            return
        if self.narrow:
            self.shared.items.append(number)
        elif self.slots["newest"] is None:
            self.slots["newest"] = number
        else:
            if self.slots["second"] is not None:
                self.shared.items.append(self.slots["second"])
            self.slots = {"second": self.slots["newest"], "newest": number}

    # ---- what leaves

    def clear(self) -> int:
        gone = len(self.everywhere())
        self.slots = {"second": None, "newest": None}
        self.aside.clear()
        for part in self.shared, self.depot, self.victim:
            part.items.clear()
        return gone

    def trim(self) -> int:
        resting = self.gets == self.gets_at_trim
        self.gets_at_trim = self.gets
        self.regrettable = 0
        self.look_at_aside()
        low = self.depot.end_period() + self.shared.end_period()
        low += len(self.private) if resting else 0
        self.count["waste"] += low
        surplus = self.surplus(low)
        self.trims += 1
        self.look_at_private(resting)
        while self.shared.items:
            self.put_aside(self.shared.items.pop(0), 1)
            if len(self.leaving) == BATCH:
                self.leaving.clear()
        self.leaving.clear()
        self.shared.low = 0
        self.count["pinned"] = len(self.aside)
        dropped = self.drop(surplus, resting)
        self.depot.end_period()
        self.regrettable = dropped
        return dropped

    def look_at_aside(self) -> None:
        for at in range(len(self.aside) - 1, -1, -1):
            number, pins = self.aside[at]
            if self.sole(number, own=1):
                self.take_aside(at)
                self.depot.items.append(number)
            elif pins + 1 >= PINS_MAX:
                self.take_aside(at)
                self.leave(number)
            else:
                self.aside[at] = number, pins + 1
        self.leaving.clear()

    def surplus(self, low: int) -> int:
        if self.policy == "demand":
            return (low + 1) // 2
        if self.policy != "aged":
            return 0
        self.lows[self.trims % len(self.lows)] = low
        surplus = min(self.lows)
        self.lows = [each - surplus for each in self.lows]
        return surplus

    def look_at_private(self, resting: bool) -> None:
        """The newest only at rest: it may be a loop's own variable."""
        for slot in ("second", "newest") if resting else ("second",):
            number = self.slots[slot]
            if number is not None and not self.sole(number, own=1):
                self.put_aside(self.take_private(slot), 1)

    def drop(self, surplus: int, resting: bool) -> int:
        if self.policy == "clear":
            return self.clear()
        if self.policy == "victim":
            dropped = len(self.victim.items)
            self.victim.items = self.depot.items
            self.depot.items = []
            for slot, number in self.slots.items():
                if number is not None and (slot == "second" or self.sole(number, own=1)):
                    self.victim.items.append(self.take_private(slot))
            return dropped
        dropped = min(surplus, len(self.depot.items) + (len(self.private) if resting else 0))
        from_depot = min(dropped, len(self.depot.items))
        del self.depot.items[:from_depot]
        filled = [slot for slot, number in self.slots.items() if number is not None]
        for slot in filled[: dropped - from_depot]:
            self.take_private(slot)
        return dropped
