"""The Batch API as a way of asking: rows travel in files, replies come within a day at half the price.

Every batch is entered into `batches/batches.json` before it is sent, and again with its id after, and carries a mark of
ours; so a run that is killed at any moment finds its batches again and pays for none of them twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import APIConnectionError, APIStatusError

from knowtuning.files import read_json, stream_jsonl, write_json, write_parts
from knowtuning.teacher.budget import upper_bound
from knowtuning.teacher.cache import cache_key
from knowtuning.teacher.completion import read_usage
from knowtuning.teacher.errors import TeacherError, Transient, Unusable
from knowtuning.teacher.failures import shown
from knowtuning.teacher.job import Job, Row

if TYPE_CHECKING:
    from knowtuning.teacher.client import Teacher

MOST_REQUESTS = 50_000  # a batch, by OpenAI's rules
MOST_BYTES = 190 * 2**20  # a file; the rules say 200 MB
ENDED = ("completed", "failed", "expired", "cancelled")
PASSING = (408, 409, 429)  # and 5xx: statuses of a request that may do better in the next batch
MARK = "knowtuning"
RECORDED_AT_ONCE = 1000  # replies


@dataclass(frozen=True)
class Batch:
    """One batch on record: our `mark` on it, its `task` and number of `requests`, and its `id` once it is sent."""

    mark: str
    task: str
    requests: int
    id: str = ""


async def collect_batches(teacher: Teacher, job: Job, rows: Iterable[Row]) -> None:
    """Put the reply to every row on record by batches; a row that gets none is entered into `job.lost`.

    First come batches that an earlier run left under way, then as many new ones as it takes: rows whose request
    expired, failed or came back unusable go into the next one, until they are served or given up. As a batch cannot
    find out how an endpoint wants to be asked, a single call does where that is not known yet.
    """
    desk = _Desk(teacher, job)
    await desk.resume()
    wanted = desk.open_calls(rows)
    while wanted:
        if not teacher.features.proven:
            await desk.ask_one(*next(iter(wanted.items())))
        else:
            for lines in desk.parcels(wanted):
                await desk.collect(await desk.send(lines), {key: wanted[key] for key in lines})
        wanted = desk.still_open(wanted)


class _Desk:
    """The batches of one job: what is open, what is sent, what has come back."""

    def __init__(self, teacher: Teacher, job: Job) -> None:
        self.teacher = teacher
        self.job = job
        self.client = teacher.client.with_options(max_retries=teacher.max_retries)
        self.folder = teacher.cache_path.parent / "batches"
        self.book = self.folder / "batches.json"
        self._missed: dict[str, int] = {}

    def open_calls(self, rows: Iterable[Row]) -> dict[str, dict]:
        """Inputs by key of the calls that still need a reply."""
        wanted = {}
        for _, inputs in rows:
            key = cache_key(self.job.task, inputs, self.teacher.model, self.teacher.sampling)
            self.job.keys.append(key)
            if key not in wanted and not self._on_record(key, inputs):
                wanted[key] = inputs
        return self.still_open(wanted)

    def _on_record(self, key: str, inputs: dict) -> bool:
        return self.teacher.recorded(self.job.task, inputs, key) is not None

    def still_open(self, wanted: dict[str, dict]) -> dict[str, dict]:
        """Those of some calls that were neither served nor given up by now."""
        job, given_up = self.job, self.teacher.given_up
        waiting = {key: inputs for key, inputs in wanted.items() if key not in job.served and key not in job.lost}
        return {key: inputs for key, inputs in waiting.items() if not given_up(key)}

    async def ask_one(self, key: str, inputs: dict) -> None:
        """Ask one row by a call of its own."""
        try:
            self.job.served[key] = await self.teacher.ask(self.job, inputs, key)
        except Unusable as failure:
            self.job.lost[key] = failure

    def parcels(self, wanted: dict[str, dict]) -> Iterator[dict[str, str]]:
        """Request lines by key in portions that the endpoint takes and that the cap on dollars allows.

        Each portion is made when the one before has been paid; raises `CapReached` when not even one row is left.
        """
        lines: dict[str, str] = {}
        size, cost = 0, 0.0
        for key, inputs in wanted.items():
            line = self._line(key, inputs)
            length, bound = len(line.encode()), self._bound(line)
            if lines and (len(lines) == MOST_REQUESTS or size + length > MOST_BYTES or not self._fits(cost + bound)):
                yield lines
                lines, size, cost = {}, 0, 0.0
            if not self._fits(bound):
                raise self.teacher.budget.reached(bound)
            lines[key] = line
            size, cost = size + length, cost + bound
        yield lines

    async def send(self, lines: dict[str, str]) -> Batch:
        """Upload a file of requests and start its batch; each step is on record before the next."""
        batch = Batch(uuid.uuid4().hex, self.job.task.name, len(lines))
        write_parts(self._file(batch), lines.values())
        self._note(batch)
        self.job.counts["calls"] += len(lines)
        content = self._file(batch).read_bytes()
        upload = await self._try(
            lambda: self.client.files.create(file=(f"{batch.mark}.jsonl", content), purpose="batch")
        )
        batch = replace(batch, id=await self._start(batch.mark, upload.id))
        self._note(batch)
        return batch

    async def _start(self, mark: str, file_id: str) -> str:
        """Start a batch exactly once: after an answer that never came, look for it before it is started again."""
        create = self.teacher.client.batches.create  # without the SDK's retries
        for left in range(self.teacher.max_retries, -1, -1):
            try:
                started = await self._try(
                    lambda: create(
                        input_file_id=file_id,
                        endpoint="/v1/chat/completions",
                        completion_window="24h",
                        metadata={MARK: mark},
                    ),
                    passing=True,
                )
                return started.id
            except Transient as failure:
                if found := await self._find(mark):
                    return found
                if not left:
                    raise TeacherError(f"No batch could be started ({failure.reason}): run again later.") from None
                await asyncio.sleep(failure.retry_after or self.teacher.backoff)
        raise AssertionError("unreachable")

    async def resume(self) -> None:
        """Collect the batches that an earlier run sent, less what it recorded; what never arrived is forgotten."""
        for batch in self._entries():
            if batch.task != self.job.task.name:
                continue
            batch = batch if batch.id else replace(batch, id=await self._find(batch.mark))
            if batch.id:
                requests = self._requests(batch)
                open_ones = {key: each for key, each in requests.items() if not self._on_record(key, each)}
                await self.collect(batch, open_ones, answered=len(requests) - len(open_ones))
            else:
                self._strike(batch)

    async def collect(self, batch: Batch, requests: dict[str, dict], answered: int = 0) -> None:
        """Wait for a batch to end and record its replies; it is struck off once all of them are on record.

        `requests`: the inputs by key of the calls in it, but for those whose replies were recorded before.
        """
        while (state := await self._try(lambda: self.client.batches.retrieve(batch.id))).status not in ENDED:
            if state.request_counts:
                self.job.report_under_way(state.request_counts.completed + state.request_counts.failed)
            await asyncio.sleep(self.teacher.poll)
        if state.status == "failed":
            self._strike(batch)
            raise TeacherError(f"Batch {batch.id} was not accepted ({_reasons(state)}): mend this and run again.")
        for file_id in filter(None, (state.output_file_id, state.error_file_id)):
            content = await self._try(lambda file_id=file_id: self.client.files.content(file_id))
            lines = (line for line in io.BytesIO(content.content) if line.strip())
            while some := list(islice(lines, RECORDED_AT_ONCE)):
                records: list[dict] = []
                answered += sum(self._take(json.loads(line), requests, records) for line in some)
                # until the batch is struck off it can be fetched again: a kill before this loses nothing
                self.teacher.cache.extend(records)
        for key in requests:  # asked for, and neither in the output nor among the errors
            self._miss(key, "the batch ended without it")
        self._strike(batch)
        if not answered and (permanent := [key for key in self.job.lost if "HTTP 4" in self.job.lost[key].reason]):
            raise TeacherError(f"Batch {batch.id} brought no reply at all: {self.job.lost[permanent[0]].reason}")

    def _take(self, line: dict, requests: dict[str, dict], records: list[dict]) -> bool:
        """Add what is to be recorded of one line of an output or error file; whether there is a reply in it.

        A key that is not ours, or comes twice, is left aside.
        """
        key = line.get("custom_id")
        if (inputs := requests.pop(key, None)) is None:
            return False
        response = line.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status != 200:
            error = line.get("error") or (body or {}).get("error") or {}
            said = f"HTTP {status}: " if status else ""
            passing = status is None or status in PASSING or status >= 500
            self._miss(key, f"{said}{error.get('message') or error.get('code') or 'no reply'}", passing)
            return False
        if self.teacher.budget is not None and isinstance(body, dict):
            self.teacher.budget.book(self.teacher.price.dollars(*read_usage(body).values(), batch=True))
        whole = body if isinstance(body, dict) else json.dumps(body)
        record, outcome = self.teacher.examine(self.job, inputs, key, whole)
        records.append(record | {"batch": True})
        if isinstance(outcome, Unusable):
            self.job.counts["retries"] += 1
        else:
            self.job.served[key] = outcome
        return True

    def _miss(self, key: str, reason: str, passing: bool = True) -> None:
        """A request without a reply: it goes into the next batch, unless it has been in too many."""
        times = self._missed[key] = self._missed.get(key, 0) + 1
        if times > self.teacher.max_retries or not passing:
            self.job.lost[key] = Unusable(f"{reason} (in {times} batches)", again=False, attempts=times)
        else:
            self.job.counts["retries"] += 1

    async def _find(self, mark: str) -> str:
        """The id of the batch that carries our mark; empty where the endpoint has none."""
        async for batch in self.client.batches.list(limit=100):
            if (batch.metadata or {}).get(MARK) == mark:
                return batch.id
        return ""

    async def _try(self, call: Callable[[], Awaitable[Any]], passing: bool = False) -> Any:
        """One request about files or batches; a failure that outlived its retries stops the run, in our words.

        `passing`: raise `Transient` instead, for the caller to try again.
        """
        try:
            return await call()
        except (APIConnectionError, APIStatusError) as error:
            meaning = self.teacher.meaning(error)
            if isinstance(meaning, TeacherError) or (passing and isinstance(meaning, Transient)):
                raise meaning from None
            raise TeacherError(
                f"The Batch API of {shown(self.teacher.base_url)} failed ({getattr(meaning, 'reason', meaning)}): run "
                "again, nothing is lost; or ask call by call."
            ) from None

    def _line(self, key: str, inputs: dict) -> str:
        teacher = self.teacher
        body = teacher.features.body(self.job.task, inputs, teacher.model, teacher.max_tokens, teacher.sampling)
        request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(request, ensure_ascii=False) + "\n"

    def _bound(self, line: str) -> float:
        if self.teacher.budget is None:
            return 0.0
        return upper_bound(self.teacher.price, len(line.encode()), self.teacher.max_tokens, batch=True)

    def _fits(self, dollars: float) -> bool:
        return self.teacher.budget is None or self.teacher.budget.spent + dollars <= self.teacher.budget.cap

    def _file(self, batch: Batch) -> Path:
        return self.folder / f"{batch.mark}.jsonl"

    def _entries(self) -> list[Batch]:
        return [Batch(**entry) for entry in read_json(self.book)] if self.book.exists() else []

    def _note(self, batch: Batch) -> None:
        self._rewrite(without=batch.mark, plus=[batch])

    def _strike(self, batch: Batch) -> None:
        self._rewrite(without=batch.mark, plus=[])
        self._file(batch).unlink(missing_ok=True)

    def _rewrite(self, without: str, plus: list[Batch]) -> None:
        """Change the book under a lock, as two stages may have batches under way at the same time."""
        with open(self.folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            others = [entry for entry in self._entries() if entry.mark != without]
            write_json(self.book, [asdict(entry) for entry in [*others, *plus]])

    def _requests(self, batch: Batch) -> dict[str, dict]:
        """The inputs by key of a batch that an earlier run sent."""
        lines = stream_jsonl(self._file(batch))
        return {line["custom_id"]: json.loads(line["body"]["messages"][-1]["content"]) for line in lines}


def _reasons(state: Any) -> str:
    errors = (state.errors.data if state.errors else None) or []
    return "; ".join(str(error.message) for error in errors[:3]) or "the endpoint gave no reason"
