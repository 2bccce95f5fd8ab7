"""One task over a stream of rows while it is under way: a bounded window of rows, and their replies in order."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple

from pydantic import BaseModel

from knowtuning.teacher.errors import Unusable
from knowtuning.teacher.prompts import Task

Row = tuple[str, dict]
Progress = Callable[[int, int, int, float | str], None]
REPORT_EVERY = 0.05  # seconds
RELEASE_EVERY = 64  # rows


class Item(NamedTuple):
    """A row and its place in the stream."""

    position: int
    row_id: str
    inputs: dict


class Job:
    """Rows go in by `next`, replies in any order by `serve` and `give_up`, and out in the rows' order by `results`.

    At most `window` rows are between the two ends, so that memory does not grow with the number of rows. `failures`
    holds the rows given up, `healed` the ids that were `listed` as failed before and are served now. Batches leave here
    what came of each call, by its key: `served` the replies, which are on record, and `lost` why there will be none;
    `keys` are those of the rows. Everything but `results` belongs to the thread of `loop`.
    """

    def __init__(
        self,
        task: Task,
        rows: Iterable[Row],
        counts: dict[str, float],
        listed: set[str],
        window: int,
        loop: asyncio.AbstractEventLoop,
        cost: Callable[[], float | str] = lambda: "",
    ) -> None:
        self.task = task
        self.counts = counts
        self.total = len(rows) if isinstance(rows, Sized) else 0
        self.stopped = False
        self.done = 0
        self.failures: dict[int, dict[str, Any]] = {}
        self.healed: set[str] = set()
        self.calling: set[asyncio.Task] = set()
        self.keys: list[str] = []
        self.served: dict[str, BaseModel] = {}
        self.lost: dict[str, Unusable] = {}
        self._listed = listed
        self._rows = enumerate(rows)
        self._room = asyncio.Semaphore(window)
        self._loop = loop
        self._cost = cost
        self._waiting: dict[int, tuple[str, BaseModel | None]] = {}
        self._ready: list[tuple[str, BaseModel | None]] = []
        self._emitted = 0
        self._out: queue.SimpleQueue = queue.SimpleQueue()
        self._reported = 0.0

    async def next(self) -> Item | None:
        """The next row, once there is room for it; None at the end, or after a stop."""
        await self._room.acquire()
        row = None if self.stopped else next(self._rows, None)
        if row is None:
            self._room.release()
            return None
        position, (row_id, inputs) = row
        self.counts["asked"] += 1
        return Item(position, row_id, inputs)

    def serve(self, item: Item, reply: BaseModel) -> None:
        """Give a row its reply."""
        if item.row_id in self._listed:
            self.healed.add(item.row_id)
        self._decide(item, reply)

    def give_up(self, item: Item, failure: Unusable) -> None:
        """Put a row on the list of the failed, as the quarantine will show it."""
        raw = None if failure.raw is None else failure.raw.encode("utf-8", "backslashreplace").decode()
        why = {"task": self.task.name, "reason": failure.reason, "raw": raw, "attempts": failure.attempts}
        self.failures[item.position] = {"id": item.row_id, **why}
        self.counts["quarantined"] += 1
        self._decide(item, None)

    def report(self, final: bool = False) -> None:
        """Tell rows decided, in all and failed, and what all calls have cost; not more often than is of use."""
        now = time.monotonic()
        if final or now - self._reported > REPORT_EVERY:
            self._reported = now
            self.report_under_way(self.done)

    def report_under_way(self, done: int) -> None:
        """The same, of rows that a batch has worked off before any of them is decided here."""
        self._out.put(("progress", (done, max(self.total, done), len(self.failures), self._cost())))

    def close(self) -> None:
        """Tell the reader of `results` that nothing more comes."""
        self._hand_over()
        self._out.put(("end", None))

    def results(self, progress: Progress | None) -> Iterator[tuple[str, BaseModel | None]]:
        """Replies in the rows' order, None for a row given up; runs, and reports, in the caller's thread."""
        taken = 0
        while True:
            kind, value = self._out.get()
            if kind == "end":
                return
            if kind == "progress":
                if progress is not None:
                    progress(*value)
                continue
            for row in value:
                yield row
                taken += 1
                if taken == RELEASE_EVERY:
                    self._loop.call_soon_threadsafe(self._release, taken)
                    taken = 0

    def _decide(self, item: Item, reply: BaseModel | None) -> None:
        self.done += 1
        self._waiting[item.position] = (item.row_id, reply)
        while self._emitted in self._waiting:
            if not self._ready:  # all that is decided until the loop turns goes over in one piece
                self._loop.call_soon(self._hand_over)
            self._ready.append(self._waiting.pop(self._emitted))
            self._emitted += 1
        self.report()

    def _hand_over(self) -> None:
        if self._ready:
            self._out.put(("rows", self._ready))
            self._ready = []

    def _release(self, rows: int) -> None:
        for _ in range(rows):
            self._room.release()
