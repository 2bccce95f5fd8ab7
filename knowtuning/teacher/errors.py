"""The three things that can go wrong with a call: the run stops, the call is tried again, the row is given up."""

from __future__ import annotations


class TeacherError(RuntimeError):
    """The run cannot go on: the endpoint, the key or the model is wrong; the message names them and the cure."""


class Transient(Exception):
    """A failure that may pass: worth another attempt, after `retry_after` seconds where the endpoint said so."""

    def __init__(self, reason: str, retry_after: float | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.unreachable = unreachable


class Unusable(Exception):
    """A reply that cannot be used: `reason` in one sentence, `raw` what came, `again` whether asking anew can help."""

    def __init__(self, reason: str, raw: str | None = None, again: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.raw = raw
        self.again = again
        self.attempts = 0
