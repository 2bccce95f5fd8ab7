"""What calls cost by the table in data/prices.yaml, and a cap that holds: each call reserves the most it can cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from knowtuning.files import ROOT, DataError
from knowtuning.teacher.errors import CapReached
from knowtuning.teacher.record import Paid

TABLE = ROOT / "data" / "prices.yaml"
MESSAGE_TOKENS = 64  # what an endpoint may add around the messages


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens in and out, the share of them that a batch call costs, and the date of the price."""

    input: float
    output: float
    batch: float = 1.0
    date: str = "given"

    def dollars(self, prompt_tokens: float, completion_tokens: float, batch: bool = False) -> float:
        """The price of some tokens in US dollars.

        >>> Price(0.15, 0.6).dollars(2_000_000, 500_000)
        0.6
        """
        full = (prompt_tokens * self.input + completion_tokens * self.output) / 1e6
        return full * self.batch if batch else full


def load_price(model: str, path: Path = TABLE) -> Price | None:
    """The price of a model by its name, or by its name without a dated ending; None where the table has none."""
    table, name, entry = _entry(model, path)
    if "input" not in entry:
        return None
    try:
        return Price(float(entry["input"]), float(entry["output"]), float(table["batch"]), str(table["date"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, model {name}: give `input` and `output` as dollars per million tokens.") from error


def load_end(model: str, path: Path = TABLE) -> str | None:
    """The day (YYYY-MM-DD) on which a model was or will be shut down, where the table knows one."""
    entry = _entry(model, path)[2]
    day = entry.get("retired") or entry.get("shutdown")
    return str(day) if day else None


def _entry(model: str, path: Path) -> tuple[dict, str, dict]:
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = (name for name in table["models"] if re.fullmatch(rf"{re.escape(name)}(-[0-9][0-9-]*)?", model))
    name = max(names, key=len, default="")
    return table, name, table["models"].get(name, {})


def parse_price(text: str) -> Price:
    """A price as the command line takes it, "IN,OUT" in dollars per million tokens.

    >>> parse_price("0.1,0.5")
    Price(input=0.1, output=0.5, batch=0.5, date='given')
    """
    try:
        price_in, price_out = (float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"price {text!r}: write IN,OUT in dollars per million tokens, such as 0.1,0.5.") from None
    if min(price_in, price_out) < 0:
        raise DataError(f"price {text!r}: a price cannot be negative.")
    return Price(price_in, price_out, batch=0.5)


def dollars_of(
    spending: Mapping[tuple[str, bool], Paid], price_of: Callable[[str], Price | None] = load_price
) -> float:
    """Dollars for what is on record (`Record.spending`); models without a price count nothing."""
    prices = {model: price_of(model) for model, _ in spending}
    known = ((prices[model], paid, batch) for (model, batch), paid in spending.items() if prices[model])
    return sum(price.dollars(paid.prompt_tokens, paid.completion_tokens, batch) for price, paid, batch in known)


class Budget:
    """What may still be spent: `cap` less what is spent and what the calls under way may cost at most.

    A call that does not fit waits for those under way; when none is left and it still does not fit, `CapReached` is
    raised. So the cap is never passed, and what stays unspent is less than one call may cost. A cap of None, and a
    price of None, let every call through.
    """

    def __init__(self, cap: float | None, spent: float, price: Price | None) -> None:
        self.cap = float("inf") if cap is None else cap
        self.spent = spent
        self.price = price or Price(0.0, 0.0)
        self._reserved = 0.0
        self._under_way = 0
        self._changed = asyncio.Event()

    def bound(self, request_bytes: int, max_tokens: int, batch: bool = False) -> float:
        """The most that a call can cost in dollars: no token is shorter than a byte, no reply longer than the cap."""
        return self.price.dollars(request_bytes + MESSAGE_TOKENS, max_tokens, batch)

    @asynccontextmanager
    async def reserve(self, bound: float) -> AsyncIterator[None]:
        """Hold `bound` dollars while a call is under way; the caller adds what it cost to `spent` before the end."""
        while not self.fits(self._reserved + bound):
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

    def fits(self, bound: float) -> bool:
        """Whether so many dollars are left."""
        return self.spent + bound <= self.cap

    def reached(self, bound: float) -> CapReached:
        """The error that says why the next call is not made."""
        return CapReached(
            f"The cap of ${self.cap:,.4g} is reached: ${self.spent:,.4g} is spent and the next call may cost "
            f"${bound:,.2g}; everything paid is on record, so raise max_cost and run again to go on."
        )
