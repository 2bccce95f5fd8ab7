"""What a model's tokens cost, from the table in data/prices.yaml or from the user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from knowtuning.files import ROOT, DataError
from knowtuning.teacher.cache import Paid

TABLE = ROOT / "data" / "prices.yaml"


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


def spent(spending: Mapping[tuple[str, bool], Paid], price_of: Mapping[str, Price | None]) -> float:
    """Dollars for everything on record (`Cache.spending`); models without a price count nothing."""
    known = ((paid, price_of.get(model), batch) for (model, batch), paid in spending.items())
    return sum(p.dollars(paid.prompt_tokens, paid.completion_tokens, batch) for paid, p, batch in known if p)
