"""Rate limits as OpenAI enforces and reports them, and a queue that can be full."""

from __future__ import annotations

import math
import time

from knowtuning.teacher.server import RequestError


class Bucket:
    """A token bucket: holds `limit * burst / 60` units at most (one at least), and regains `limit` units a minute."""

    def __init__(self, limit: int, burst: float) -> None:
        self.limit = limit
        self.size = max(limit * burst / 60, 1.0)
        self._level, self._seen = self.size, time.monotonic()

    def level(self) -> float:
        """Units in it now; below zero after a reply that was longer than what was left."""
        now = time.monotonic()
        self._level = min(self.size, self._level + (now - self._seen) * self.limit / 60)
        self._seen = now
        return self._level

    def take(self, units: float) -> None:
        """Take units out, more than there are if need be."""
        self._level = self.level() - units


class Limits:
    """The limits of one server: requests and tokens a minute, and calls at once (None: no limit)."""

    def __init__(self, requests: int | None, tokens: int | None, capacity: int | None, burst: float) -> None:
        given = {"requests": requests, "tokens": tokens}
        self._buckets = {name: Bucket(limit, burst) for name, limit in given.items() if limit is not None}
        self._capacity = capacity
        self._busy = 0

    def __enter__(self) -> None:
        """Take one of the places; raises `RequestError` (429, no time to wait for) when all are taken."""
        if self._capacity is not None and self._busy >= self._capacity:
            raise RequestError(429, f"The queue is full: {self._capacity} requests are served.", code="queue_full")
        self._busy += 1

    def __exit__(self, *exception: object) -> None:
        self._busy -= 1

    def admit(self, tokens: int) -> None:
        """Let a request of that many prompt tokens in, or raise `RequestError` (429) with the time to wait."""
        asked = {"requests": 1, "tokens": tokens}
        for name, bucket in self._buckets.items():
            seconds = max(0.0, asked[name] - bucket.level()) * 60 / bucket.limit
            if seconds > 0 or asked[name] > bucket.size:
                wait = {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
                message = f"Rate limit reached on {name} per min: Limit {bucket.limit}, Requested {asked[name]}."
                headers = None if asked[name] > bucket.size else wait
                raise RequestError(429, message, code="rate_limit_exceeded", headers=headers)
        for name, bucket in self._buckets.items():
            bucket.take(asked[name])

    def charge(self, tokens: int) -> None:
        """Take a reply's tokens, known only afterwards."""
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(tokens)

    def headers(self) -> dict[str, str]:
        """What every reply says about the limits; empty without limits."""
        left = {}
        for name, bucket in self._buckets.items():
            left[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
            left[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level())))
        return left
