"""The Batch API as a way of asking: rows travel in files, replies come within a day at half the price.

Every batch is on record before it is sent, and again with its id after, and carries a mark of ours; so a run that is
killed at any moment finds its batches again and pays for none of them twice.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from openai import APIConnectionError, APIStatusError

from knowtuning.teacher.endpoint import shown
from knowtuning.teacher.errors import TeacherError, Transient, Unusable

if TYPE_CHECKING:
    from knowtuning.teacher.client import Calls, Teacher

MOST_REQUESTS = 50_000  # a batch, by OpenAI's rules
MOST_BYTES = 190 * 2**20  # a file; the rules say 200 MB
ENDED = ("completed", "failed", "expired", "cancelled")
PASSING = (None, 408, 409, 429)  # and 5xx: statuses of a request that may do better in the next batch
MARK = "knowtuning"
RECORDED_AT_ONCE = 1000  # replies


def collect_batches(teacher: Teacher, calls: Calls) -> None:
    """Decide every open call by batches.

    First come batches that an earlier run left under way, then as many new ones as it takes: calls whose request
    expired, failed or came back unusable go into the next one, until they are served or given up. As a batch cannot
    find out how an endpoint wants to be asked, a single call does where that is not known yet.
    """
    batches = _Batches(teacher, calls)
    batches.resume()
    while calls.open:
        if not teacher.features.proven:
            batches.ask_one(*next(iter(calls.open.items())))
        else:
            for lines in batches.parcels():
                batches.send(lines)


class _Batches:
    """The batches of one task: those sent, and what has come back."""

    def __init__(self, teacher: Teacher, calls: Calls) -> None:
        self.teacher, self.calls = teacher, calls
        self.client = teacher.client.with_options(max_retries=teacher.max_retries)
        self._missed: dict[str, int] = {}

    def ask_one(self, key: str, inputs: dict) -> None:
        """Ask one row by a call of its own."""
        try:
            self.calls.decide(key, self.teacher.wait_for(self.teacher.ask(self.calls, key, inputs)))
        except Unusable as failure:
            self.calls.decide(key, failure)

    def parcels(self) -> Iterator[dict[str, str]]:
        """Request lines by key of the open calls, in portions that the endpoint takes and that the cap allows.

        Each portion is made when the one before has been paid; raises `CapReached` when not even one row is left.
        """
        budget, most = self.teacher.budget, self.teacher.max_tokens
        lines: dict[str, str] = {}
        size, cost = 0, 0.0
        for key, inputs in list(self.calls.open.items()):
            line = self._line(key, inputs)
            length = len(line.encode())
            bound = budget.bound(length, most, batch=True)
            if lines and (len(lines) == MOST_REQUESTS or size + length > MOST_BYTES or not budget.fits(cost + bound)):
                yield lines
                lines, size, cost = {}, 0, 0.0
            if not budget.fits(bound):
                raise budget.reached(bound)
            lines[key] = line
            size, cost = size + length, cost + bound
        yield lines

    def _line(self, key: str, inputs: dict) -> str:
        teacher = self.teacher
        body = teacher.features.body(self.calls.task, inputs, teacher.model, teacher.max_tokens, teacher.sampling)
        request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(request, ensure_ascii=False) + "\n"

    def send(self, lines: dict[str, str]) -> None:
        """Upload a file of requests, start its batch and collect it; each step is on record before the next."""
        mark, record = uuid.uuid4().hex, self.teacher.record
        requests = {key: self.calls.open[key] for key in lines}
        record.begin_batch(mark, self.calls.task.name, requests)
        self.calls.counts["calls"] += len(lines)
        content = "".join(lines.values()).encode()
        upload = self._try(self.client.files.create(file=(f"{mark}.jsonl", content), purpose="batch"))
        batch_id = self._start(mark, upload.id)
        record.name_batch(mark, batch_id)
        self.collect(mark, batch_id, requests)

    def _start(self, mark: str, file_id: str) -> str:
        """Start a batch exactly once: after an answer that never came, look for it before it is started again."""
        batches = self.teacher.client.batches  # without the SDK's retries
        call = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        for left in range(self.teacher.max_retries, -1, -1):
            try:
                return self._try(batches.create(**call, metadata={MARK: mark}), passing=True).id
            except Transient as failure:
                if batch_id := self._find(mark):
                    return batch_id
                if not left:
                    raise TeacherError(f"No batch could be started ({failure.reason}): run again later.") from None
                time.sleep(failure.retry_after or self.teacher.backoff)
        raise AssertionError("unreachable")

    def _find(self, mark: str) -> str:
        """The id of the batch that carries our mark; empty where the endpoint has none."""

        async def look() -> str:
            async for batch in self.client.batches.list(limit=100):
                if (batch.metadata or {}).get(MARK) == mark:
                    return batch.id
            return ""

        return self._try(look())

    def resume(self) -> None:
        """Collect the batches that an earlier run sent, less what it recorded; what never arrived is forgotten."""
        teacher = self.teacher
        for mark, batch_id in teacher.record.batches(self.calls.task.name):
            if not (batch_id := batch_id or self._find(mark)):
                teacher.record.end_batch(mark)
                continue
            requests = teacher.record.requests(mark)
            answered = [key for key, known in teacher.record.find(requests, teacher.max_tokens) if known.raw]
            for key in answered:
                del requests[key]
            self.collect(mark, batch_id, requests, len(answered))

    def collect(self, mark: str, batch_id: str, requests: dict[str, dict], answered: int = 0) -> None:
        """Wait for a batch to end and record its replies; it is struck off once all of them are on record.

        `requests`: the inputs by key of the calls in it, but for those `answered`, whose replies were recorded before.
        """
        keys = list(requests)
        while (state := self._try(self.client.batches.retrieve(batch_id))).status not in ENDED:
            if state.request_counts:
                self.teacher.report(self.calls, state.request_counts.completed + state.request_counts.failed)
            time.sleep(self.teacher.poll)
        if state.status == "failed":
            self.teacher.record.end_batch(mark)
            raise TeacherError(f"Batch {batch_id} was not accepted ({_reasons(state)}): mend this and run again.")
        for file_id in filter(None, (state.output_file_id, state.error_file_id)):
            lines = iter(self._try(self.client.files.content(file_id)).content.splitlines())
            while some := list(islice(lines, RECORDED_AT_ONCE)):
                answered += self._take([json.loads(line) for line in some if line.strip()], requests)
        for key in requests:  # asked for, and neither in the output nor among the errors
            self._miss(key, "the batch ended without it")
        self.teacher.record.end_batch(mark)
        lost = [self.calls.outcomes[key] for key in keys if not answered and key in self.calls.outcomes]
        if refused := [failure.reason for failure in lost if "HTTP 4" in failure.reason]:
            raise TeacherError(f"Batch {batch_id} brought no reply at all: {refused[0]}")

    def _take(self, lines: list[dict], requests: dict[str, dict]) -> int:
        """Record the replies in some lines of an output or error file, and return their number.

        What the lines are about is taken out of `requests`. A key that is not ours, or comes twice, is left aside.
        Until the batch is struck off its files can be fetched again: a kill before that loses nothing.
        """
        replies, outcomes = [], {}
        for line in lines:
            key = line.get("custom_id")
            if (inputs := requests.pop(key, None)) is None:
                continue
            response = line.get("response") or {}
            status, body = response.get("status_code"), response.get("body")
            if status != 200:
                error = line.get("error") or (body or {}).get("error") or {}
                words = error.get("message") or error.get("code") or "no reply"
                passing = status in PASSING or status >= 500
                self._miss(key, f"HTTP {status}: {words}" if status else words, passing)
                continue
            whole = body if isinstance(body, dict) else json.dumps(body)
            reply, outcomes[key] = self.teacher.examine(self.calls, key, inputs, whole)
            replies.append(replace(reply, batch=True))
        self.teacher.record.add(replies)
        for reply in replies:
            tokens = reply.prompt_tokens, reply.completion_tokens
            self.teacher.budget.spent += self.teacher.budget.price.dollars(*tokens, batch=True)
        for key, outcome in outcomes.items():
            if isinstance(outcome, Unusable) and not self.calls.used_up(key, outcome):
                self.calls.counts["retries"] += 1
            else:
                self.calls.decide(key, outcome)
        return len(replies)

    def _miss(self, key: str, reason: str, passing: bool = True) -> None:
        """A request without a reply: it goes into the next batch, unless it has been in too many."""
        times = self._missed[key] = self._missed.get(key, 0) + 1
        if times > self.teacher.max_retries or not passing:
            self.calls.decide(key, Unusable(f"{reason} (in {times} batches)", again=False, attempts=times))
        else:
            self.calls.counts["retries"] += 1

    def _try(self, call: Coroutine, passing: bool = False) -> Any:
        """One request about files or batches; a failure that outlived its retries stops the run, in our words.

        `passing`: raise `Transient` instead, for the caller to try again.
        """
        try:
            return self.teacher.wait_for(call)
        except (APIConnectionError, APIStatusError) as error:
            meaning = self.teacher.meaning(error)
            if isinstance(meaning, TeacherError) or (passing and isinstance(meaning, Transient)):
                raise meaning from None
            raise TeacherError(
                f"The Batch API of {shown(self.teacher.base_url)} failed ({getattr(meaning, 'reason', meaning)}): run "
                "again, nothing is lost; or ask call by call."
            ) from None


def _reasons(state: Any) -> str:
    errors = (state.errors.data if state.errors else None) or []
    return "; ".join(str(error.message) for error in errors[:3]) or "the endpoint gave no reason"
