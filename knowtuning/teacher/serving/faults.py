"""Which request meets which fault: drawn from the seed, what is asked and how often it was asked before.

So a run with one seed meets the same faults however its calls are ordered in time, and asking again can help.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter

from knowtuning.teacher.serving.call import Call

FAULT_KINDS = (
    "storm",  # HTTP 429 for everybody during `STORM` seconds
    "error500",  # HTTP 500
    "reset",  # the connection breaks off without a reply
    "stall",  # no reply for a long time, then the connection closes
    "truncated",  # the reply's JSON is cut in the middle
    "cut_body",  # the HTTP body is shorter than its Content-Length
    "wrong_schema",  # JSON, and of another schema
    "refusal",  # the assistant refuses
    "empty_choices",  # a completion without a choice
    "duplicate_field",  # the reply's first field comes twice, the first time with a wrong value
    "reordered",  # a right reply, its fields in another order and blanks around them
    "html",  # HTTP 502 with a page of a proxy
    "echo_key",  # HTTP 500 whose message repeats the Authorization header
)
HARMLESS = ("reordered",)
POISON = "POISON"  # inputs with this word are refused whenever they are asked, where faults are switched on
STORM = 0.05  # seconds


def drawn(share: float, kinds: tuple[str, ...], seed: int, key: str, attempt: int) -> str | None:
    """The fault of one attempt (0 is the first) at a call, or None; the same arguments always draw the same."""
    digest = hashlib.sha256(f"{seed} {key} {attempt}".encode()).digest()
    if int.from_bytes(digest[:8]) / 2**64 >= share:
        return None
    return kinds[int.from_bytes(digest[8:16]) % len(kinds)]


class Faults:
    """The faults of one server. `share` None: none at all, not even for poisoned inputs."""

    def __init__(self, share: float | None = None, kinds: tuple[str, ...] = FAULT_KINDS, seed: int = 0) -> None:
        self._share, self._kinds, self._seed = share, kinds, seed
        self._attempts: Counter[str] = Counter()
        self._storm_ends = 0.0

    def draw(self, call: Call) -> str | None:
        """The fault that this request meets, "poison", or None; every call counts as one attempt."""
        if self._share is None:
            return None
        if POISON in json.dumps(call.inputs, ensure_ascii=False):
            return "poison"
        key = call.key
        self._attempts[key] += 1
        return drawn(self._share, self._kinds, self._seed, key, self._attempts[key] - 1)

    def start_storm(self) -> None:
        """From now on nobody is served, for `STORM` seconds."""
        self._storm_ends = time.monotonic() + STORM

    def storming(self) -> bool:
        """Whether a storm is on."""
        return time.monotonic() < self._storm_ends
