"""How many calls may be under way: what the endpoint bears, learnt from what it says."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress


class Throttle:
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
        self._waiting: deque[asyncio.Future] = deque()

    async def enter(self) -> float:
        """Wait for a place, which a call holds until `leave`; returns when it started."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise
        return time.monotonic()

    def leave(self) -> None:
        """Give the place back."""
        self._busy -= 1
        self._admit()

    def _admit(self) -> None:
        """Give free places to those who wait, the first first."""
        while self._waiting and self._busy < max(1, int(min(self.limit, self._room))):
            if (held := self._resume - time.monotonic()) > 0:
                asyncio.get_running_loop().call_later(held, self._admit)
                return
            place = self._waiting.popleft()
            if not place.done():
                self._busy += 1
                place.set_result(None)

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
