"""How many calls may be under way, and how fast they may start: what the endpoint bears, learnt from what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

CUT = 0.5  # the share of the calls under way that is kept after a 429


class Bucket:
    """A token bucket: `per_minute` units, of which one minute's worth may be spent at once; None is no limit."""

    def __init__(self, per_minute: float | None = None) -> None:
        self.per_minute = per_minute
        self._level = per_minute or 0.0
        self._since = time.monotonic()

    def limit(self, per_minute: float) -> None:
        """Take over a limit that the endpoint names, unless a lower one was set."""
        if self.per_minute is None or per_minute < self.per_minute:
            self._level = per_minute if self.per_minute is None else min(self._level, per_minute)
            self.per_minute = per_minute

    def know(self, left: float) -> None:
        """Take over how much the endpoint says is left; what it does not know of yet was taken here already."""
        self._level = min(self._level, left)

    def take(self, units: float) -> float:
        """Take units out; the seconds to wait before using them (they are taken all the same)."""
        if self.per_minute is None:
            return 0.0
        now = time.monotonic()
        self._level = min(self._level + (now - self._since) * self.per_minute / 60, self.per_minute) - units
        self._since = now
        return max(0.0, -self._level * 60 / self.per_minute)


class Pace:
    """At most `concurrency` calls at once: halved at a 429, growing again by one a round of calls that go well.

    A Retry-After holds back every call and not only the one that it came with. Limits per minute are those given here
    or, where the endpoint names its own in `x-ratelimit-limit-*`, the lower.
    """

    def __init__(self, concurrency: int, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self.most = concurrency
        self.limit = float(concurrency)
        self.requests = Bucket(requests_per_minute)
        self.tokens = Bucket(tokens_per_minute)
        self._busy = 0
        self._cut = 0.0
        self._resume = 0.0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def slot(self, tokens: float) -> AsyncIterator[float]:
        """Hold one of the places while a call of about `tokens` is under way; yields when it started."""
        while self._busy >= int(self.limit):
            self._changed.clear()
            await self._changed.wait()
        self._busy += 1
        try:
            await asyncio.sleep(max(self.requests.take(1), self.tokens.take(tokens)))
            while (held := self._resume - time.monotonic()) > 0:
                await asyncio.sleep(held)
            yield time.monotonic()
        finally:
            self._busy -= 1
            self._changed.set()

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """A call went well: allow a little more, and note the limits that came with it."""
        if self.limit < self.most:
            self.limit = min(self.limit + 1 / self.limit, self.most)
            self._changed.set()
        for bucket, unit in ((self.requests, "requests"), (self.tokens, "tokens")):
            if named := headers.get(f"x-ratelimit-limit-{unit}"):
                bucket.limit(_number(named) or float("inf"))
                if left := headers.get(f"x-ratelimit-remaining-{unit}"):
                    bucket.know(_number(left))

    def throttled(self, started: float, retry_after: float | None) -> None:
        """A 429 to a call that started then: fewer at once, though only once for all calls of one burst."""
        if started > self._cut:
            self.limit = max(1.0, min(self.limit, float(self._busy)) * CUT)
            self._cut = time.monotonic()
        self.hold(retry_after or 0.0)

    def hold(self, seconds: float) -> None:
        """Start no call for so long."""
        self._resume = max(self._resume, time.monotonic() + seconds)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
