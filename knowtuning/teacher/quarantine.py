"""Rows that the teacher could not serve, each with its reason, in a JSONL file that forgets a row once it is served."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from knowtuning.files import read_jsonl, write_jsonl


def listed(path: Path, task: str) -> set[str]:
    """The ids of `task` that are on the list now."""
    return {row["id"] for row in read_jsonl(path) if row.get("task") == task} if Path(path).exists() else set()


def settle(path: Path, task: str, healed: Iterable[str], failures: list[dict]) -> None:
    """Take the `healed` ids of `task` off the list in `path`, and put those that failed now on it.

    `failures`: records `{"id", "task", "reason", "raw", "attempts"}` in the rows' order. Lines of other tasks and ids
    stay as they are; the file is sorted by task and replaced whole, under a lock beside it, so that two stages may
    settle at once.
    """
    path = Path(path)
    gone = {*healed, *(row["id"] for row in failures)}
    with _locked(path):
        before = read_jsonl(path) if path.exists() else []
        after = [row for row in before if row.get("task") != task or row.get("id") not in gone] + failures
        after.sort(key=_task)
        if after != before:
            write_jsonl(path, after)


def move(source: Path, target: Path) -> int:
    """Move all rows of one list onto another; returns their number."""
    with _locked(source):
        rows = sorted(read_jsonl(source) if source.exists() else [], key=_task)
        for task, failures in groupby(rows, key=_task):
            settle(target, task, [], list(failures))
        source.unlink(missing_ok=True)
    return len(rows)


def _task(row: dict) -> str:
    return str(row.get("task"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
