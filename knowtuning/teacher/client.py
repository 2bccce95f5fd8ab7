"""The teacher's client: rows asked many at once over any OpenAI-compatible endpoint, every reply recorded and checked.

A row on record costs nothing; any other is asked. Failures that may pass (429, 5xx, a broken connection, no reply in
time) are retried with growing pauses; unusable replies are asked anew twice, then the row is quarantined with its
reason and the run goes on. A wrong key, model or address stops the run, and so does the cap on dollars; calls under
way are then still waited for and recorded, as they are paid.

The SDK's own retries are off: they would hide each attempt, which may be charged, from the budget, and a 429 from the
throttle.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import wait
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
from filelock import FileLock
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient
from pydantic import BaseModel

from knowtuning.teacher.budget import Budget, Price, dollars_of, load_price
from knowtuning.teacher.calls import NEW_REQUESTS, Calls, Progress, Row, new_counts
from knowtuning.teacher.endpoint import Features, find_base_url, find_key, is_loopback, shown, without_key
from knowtuning.teacher.errors import Refused, TeacherError, Transient, Unusable
from knowtuning.teacher.failures import LONGEST_WAIT, classify
from knowtuning.teacher.prompts import Malformed, ReplyError, Task, messages, parse
from knowtuning.teacher.record import Known, Record, Reply, cache_key
from knowtuning.teacher.replies import guess_usage, read_body, read_text, read_usage
from knowtuning.teacher.throttle import Throttle

THROTTLED = 10  # a row may be put off by 429 so many times as often as it may fail otherwise
SHORT = 5  # doublings of the pause after a 429, as the throttle slows down by itself
FORM_PATIENCE = 3  # malformed replies in a row before another form of asking is tried
REPORT_EVERY = 0.05  # seconds


class Teacher:
    """A model behind an OpenAI-compatible endpoint that serves tasks, with its record in a folder.

    Args:
        model: its name at the endpoint.
        folder: where its record and its `quarantine.jsonl` lie (see `Record`).
        base_url, api_key: OPENAI_BASE_URL and OPENAI_API_KEY where they are not given.
        concurrency: calls under way at most; fewer while the endpoint throttles.
        timeout: seconds per call. `max_retries`: how often a passing failure is retried. `backoff`: seconds before
            the first retry. `max_tokens`: the cap on a reply.
        max_cost: dollars that all recorded calls of this record together may cost; None is no cap.
        price: of the model; the table's (`load_price`) where it is None.
        retry_failed: ask rows anew whose unusable replies are on record; else they are given up without a call.

    `counts` is the account per task (see `new_counts`). It works in scripts and inside Jupyter's running loop, because
    its own loop lives in a thread.

    >>> with Teacher("gpt-6-luna", "runs/demo/teacher") as teacher:
    ...     [reply] = teacher.map(EXTRACT, [("r1", {"question": "Who?", "answer": "Ana Ruiz."})])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        folder: Path | str,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        max_retries: int = 6,
        max_tokens: int = 4096,
        temperature: float | None = None,
        backoff: float = 0.5,
        max_cost: float | None = None,
        price: Price | None = None,
        retry_failed: bool = False,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least one call must be under way.")
        self.model, self.folder = model, Path(folder)
        self.base_url = find_base_url(base_url)
        self.concurrency, self.timeout, self.max_retries = concurrency, timeout, max_retries
        self.max_tokens, self.backoff, self.retry_failed = max_tokens, backoff, retry_failed
        self.max_cost, self.price = max_cost, price or load_price(model)
        if max_cost is not None and self.price is None:
            raise TeacherError(
                f"There is no price of {model} to hold the cap of ${max_cost:g} by: add it to data/prices.yaml."
            )
        self.counts: dict[str, dict[str, float]] = {}
        self.sampling = {} if temperature is None else {"temperature": temperature}
        self._key = find_key(api_key, self.base_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = False
        self._lost_in_a_row = self._malformed = 0
        self._unanswered = 0.0  # dollars that calls without an answer may have cost, which no record tells
        self._unwritten: list[Reply] = []
        self._paid: set[asyncio.Task] = set()  # calls under way, until their replies are on record

    def __enter__(self) -> Teacher:
        self.record = Record(self.folder)
        if self.retry_failed:
            self.record.forgive()
        self.features = self.record.features(shown(self.base_url), self.model)
        self.budget = self._open_budget()
        # aiohttp takes half the CPU of httpx; a proxy of the environment cannot reach a server on this machine
        http_client = DefaultAioHttpClient(
            trust_env=not is_loopback(self.base_url), limits=httpx2.Limits(max_connections=None)
        )
        self.client = AsyncOpenAI(
            api_key=self._key, base_url=self.base_url, max_retries=0, timeout=self.timeout, http_client=http_client
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()
        self._throttle = Throttle(self.concurrency)
        self._pilot, self._writer = asyncio.Lock(), asyncio.Lock()
        return self

    def __exit__(self, *exception: object) -> None:
        self.wait_for(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
        self.record.close()

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()
        await self._loop.shutdown_default_executor()

    def wait_for(self, work: Coroutine) -> Any:
        """The result of some work in the teacher's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- rows, in the caller's thread

    def map(self, task: Task, rows: Sequence[Row], progress: Progress | None = None) -> list[BaseModel | None]:
        """Ask `task` about every row, `(id, inputs)`; replies in the rows' order, None for a quarantined row.

        Equal inputs are asked once. `progress(done, total, failed, cost)` is called in the caller's thread: rows, and
        `cost()`.
        Raises `TeacherError` when no row can be served (wrong key, model, address) or the cap on dollars is reached;
        what is recorded by then is kept.
        """
        if self._loop is None:
            raise RuntimeError("A Teacher is used as a context manager: `with Teacher(...) as teacher:`.")
        started = time.perf_counter()
        calls = Calls(task, self.counts.setdefault(task.name, new_counts()), progress)
        keys = [cache_key(task, inputs, self.model, self.sampling) for _, inputs in rows]
        # with a cap, one process at a time: two that spend from one purse cannot both keep count of it
        purse = nullcontext() if self.max_cost is None else FileLock(self.folder / ".spending.lock")
        with purse:
            self.budget = self._open_budget()
            self._look_up(calls, rows, keys)
            try:
                self.report(calls)
                self.make(calls)
                self.report(calls)
            finally:
                calls.counts["seconds"] += time.perf_counter() - started
                self._settle(calls, rows, keys)
        replies = (calls.outcomes[key] for key in keys)
        return [None if isinstance(reply, Unusable) else reply for reply in replies]

    def _look_up(self, calls: Calls, rows: Sequence[Row], keys: list[str]) -> None:
        """Sort the calls of some rows into those decided by what is on record and those to be made."""
        calls.rows_of.update(keys)
        inputs_of = {key: inputs for key, (_, inputs) in zip(keys, rows, strict=True)}
        for key, known in self.record.find(inputs_of, self.max_tokens):
            calls.used[key] = known.unusable
            if (outcome := self.recorded(calls.task, inputs_of[key], known)) is not None:
                calls.decide(key, outcome)
        calls.open = {key: inputs for key, inputs in inputs_of.items() if key not in calls.outcomes}
        calls.counts["asked"] += len(rows)
        calls.counts["from_cache"] += len(rows) - len(calls.open) - calls.failed

    def recorded(self, task: Task, inputs: dict, known: Known) -> BaseModel | Unusable | None:
        """The reply on record, if it passes today's checks; why none is asked for, if all attempts are used up."""
        if known.raw is not None:
            with suppress(ReplyError):  # recorded under weaker checks
                return parse(task, inputs, known.raw)
        if known.unusable <= NEW_REQUESTS:
            return None
        return Unusable(known.reason, raw=known.unusable_raw, again=False, attempts=known.unusable)

    def make(self, calls: Calls) -> None:
        """Make the open calls.

        Those under way are paid, and so waited for, whatever ends this; only a second interrupt does not wait.
        """
        work = asyncio.run_coroutine_threadsafe(self._work_off(calls), self._loop)
        try:
            while not wait([work], REPORT_EVERY).done:
                self.report(calls)
        finally:
            if not work.done():
                self._loop.call_soon_threadsafe(self._running.cancel)
                wait([work], timeout=self.timeout + 1)
        work.result()

    def _settle(self, calls: Calls, rows: Sequence[Row], keys: list[str]) -> None:
        """Bring the quarantine up to date."""
        listed, healed, failures = self.record.given_up(calls.task.name), [], []
        for (row_id, _), key in zip(rows, keys, strict=True):
            outcome = calls.outcomes.get(key)
            if isinstance(outcome, Unusable):
                raw = None if outcome.raw is None else printable(outcome.raw)
                why = {"task": calls.task.name, "reason": outcome.reason, "raw": raw, "attempts": outcome.attempts}
                failures.append({"id": row_id} | why)
            elif outcome is not None and row_id in listed:
                healed.append(row_id)
        calls.counts["quarantined"] += len(failures)
        self.record.settle(calls.task.name, healed, failures)

    def report(self, calls: Calls, under_way: int = 0) -> None:
        """Tell the caller how far the calls are: rows done (and in a batch that is `under_way`), in all, and failed."""
        if calls.progress is not None:
            calls.progress(calls.done + under_way, calls.rows_of.total(), calls.failed, self.cost())

    def cost(self) -> float | str:
        """Dollars for all calls of this record so far, or in words why there is no such number."""
        if self.price is None:
            return "price unknown"
        return "free" if self.price.input == self.price.output == 0 else self.budget.spent

    def _open_budget(self) -> Budget:
        spending = self.record.spending()
        on_record = dollars_of(spending, lambda model: self.price if model == self.model else load_price(model))
        return Budget(self.max_cost, on_record + self._unanswered, self.price)

    # --- calls, in the teacher's loop

    async def _work_off(self, calls: Calls) -> None:
        """The workers of a task; the first error stops the others after the calls that they are waiting for."""
        self._running = asyncio.current_task()
        todo = iter(list(calls.open.items()))
        workers = [asyncio.create_task(self._work(calls, todo)) for _ in range(self.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            while self._paid:
                await asyncio.wait(self._paid)

    async def _work(self, calls: Calls, todo: Iterator[tuple[str, dict]]) -> None:
        for key, inputs in todo:
            try:
                calls.decide(key, await self.ask(calls, key, inputs))
            except Unusable as failure:
                calls.decide(key, failure)

    async def ask(self, calls: Calls, key: str, inputs: dict) -> BaseModel:
        """Make a call until its reply is usable and on record.

        Raises `Unusable` when there will be none, `TeacherError` when no call will be served any more.
        """
        waits = throttled = 0
        while True:
            form = self.features.structured
            try:
                return await self._call(calls, key, inputs)
            except Transient as failure:
                if failure.throttled and throttled < THROTTLED * self.max_retries:  # not the row's fault
                    throttled += 1
                elif waits == self.max_retries:
                    raise self._lost(failure, waits + throttled + 1) from None
                else:
                    waits += 1
                await asyncio.sleep(self._pause(waits or min(throttled, SHORT), failure.retry_after))
            except Unusable as failure:
                if not failure.again:
                    raise
                if self.features.structured != form:  # what came in the other form was not the row's fault
                    calls.used[key] = 0
                    await asyncio.to_thread(self.record.forgive, key)
                elif calls.used_up(key, failure):
                    raise
            calls.counts["retries"] += 1

    async def _call(self, calls: Calls, key: str, inputs: dict) -> BaseModel:
        """One call in the form that the endpoint understands; until that is known, one call at a time looks for it."""
        if not self.features.proven:
            async with self._pilot:
                if not self.features.proven:
                    return await self._find_form(calls, key, inputs)
        features = self.features
        try:
            return await self._call_as(features, calls, key, inputs)
        except Refused as refusal:  # it changed since it was remembered
            if self.features == features:
                self.features = replace(features.after(refusal), proven=False)
            raise Transient("the endpoint takes other parameters now", retry_after=0.0) from None

    async def _find_form(self, calls: Calls, key: str, inputs: dict) -> BaseModel:
        """One call of the search: what is refused is left out at once, what comes back malformed after three times."""
        while True:
            try:
                reply = await self._call_as(self.features, calls, key, inputs)
            except Refused as refusal:
                self.features = self.features.after(refusal)
            except Unusable as failure:
                self._malformed += failure.malformed
                if self._malformed == FORM_PATIENCE:
                    self._malformed = 0
                    lower = self.features.without("response_format")
                    self.features = lower or replace(self.features, proven=True)  # no form helps: it is the model
                raise
            else:
                self.features = replace(self.features, proven=True)
                await asyncio.to_thread(self.record.remember, shown(self.base_url), self.model, self.features)
                return reply

    async def _call_as(self, features: Features, calls: Calls, key: str, inputs: dict) -> BaseModel:
        """One HTTP call, as soon as budget and throttle allow it; begun, it runs to its end, though the run stops."""
        body = features.body(calls.task, inputs, self.model, self.max_tokens, self.sampling)
        size = sum(_size(message["content"]) for message in body["messages"])
        bound = self.budget.bound(size, self.max_tokens)
        async with self.budget.reserve(bound):
            started = await self._throttle.enter()
            call = asyncio.create_task(self._paid_call(calls, key, inputs, body, bound, started))
            self._paid.add(call)
            call.add_done_callback(self._ended)
            outcome = await asyncio.shield(call)
        if isinstance(outcome, Unusable):
            raise outcome
        return outcome

    def _ended(self, call: asyncio.Task) -> None:
        self._paid.discard(call)
        if not call.cancelled():
            call.exception()  # seen, if nobody waits any more

    async def _paid_call(
        self, calls: Calls, key: str, inputs: dict, body: dict, bound: float, started: float
    ) -> BaseModel | Unusable:
        """One HTTP call, booked and put on record; raises what it means where no reply came."""
        try:
            text = await self._post(calls, body, started)
        except Transient as failure:
            if failure.charged:
                calls.counts["unanswered"] += 1
                self._unanswered += bound
                self.budget.spent += bound
            raise
        finally:
            self._throttle.leave()
        reply, outcome = self.examine(calls, key, inputs, text)
        cost = self.budget.price.dollars(reply.prompt_tokens, reply.completion_tokens)
        self.budget.spent += bound if reply.guessed else cost
        await self._put_on_record(reply)
        return outcome

    async def _post(self, calls: Calls, body: dict, started: float) -> str:
        """The response's body, in which the key never occurs."""
        calls.counts["calls"] += 1
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except TimeoutError:
            raise Transient(f"no reply within {self.timeout:g} s", charged=True) from None
        except (APIConnectionError, APIStatusError) as error:
            meaning = self.meaning(error)
            if isinstance(meaning, Transient) and meaning.throttled:
                self._throttle.throttled(started, meaning.retry_after)
            raise meaning from None
        self._answered, self._lost_in_a_row = True, 0
        self._throttle.succeeded(response.headers, sum(len(message["content"]) for message in body["messages"]) / 4)
        return without_key(response.text, self._key)

    async def _put_on_record(self, reply: Reply) -> None:
        """Return when the disk has a reply; those that come while the disk is busy go to it together."""
        self._unwritten.append(reply)
        async with self._writer:
            if replies := self._unwritten:
                self._unwritten = []
                try:
                    await asyncio.to_thread(self.record.add, replies)
                except BaseException:
                    self._unwritten = replies + self._unwritten
                    raise

    def examine(self, calls: Calls, key: str, inputs: dict, body: str | dict) -> tuple[Reply, BaseModel | Unusable]:
        """What is to be put on record for a response body (its text, or its JSON object), and what came of it."""
        usage, text = {}, None
        try:
            completion = body if isinstance(body, dict) else read_body(body)
            usage = read_usage(completion)
            text = read_text(completion)
            outcome = parse(calls.task, inputs, text)
        except ReplyError as error:
            outcome = Unusable(str(error), raw=text, malformed=isinstance(error, Malformed))
        except Unusable as error:
            outcome = error
        if guessed := not any(usage.values()):
            came = text or (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))
            usage = guess_usage(messages(calls.task, inputs, self.features.structured), came)
        for name, tokens in usage.items():
            calls.counts[name] += tokens
        raw, reason = (outcome.raw or "", outcome.reason) if isinstance(outcome, Unusable) else (text, None)
        reply = Reply(
            key, calls.task.name, self.model, printable(raw), reason, self.max_tokens, **usage, guessed=guessed
        )
        return reply, outcome

    def meaning(self, error: APIConnectionError | APIStatusError) -> Exception:
        """What an error of the SDK means here (see `failures.classify`)."""
        meaning = classify(error, self.base_url, self.model, self._key, self._answered)
        self._answered |= isinstance(error, APIStatusError)
        return meaning

    def _lost(self, failure: Transient, attempts: int) -> Exception:
        """What used-up retries mean: one row less, or, when it happens row after row, that nobody answers any more."""
        self._lost_in_a_row += 1
        if failure.unreachable or self._lost_in_a_row > 2 * self.concurrency:
            return TeacherError(
                f"{shown(self.base_url)} (model {self.model}) has stopped answering ({failure.reason}): "
                "run again when it is back; nothing recorded is lost."
            )
        return Unusable(f"{failure.reason} (after {attempts} attempts)", again=False, attempts=attempts)

    def _pause(self, waits: int, retry_after: float | None) -> float:
        """Seconds before the next attempt: doubling, half of it at random so that callers do not return in step."""
        pause = min(self.backoff * 2 ** (waits - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0)
        return max(pause, retry_after or 0.0)


def printable(text: str) -> str:
    """Text as a file can hold it: half a surrogate pair, which JSON lets through, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _size(text: str) -> int:
    """Bytes of a message; text that has none (half a surrogate pair) cannot be sent."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Unusable(
            "the row's text is not valid Unicode (a lone surrogate): repair it in the data.", again=False
        ) from None
