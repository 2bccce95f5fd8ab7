"""A cap on dollars that holds: every call reserves the most that it can cost before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from knowtuning.teacher.errors import CapReached
from knowtuning.teacher.prices import Price

MESSAGE_TOKENS = 64  # what an endpoint may add around the messages


def upper_bound(price: Price, request_bytes: int, max_tokens: int, batch: bool = False) -> float:
    """The most that a call can cost in dollars: no token is shorter than a byte, no reply longer than the cap."""
    return price.dollars(request_bytes + MESSAGE_TOKENS, max_tokens, batch)


class Budget:
    """What may still be spent: `cap` less what is spent and what the calls under way may cost at most.

    A call that does not fit waits for those under way; when none is left and it still does not fit, `CapReached` is
    raised. So the cap is never passed, and what stays unspent is less than one call may cost.
    """

    def __init__(self, cap: float, spent: float) -> None:
        self.cap = cap
        self.spent = spent
        self.unanswered = 0.0
        self._reserved = 0.0
        self._under_way = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, bound: float) -> AsyncIterator[None]:
        """Hold `bound` dollars while a call is under way; `book` what it cost before the block ends."""
        while self.spent + self._reserved + bound > self.cap:
            if not self._under_way:
                raise self.reached(bound)
            self._changed.clear()
            await self._changed.wait()
        self._reserved += bound
        self._under_way += 1
        try:
            yield
        finally:
            self._reserved -= bound
            self._under_way -= 1
            self._changed.set()

    def book(self, dollars: float) -> None:
        """Enter what a call cost."""
        self.spent += dollars

    def book_unanswered(self, bound: float) -> None:
        """Enter a call whose reply never came: the endpoint may charge for it, at most this."""
        self.unanswered += bound
        self.book(bound)

    def reached(self, bound: float) -> CapReached:
        """The error that says why the next call is not made."""
        return CapReached(
            f"The cap of ${self.cap:,.4g} is reached: ${self.spent:,.4g} is spent and the next call may cost "
            f"${bound:,.2g}; everything paid is on record, so raise max_cost and run again to go on."
        )
