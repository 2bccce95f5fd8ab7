"""What is asked and what came of it: the calls of one task over some rows, and the account of all tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from knowtuning.teacher.errors import Unusable
from knowtuning.teacher.prompts import Task

COUNTS = ("asked", "from_cache", "calls", "retries", "unanswered", "quarantined", "prompt_tokens", "completion_tokens")
NEW_REQUESTS = 2  # how often an unusable reply is asked anew
Row = tuple[str, dict]
Progress = Callable[[int, int, int, float | str], None]


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
    return {name: sum(task[name] for task in counts.values()) for name in new_counts()}


@dataclass
class Calls:
    """The calls of one task over some rows while they are under way, by key: equal inputs are one call.

    `rows_of`: the number of rows of each call. `open`: inputs of those still to be made. `used`: unusable replies
    to them on record. `outcomes`: the reply, or why there is none.
    """

    task: Task
    counts: dict[str, float]
    progress: Progress | None
    rows_of: Counter[str] = field(default_factory=Counter)
    open: dict[str, dict] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, BaseModel | Unusable] = field(default_factory=dict)
    done: int = 0
    failed: int = 0

    def used_up(self, key: str, failure: Unusable) -> bool:
        """Count an unusable reply to a call; whether it was the last that is allowed."""
        failure.attempts = self.used[key] = self.used.get(key, 0) + 1
        return self.used[key] > NEW_REQUESTS

    def decide(self, key: str, outcome: BaseModel | Unusable) -> None:
        """Enter what came of a call."""
        self.outcomes[key] = outcome
        self.open.pop(key, None)
        self.done += self.rows_of[key]
        self.failed += self.rows_of[key] if isinstance(outcome, Unusable) else 0
