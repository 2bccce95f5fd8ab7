"""Progress of long work: a bar for a person, a file for the runner, and nothing in a notebook's outputs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_VARIABLE = "KNOWTUNING_PROGRESS"
Tick = Callable[..., None]


@contextmanager
def progress(stage: str, total: int) -> Iterator[Tick]:
    """Show how far a stage is; yields `tick(done, note="")`.

    Under `knowtuning execute` the state goes to the file named by KNOWTUNING_PROGRESS, which the runner follows, so
    that an executed notebook holds no residue of a bar. By hand, a transient bar is drawn on a terminal or in
    JupyterLab.

    Example:
        with progress("training", total=150) as tick:
            tick(10, "loss 1.23")
    """
    path = os.environ.get(FILE_VARIABLE)
    if path:
        yield file_tick(Path(path), stage, total)
    elif "ipykernel" in sys.modules or sys.stderr.isatty():
        with _bar(stage, total) as tick:
            yield tick
    else:
        yield lambda done, note="": None


def of_calls(tick: Tick) -> Callable[[int, int, int], None]:
    """Turn a tick into what `Teacher.map` reports to: rows done, rows in all, rows in quarantine so far."""
    return lambda done, total, failed: tick(done, f"{failed} in quarantine" if failed else "")


def file_tick(path: Path, stage: str, total: int) -> Tick:
    """A tick that keeps the state of a stage in a file, for the runner to follow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last = 0.0

    def tick(done: int, note: str = "") -> None:
        nonlocal last
        if done < total and time.monotonic() - last < 0.5:
            return
        last = time.monotonic()
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"stage": stage, "done": done, "total": total, "note": note}), encoding="utf-8")
        os.replace(partial, path)

    tick(0)
    return tick


@contextmanager
def _bar(stage: str, total: int) -> Iterator[Tick]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), transient=True) as bar:
        task = bar.add_task(stage, total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)
