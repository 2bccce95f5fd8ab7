"""One map of a task over rows, while it is under way: replies, failures and what is still undecided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from knowtuning.teacher.errors import Unusable
from knowtuning.teacher.prompts import Task

Row = tuple[str, dict]
Progress = Callable[[int, int, int], None]


@dataclass
class Job:
    """The rows of one map with a place for each reply; `decided` are the rows served or given up so far."""

    task: Task
    rows: list[Row]
    counts: dict[str, float]
    report: Callable[[tuple[int, int, int]], None]
    replies: list[BaseModel | None] = field(init=False)
    decided: list[str] = field(default_factory=list)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: int = 0

    def __post_init__(self) -> None:
        self.replies = [None] * len(self.rows)

    def serve(self, positions: list[int], reply: BaseModel) -> None:
        """Give one reply to all rows that asked for it."""
        for position in positions:
            self.replies[position] = reply
            self.decided.append(self.rows[position][0])

    def give_up(self, positions: list[int], failure: Unusable) -> None:
        """Put the rows on the list of the failed, as the quarantine will show them."""
        raw = None if failure.raw is None else failure.raw.encode("utf-8", "backslashreplace").decode()
        why = {"task": self.task.name, "reason": failure.reason, "raw": raw, "attempts": failure.attempts}
        for position in positions:
            row_id = self.rows[position][0]
            self.decided.append(row_id)
            self.failures[row_id] = {"id": row_id, **why}
        self.failed += len(positions)
        self.counts["quarantined"] += len(positions)

    def report_progress(self) -> None:
        """Tell how many rows are decided, of how many, and how many of them failed."""
        self.report((len(self.decided), len(self.rows), self.failed))
