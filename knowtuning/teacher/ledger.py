"""What the teacher's work amounted to: counts summed over tasks, and dollars where a price is known."""

from __future__ import annotations

from collections.abc import Mapping

COUNTS = (
    "asked",
    "from_cache",
    "calls",
    "retries",
    "quarantined",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
)


def new_counts() -> dict[str, float]:
    """Zero for every count of one task.

    Rows `asked`, rows served without a call of their own (`from_cache`) and rows `quarantined`; HTTP `calls` and the
    `retries` among them; tokens of all calls as the endpoint counted them; wall-clock `seconds`.
    """
    return dict.fromkeys(COUNTS, 0) | {"seconds": 0.0}


def totals(counts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Sum the counts of all tasks.

    >>> totals({"extract": new_counts() | {"calls": 2}, "revise": new_counts() | {"calls": 3}})["calls"]
    5
    """
    return {name: sum(task[name] for task in counts.values()) for name in COUNTS}


def dollars(counts: Mapping[str, float], price: Mapping[str, float] | None) -> float | None:
    """The cost of some counts in US dollars; None when no price is known.

    `price`: dollars per million tokens, `{"input": 0.15, "output": 0.6}`. Replies out of the cache cost nothing again.

    >>> dollars({"prompt_tokens": 2_000_000, "completion_tokens": 500_000}, {"input": 0.15, "output": 0.6})
    0.6
    """
    if price is None:
        return None
    return (counts["prompt_tokens"] * price["input"] + counts["completion_tokens"] * price["output"]) / 1e6


def summary(counts: Mapping[str, Mapping[str, float]], price: Mapping[str, float] | None = None) -> dict:
    """A JSON-able account: counts per task, their total and its dollars. The local server's price is `LOCAL_PRICE`."""
    total = totals(counts)
    return {
        "tasks": {name: dict(task) for name, task in counts.items()},
        "total": total,
        "dollars": dollars(total, price),
    }


LOCAL_PRICE = {"input": 0.0, "output": 0.0}
