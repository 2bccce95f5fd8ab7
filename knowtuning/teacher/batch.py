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
from typing import Any

from openai import APIConnectionError, APIStatusError

from knowtuning.teacher.calls import Calls
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.endpoint import shown
from knowtuning.teacher.errors import TeacherError, Transient, Unusable

MOST_REQUESTS = 50_000  # a batch, by OpenAI's rules
MOST_BYTES = 190 * 2**20  # a file; the rules say 200 MB
ENDED = ("completed", "failed", "expired", "cancelled")
PASSING = (None, 408, 409, 429)  # and 5xx: statuses of a request that may do better in the next batch
MARK = "knowtuning"
RECORDED_AT_ONCE = 1000  # replies


class BatchTeacher(Teacher):
    """A teacher that is asked through the Batch API; `poll` is seconds between looks at the state of a batch."""

    def __init__(self, *given: Any, poll: float = 30.0, **options: Any) -> None:
        super().__init__(*given, **options)
        self.poll = poll

    def make(self, calls: Calls) -> None:
        """Decide every open call by batches.

        First come batches that an earlier run left under way, then as many new ones as it takes: calls whose request
        expired, failed or came back unusable go into the next one, until they are served or given up. As a batch cannot
        find out how an endpoint wants to be asked, a single call does where that is not known yet.
        """
        self._patient = self.client.with_options(max_retries=self.max_retries)
        self._missed: dict[str, int] = {}
        self._resume(calls)
        while calls.open:
            if not self.features.proven:
                self._ask_one(calls, *next(iter(calls.open.items())))
            else:
                for lines in self._parcels(calls):
                    self._send(calls, lines)

    def _ask_one(self, calls: Calls, key: str, inputs: dict) -> None:
        """Ask one row by a call of its own."""
        try:
            calls.decide(key, self.wait_for(self.ask(calls, key, inputs)))
        except Unusable as failure:
            calls.decide(key, failure)

    def _parcels(self, calls: Calls) -> Iterator[dict[str, str]]:
        """Request lines by key of the open calls, in portions that the endpoint takes and that the cap allows.

        Each portion is made when the one before has been paid; raises `CapReached` when not even one row is left.
        """
        budget = self.budget
        lines: dict[str, str] = {}
        size, cost = 0, 0.0
        for key, inputs in list(calls.open.items()):
            body = self.features.body(calls.task, inputs, self.model, self.max_tokens, self.sampling)
            request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            line = json.dumps(request, ensure_ascii=False) + "\n"
            length = len(line.encode())
            bound = budget.bound(length, self.max_tokens, batch=True)
            if lines and (len(lines) == MOST_REQUESTS or size + length > MOST_BYTES or not budget.fits(cost + bound)):
                yield lines
                lines, size, cost = {}, 0, 0.0
            if not budget.fits(bound):
                raise budget.reached(bound)
            lines[key] = line
            size, cost = size + length, cost + bound
        yield lines

    def _send(self, calls: Calls, lines: dict[str, str]) -> None:
        """Upload a file of requests, start its batch and collect it; each step is on record before the next."""
        mark, requests = uuid.uuid4().hex, {key: calls.open[key] for key in lines}
        self.record.begin_batch(mark, calls.task.name, requests)
        calls.counts["calls"] += len(lines)
        content = "".join(lines.values()).encode()
        upload = self._try(self._patient.files.create(file=(f"{mark}.jsonl", content), purpose="batch"))
        batch_id = self._begin(mark, upload.id)
        self.record.name_batch(mark, batch_id)
        self._collect(calls, mark, batch_id, requests)

    def _begin(self, mark: str, file_id: str) -> str:
        """Start a batch exactly once: after an answer that never came, look for it before it is started again."""
        create = self.client.batches.create  # without the SDK's retries
        call = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        for left in range(self.max_retries, -1, -1):
            try:
                return self._try(create(**call, metadata={MARK: mark}), passing=True).id
            except Transient as failure:
                if batch_id := self._find(mark):
                    return batch_id
                if not left:
                    raise TeacherError(f"No batch could be started ({failure.reason}): run again later.") from None
                time.sleep(failure.retry_after or self.backoff)
        raise AssertionError("unreachable")

    def _find(self, mark: str) -> str:
        """The id of the batch that carries our mark; empty where the endpoint has none."""

        async def look() -> str:
            async for batch in self._patient.batches.list(limit=100):
                if (batch.metadata or {}).get(MARK) == mark:
                    return batch.id
            return ""

        return self._try(look())

    def _resume(self, calls: Calls) -> None:
        """Collect the batches that an earlier run sent, less what it recorded; what never arrived is forgotten."""
        for mark, batch_id in self.record.batches(calls.task.name):
            if not (batch_id := batch_id or self._find(mark)):
                self.record.end_batch(mark)
                continue
            requests = self.record.requests(mark)
            answered = [key for key, known in self.record.find(requests, self.max_tokens) if known.raw]
            for key in answered:
                del requests[key]
            self._collect(calls, mark, batch_id, requests, len(answered))

    def _collect(self, calls: Calls, mark: str, batch_id: str, requests: dict[str, dict], answered: int = 0) -> None:
        """Wait for a batch to end and record its replies; it is struck off once all of them are on record.

        `requests`: the inputs by key of the calls in it, but for those `answered`, whose replies were recorded before.
        """
        keys = list(requests)
        while (state := self._try(self._patient.batches.retrieve(batch_id))).status not in ENDED:
            if state.request_counts:
                self.report(calls, state.request_counts.completed + state.request_counts.failed)
            time.sleep(self.poll)
        if state.status == "failed":
            self.record.end_batch(mark)
            raise TeacherError(f"Batch {batch_id} was not accepted ({_reasons(state)}): mend this and run again.")
        for file_id in filter(None, (state.output_file_id, state.error_file_id)):
            lines = iter(self._try(self._patient.files.content(file_id)).content.splitlines())
            while some := list(islice(lines, RECORDED_AT_ONCE)):
                answered += self._take(calls, [json.loads(line) for line in some if line.strip()], requests)
        for key in requests:  # asked for, and neither in the output nor among the errors
            self._miss(calls, key, "the batch ended without it")
        self.record.end_batch(mark)
        lost = [calls.outcomes[key] for key in keys if not answered and key in calls.outcomes]
        if refused := [failure.reason for failure in lost if "HTTP 4" in failure.reason]:
            raise TeacherError(f"Batch {batch_id} brought no reply at all: {refused[0]}")

    def _take(self, calls: Calls, lines: list[dict], requests: dict[str, dict]) -> int:
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
                self._miss(calls, key, f"HTTP {status}: {words}" if status else words, passing)
                continue
            whole = body if isinstance(body, dict) else json.dumps(body)
            reply, outcomes[key] = self.examine(calls, key, inputs, whole)
            replies.append(replace(reply, batch=True))
        self.record.add(replies)
        for reply in replies:
            tokens = reply.prompt_tokens, reply.completion_tokens
            self.budget.spent += self.budget.price.dollars(*tokens, batch=True)
        for key, outcome in outcomes.items():
            if isinstance(outcome, Unusable) and not calls.used_up(key, outcome):
                calls.counts["retries"] += 1
            else:
                calls.decide(key, outcome)
        return len(replies)

    def _miss(self, calls: Calls, key: str, reason: str, passing: bool = True) -> None:
        """A request without a reply: it goes into the next batch, unless it has been in too many."""
        times = self._missed[key] = self._missed.get(key, 0) + 1
        if times > self.max_retries or not passing:
            calls.decide(key, Unusable(f"{reason} (in {times} batches)", again=False, attempts=times))
        else:
            calls.counts["retries"] += 1

    def _try(self, call: Coroutine, passing: bool = False) -> Any:
        """One request about files or batches; a failure that outlived its retries stops the run, in our words.

        `passing`: raise `Transient` instead, for the caller to try again.
        """
        try:
            return self.wait_for(call)
        except (APIConnectionError, APIStatusError) as error:
            meaning = self.meaning(error)
            if isinstance(meaning, TeacherError) or (passing and isinstance(meaning, Transient)):
                raise meaning from None
            raise TeacherError(
                f"The Batch API of {shown(self.base_url)} failed ({getattr(meaning, 'reason', meaning)}): run "
                "again, nothing is lost; or ask call by call."
            ) from None


def _reasons(state: Any) -> str:
    errors = (state.errors.data if state.errors else None) or []
    return "; ".join(str(error.message) for error in errors[:3]) or "the endpoint gave no reason"
