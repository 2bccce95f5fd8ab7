"""Rate limits as OpenAI enforces and reports them, and a queue that can be full."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from knowtuning.teacher.serving.protocol import RequestError


class Bucket:
    """A token bucket: holds `limit * burst / 60` units at most (one at least), and regains `limit` units a minute."""

    def __init__(self, limit: int, burst: float = 60.0, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._size = max(limit * burst / 60, 1.0)
        self._level = self._size
        self._now = now
        self._seen = now()

    def level(self) -> float:
        """Units in it now; below zero after a reply that was longer than what was left."""
        now = self._now()
        self._level = min(self._size, self._level + (now - self._seen) * self.limit / 60)
        self._seen = now
        return self._level

    def take(self, units: float) -> None:
        """Take units out, more than there are if need be."""
        self._level = self.level() - units

    def wait_for(self, units: float) -> float:
        """Seconds until that many units are in it; infinite where so many never will be."""
        return math.inf if units > self._size else max(0.0, units - self.level()) * 60 / self.limit

    def reset(self) -> float:
        """Seconds until it is full."""
        return (self._size - self.level()) * 60 / self.limit


class Limits:
    """The limits of one server: requests and tokens a minute, and calls at once (None: no limit)."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        capacity: int | None = None,
        burst: float = 60.0,
    ) -> None:
        self._buckets = {
            name: Bucket(limit, burst)
            for name, limit in (("requests", requests_per_minute), ("tokens", tokens_per_minute))
            if limit is not None
        }
        self._capacity = capacity
        self._busy = 0

    def __enter__(self) -> None:
        """Take one of the places; raises `RequestError` (429, no time to wait for) when all are taken."""
        if self._capacity is not None and self._busy >= self._capacity:
            message = f"The queue is full: {self._capacity} requests are being served. Try again later."
            raise RequestError(429, message, code="queue_full")
        self._busy += 1

    def __exit__(self, *exception: object) -> None:
        self._busy -= 1

    def admit(self, tokens: int) -> None:
        """Let a request of that many prompt tokens in, or raise `RequestError` (429) with the time to wait."""
        asked = {"requests": 1, "tokens": tokens}
        for name, bucket in self._buckets.items():
            if (seconds := bucket.wait_for(asked[name])) > 0:
                raise self._too_many(name, bucket.limit, asked[name], seconds)
        for name, bucket in self._buckets.items():
            bucket.take(asked[name])

    def charge(self, tokens: int) -> None:
        """Take a reply's tokens, known only afterwards."""
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(tokens)

    def headers(self) -> dict[str, str]:
        """What every reply says about the limits; empty without limits."""
        said = {}
        for name, bucket in self._buckets.items():
            said[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
            said[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.level())))
            said[f"x-ratelimit-reset-{name}"] = duration(bucket.reset())
        return said

    def _too_many(self, name: str, limit: int, asked: int, seconds: float) -> RequestError:
        if math.isinf(seconds):
            text = f"Request too large on {name} per min: Limit {limit}, Requested {asked}."
            return RequestError(429, text, body=_error(name, text))
        text = f"Rate limit reached on {name} per min: Limit {limit}, Requested {asked}. "
        text += f"Please try again in {duration(seconds)}."
        wait = {"retry-after": str(math.ceil(seconds)), "retry-after-ms": str(math.ceil(seconds * 1000))}
        return RequestError(429, text, body=_error(name, text), headers=wait)


def _error(name: str, message: str) -> dict:
    return {"error": {"message": message, "type": name, "param": None, "code": "rate_limit_exceeded"}}


def duration(seconds: float) -> str:
    """A time as OpenAI's headers write it.

    >>> duration(0.12), duration(1), duration(360), duration(3725.5)
    ('120ms', '1s', '6m0s', '1h2m5.5s')
    """
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds < 0.999 else "1s"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{round(rest, 3):g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
