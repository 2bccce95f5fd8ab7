"""What can go wrong with a call: the run stops, it is tried again, asked in another form, or the row is given up."""

from __future__ import annotations


class TeacherError(RuntimeError):
    """The run cannot go on: the endpoint, the key or the model is wrong; the message names them and the cure."""


class CapReached(TeacherError):
    """The next call could pass the cap on dollars; what is recorded stays, and a higher cap goes on from there."""


class Transient(Exception):
    """A failure that may pass: worth another attempt, after `retry_after` seconds where the endpoint said so.

    `throttled`: the endpoint asks for less at once (HTTP 429). `charged`: the endpoint had the request, and may have
    worked and charged for a reply that never arrived.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        unreachable: bool = False,
        throttled: bool = False,
        charged: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after, self.unreachable = reason, retry_after, unreachable
        self.throttled, self.charged = throttled, charged


class Refused(Exception):
    """The endpoint does not take one of `parameters`; `stop` is what that means when there is no other form."""

    def __init__(self, parameters: list[str], stop: TeacherError) -> None:
        super().__init__(", ".join(parameters))
        self.parameters, self.stop = parameters, stop


class Unusable(Exception):
    """A row without a reply that can be used: `reason` in one sentence, `raw` what came.

    `again`: such a reply is on record, and asking anew can help. `malformed`: it is not of the form that was asked for,
    which another way of asking may cure. `attempts`: how often the row was asked until it was given up.
    """

    def __init__(
        self, reason: str, raw: str | None = None, again: bool = True, malformed: bool = False, attempts: int = 1
    ) -> None:
        super().__init__(reason)
        self.reason, self.raw, self.again, self.malformed, self.attempts = reason, raw, again, malformed, attempts
