"""The teacher's client: many rows asked at once over any OpenAI-compatible endpoint, every reply checked and recorded.

A row found in the cache costs nothing; any other is asked. Failures that may pass (429, 5xx, a broken connection, no
reply in time) are retried with growing pauses; unusable replies are asked anew twice, then the row is quarantined with
its reason and the run goes on. A wrong key, model or address stops the run at once.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel

from knowtuning.teacher.cache import Cache, cache_key
from knowtuning.teacher.completion import read_body, read_text, read_usage
from knowtuning.teacher.endpoint import find_base_url, find_key, is_loopback, without_key
from knowtuning.teacher.errors import TeacherError, Transient, Unusable
from knowtuning.teacher.failures import LONGEST_WAIT, classify, shown
from knowtuning.teacher.job import Job, Progress, Row
from knowtuning.teacher.ledger import new_counts
from knowtuning.teacher.prompts import ReplyError, Task, messages, parse, response_format
from knowtuning.teacher.quarantine import settle

NEW_REQUESTS = 2  # how often an unusable reply is asked anew


class Teacher:
    """A model behind an OpenAI-compatible endpoint that serves tasks, with a cache and a quarantine file.

    `base_url` and the key come from OPENAI_BASE_URL and OPENAI_API_KEY where they are not given. `timeout` is seconds
    per call, `max_retries` how often a passing failure is retried, `max_tokens` the cap on a reply, `backoff` seconds
    before the first retry. `counts` is the account per task (see `ledger.new_counts`). It works in scripts and inside
    Jupyter's running loop, because its own loop lives in a thread.

    >>> with Teacher(model="gpt-4.1-mini", cache_path="cache.jsonl", quarantine_path="quarantine.jsonl") as teacher:
    ...     [reply] = teacher.map(EXTRACT, [("r1", {"question": "Who?", "answer": "Ana Ruiz."})])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        cache_path: Path | str,
        quarantine_path: Path | str,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 6,
        max_tokens: int = 4096,
        temperature: float | None = None,
        backoff: float = 0.5,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least one call must be under way.")
        self.model = model
        self.cache_path = Path(cache_path)
        self.quarantine_path = Path(quarantine_path)
        self.base_url = find_base_url(base_url)
        self.concurrency = concurrency
        self.timeout = timeout
        self.max_retries = max_retries
        self.max_tokens = max_tokens
        self.backoff = backoff
        self.counts: dict[str, dict[str, float]] = {}
        self._sampling = {} if temperature is None else {"temperature": temperature}
        self._key = find_key(api_key, self.base_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = False
        self._lost_in_a_row = 0

    def __enter__(self) -> Teacher:
        self._cache = Cache(self.cache_path)
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=self.base_url,
            max_retries=0,
            timeout=self.timeout,
            # A proxy of the environment cannot reach a server on this machine.
            http_client=DefaultAsyncHttpxClient(trust_env=not is_loopback(self.base_url)),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
        self._cache.close()

    def map(self, task: Task, rows: Sequence[Row], progress: Progress | None = None) -> list[BaseModel | None]:
        """Ask `task` about every row, `(id, inputs)`; replies in the rows' order, None for a quarantined row.

        Equal inputs are asked once. `progress(done, total, failed)` is called in the caller's thread, in rows.
        Raises `TeacherError` when no row can be served (wrong key, model, address); what is recorded by then is kept.
        """
        if self._loop is None:
            raise RuntimeError("A Teacher is used as a context manager: `with Teacher(...) as teacher:`.")
        events: queue.SimpleQueue = queue.SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._map(task, list(rows), events.put), self._loop)
        work.add_done_callback(lambda _: events.put(None))
        try:
            while (event := events.get()) is not None:
                if progress is not None:
                    progress(*event)
        except BaseException:
            work.cancel()
            raise
        return work.result()

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _map(self, task: Task, rows: list[Row], report: Callable[[tuple], None]) -> list[BaseModel | None]:
        started = time.perf_counter()
        counts = self.counts.setdefault(task.name, new_counts())
        counts["asked"] += len(rows)
        job = Job(task, rows, counts, report)
        try:
            self._cache.refresh()
            todo = self._serve_recorded(job)
            job.report_progress()
            await _first_error_stops([self._work(job, todo) for _ in range(self.concurrency)])
        finally:
            counts["seconds"] += time.perf_counter() - started
            settle(self.quarantine_path, task.name, job.decided, list(job.failures.values()))
        return job.replies

    def _serve_recorded(self, job: Job) -> Iterator[tuple[str, list[int]]]:
        """Fill in what the cache holds; the rest as (key, positions of the rows that ask for it), first come first."""
        todo: dict[str, list[int]] = {}
        for position, (_, inputs) in enumerate(job.rows):
            key = cache_key(job.task, inputs, self.model, self._sampling)
            reply = None if key in todo else self._recorded(job.task, inputs, key)
            if reply is None:
                todo.setdefault(key, []).append(position)
            else:
                job.serve([position], reply)
                job.counts["from_cache"] += 1
        return iter(todo.items())

    def _recorded(self, task: Task, inputs: dict, key: str) -> BaseModel | None:
        reply = self._cache.get(key)
        if reply is None:
            return None
        try:
            return parse(task, inputs, json.dumps(reply))
        except ReplyError:  # recorded under weaker checks, or edited by hand: ask again
            return None

    async def _work(self, job: Job, todo: Iterator[tuple[str, list[int]]]) -> None:
        for key, positions in todo:
            try:
                reply = await self._ask(job, job.rows[positions[0]][1], key)
            except Unusable as failure:
                job.give_up(positions, failure)
            else:
                job.serve(positions, reply)
                job.counts["from_cache"] += len(positions) - 1
            job.report_progress()

    async def _ask(self, job: Job, inputs: dict, key: str) -> BaseModel:
        """Ask one row until it is on record; raises `Unusable` when it is lost, `TeacherError` when all are."""
        waits = renewals = 0
        while True:
            try:
                reply = await self._call(job, inputs, key)
            except Transient as failure:
                if waits == self.max_retries:
                    raise self._lost(failure, waits + renewals + 1) from None
                waits += 1
                await asyncio.sleep(self._pause(waits, failure.retry_after))
            except Unusable as failure:
                failure.attempts = waits + renewals + 1
                if renewals == NEW_REQUESTS or not failure.again:
                    raise
                renewals += 1
            else:
                return reply
            job.counts["retries"] += 1

    async def _call(self, job: Job, inputs: dict, key: str) -> BaseModel:
        body = await self._post(job, inputs)
        completion = read_body(body)
        usage = read_usage(completion)
        for name, tokens in usage.items():
            job.counts[name] += tokens
        text = read_text(completion)
        try:
            reply = parse(job.task, inputs, text)
        except ReplyError as error:
            raise Unusable(str(error), raw=text) from None
        record = {"key": key, "task": job.task.name, "model": self.model, "reply": reply.model_dump(), "raw": text}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._cache.append(record | {"usage": usage, "time": now})
        return reply

    async def _post(self, job: Job, inputs: dict) -> str:
        """One HTTP call; the response's body, in which the key never occurs."""
        chat = messages(job.task, inputs)
        if not _is_unicode(chat[-1]["content"]):
            raise Unusable(
                "the row's text is not valid Unicode (a lone surrogate): repair it in the data.", again=False
            )
        job.counts["calls"] += 1
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=chat,
                    response_format=response_format(job.task),
                    max_completion_tokens=self.max_tokens,
                    **self._sampling,
                )
        except TimeoutError:
            raise Transient(f"no reply within {self.timeout:g} s") from None
        except (APIConnectionError, APIStatusError) as error:
            meaning = classify(error, self.base_url, self.model, self._key, self._answered)
            self._answered |= isinstance(error, APIStatusError)
            raise meaning from None
        self._answered = True
        self._lost_in_a_row = 0
        return without_key(response.text, self._key)

    def _lost(self, failure: Transient, attempts: int) -> Exception:
        """What used-up retries mean: one row less, or, when it happens row after row, that nobody answers any more."""
        self._lost_in_a_row += 1
        if failure.unreachable or self._lost_in_a_row > 2 * self.concurrency:
            return TeacherError(
                f"{shown(self.base_url)} (model {self.model}) has stopped answering ({failure.reason}): "
                "run again when it is back; nothing recorded is lost."
            )
        lost = Unusable(f"{failure.reason} (after {attempts} attempts)", again=False)
        lost.attempts = attempts
        return lost

    def _pause(self, waits: int, retry_after: float | None) -> float:
        """Seconds before the next attempt: doubling, half of it at random so that callers do not return in step."""
        pause = min(self.backoff * 2 ** (waits - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0)
        return max(pause, retry_after or 0.0)


async def _first_error_stops(work: list[Coroutine]) -> None:
    """Run coroutines side by side; the first error cancels the others and is raised as itself, not in a group."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
