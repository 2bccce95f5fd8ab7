"""What the teacher's work amounted to: counts per task, summed over tasks."""

from __future__ import annotations

from collections.abc import Mapping

COUNTS = (
    "asked",
    "from_cache",
    "calls",
    "retries",
    "unanswered",
    "quarantined",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
)


def new_counts() -> dict[str, float]:
    """Zero for every count of one task.

    Rows `asked`, rows served without a call of their own (`from_cache`) and rows `quarantined`; `calls` (over HTTP, or
    in a batch), the `retries` among them, and those `unanswered` though the endpoint may charge for them; tokens of all
    replies as the endpoint counted them, or guessed where it counts none; wall-clock `seconds`.
    """
    return dict.fromkeys(COUNTS, 0) | {"seconds": 0.0}


def totals(counts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Sum the counts of all tasks.

    >>> totals({"extract": new_counts() | {"calls": 2}, "revise": new_counts() | {"calls": 3}})["calls"]
    5
    """
    return {name: sum(task[name] for task in counts.values()) for name in COUNTS}
