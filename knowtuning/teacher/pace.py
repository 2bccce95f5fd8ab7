"""How many calls may be under way: what the endpoint bears, learnt from what it says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress


class Pace:
    """At most `most` calls at once: half as many after a 429, one more after each round of calls that go well.

    There are also no more than the endpoint says it has room for (`x-ratelimit-remaining-*`), though always one. A
    Retry-After holds back every call and not only the one that it came with.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self._room = math.inf
        self._busy = 0
        self._cut = 0.0
        self._resume = 0.0
        self._changed = asyncio.Event()

    async def enter(self) -> float:
        """Wait for a place, which a call holds until `leave`; returns when it started."""
        while self._busy >= max(1, int(min(self.limit, self._room))) or time.monotonic() < self._resume:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(self._resume - time.monotonic(), 0) or None)
        self._busy += 1
        return time.monotonic()

    def leave(self) -> None:
        """Give the place back."""
        self._busy -= 1
        self._changed.set()

    def succeeded(self, headers: Mapping[str, str], tokens: float) -> None:
        """A call of about `tokens` went well: allow a little more, within what its reply says is left."""
        self.limit = min(self.limit + 1 / self.limit, self.most)
        room = [math.inf]
        for unit, size in (("requests", 1), ("tokens", tokens)):
            with suppress(ValueError):
                room.append(float(headers.get(f"x-ratelimit-remaining-{unit}", "inf")) / size)
        self._room = min(room)

    def throttled(self, started: float, retry_after: float | None) -> None:
        """A 429 to a call that started then: fewer at once, though only once for all calls of one burst."""
        if started > self._cut:
            self.limit = max(1.0, min(self.limit, float(self._busy)) / 2)
            self._cut = time.monotonic()
        self._resume = max(self._resume, time.monotonic() + (retry_after or 0.0))
