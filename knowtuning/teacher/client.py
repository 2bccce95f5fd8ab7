"""The teacher's client: rows asked many at once over any OpenAI-compatible endpoint, every reply checked and recorded.

A row found in the cache costs nothing; any other is asked. Failures that may pass (429, 5xx, a broken connection, no
reply in time) are retried with growing pauses; unusable replies are asked anew twice, then the row is quarantined with
its reason and the run goes on. A wrong key, model or address stops the run, and so does the cap on dollars; calls under
way are then still waited for and recorded, as they are paid.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient
from pydantic import BaseModel

from knowtuning.teacher.batch import collect_batches
from knowtuning.teacher.budget import Budget, upper_bound
from knowtuning.teacher.cache import Cache, cache_key
from knowtuning.teacher.completion import guess_usage, read_body, read_text, read_usage
from knowtuning.teacher.endpoint import find_base_url, find_key, is_loopback, without_key
from knowtuning.teacher.errors import Refused, TeacherError, Transient, Unusable
from knowtuning.teacher.failures import LONGEST_WAIT, classify, shown
from knowtuning.teacher.features import Features, load_features, save_features
from knowtuning.teacher.job import Item, Job, Progress, Row
from knowtuning.teacher.ledger import new_counts
from knowtuning.teacher.pace import Pace
from knowtuning.teacher.prices import Price, load_price, spent
from knowtuning.teacher.prompts import Malformed, ReplyError, Task, accept, messages, parse
from knowtuning.teacher.quarantine import listed, settle

NEW_REQUESTS = 2  # how often an unusable reply is asked anew
THROTTLED = 10  # a row may be put off by 429 so many times as often as it may fail otherwise
SHORT = 5  # doublings of the pause after a 429, as the pace slows down by itself
FORM_PATIENCE = 3  # malformed replies in a row before another form of asking is tried
LOCK_POLL = 0.2  # seconds
WINDOW = 16  # rows on their way through a stream, as a multiple of the concurrency
TOKENS_PER_CHARACTER = 0.25


class Teacher:
    """A model behind an OpenAI-compatible endpoint that serves tasks, with a cache and a quarantine file.

    Args:
        model: its name at the endpoint.
        cache_path, quarantine_path: the files of replies and of rows given up; what was found out about the endpoint
            lies beside the cache in `endpoint.json`, batches under way in `batches/`.
        base_url, api_key: OPENAI_BASE_URL and OPENAI_API_KEY where they are not given.
        concurrency: calls under way at most; fewer while the endpoint throttles.
        timeout: seconds per call. `max_retries`: how often a passing failure is retried. `backoff`: seconds before
            the first retry. `max_tokens`: the cap on a reply.
        requests_per_minute, tokens_per_minute: limits of the account, where the endpoint does not name them itself.
        max_cost: dollars that all recorded calls of this cache together may cost; None is no cap.
        price: of the model; the table's (`load_price`) where it is None.
        retry_failed: ask rows anew whose unusable replies are on record; else they are given up without a call.
        batch: ask through the Batch API (half price, within a day) instead of call by call; `poll` seconds between
            looks at its state.

    `counts` is the account per task (see `ledger.new_counts`). It works in scripts and inside Jupyter's running loop,
    because its own loop lives in a thread.

    >>> with Teacher(model="gpt-6-luna", cache_path="cache.jsonl", quarantine_path="quarantine.jsonl") as teacher:
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
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_cost: float | None = None,
        price: Price | None = None,
        retry_failed: bool = False,
        batch: bool = False,
        poll: float = 30.0,
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
        self.retry_failed = retry_failed
        self.batch = batch
        self.poll = poll
        self.max_cost = max_cost
        self.price = price or load_price(model)
        self._prices = {model: self.price}
        if max_cost is not None and self.price is None:
            raise TeacherError(
                f"There is no price of {model} to hold the cap of ${max_cost:g} by: add it to data/prices.yaml."
            )
        self.counts: dict[str, dict[str, float]] = {}
        self.sampling = {} if temperature is None else {"temperature": temperature}
        self._limits = (requests_per_minute, tokens_per_minute)
        self._key = find_key(api_key, self.base_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answered = False
        self._lost_in_a_row = 0
        self._malformed = 0
        self.budget: Budget | None = None  # of the job under way

    def __enter__(self) -> Teacher:
        self.cache = Cache(self.cache_path)
        if self.retry_failed:
            self.cache.forgive()
        self.features = load_features(self._features_path, shown(self.base_url), self.model)
        self.client = AsyncOpenAI(
            api_key=self._key,
            base_url=self.base_url,
            max_retries=0,
            timeout=self.timeout,
            # A proxy of the environment cannot reach a server on this machine.
            http_client=DefaultAioHttpClient(
                trust_env=not is_loopback(self.base_url), limits=httpx2.Limits(max_connections=None)
            ),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()
        self._pace = Pace(self.concurrency, *self._limits)
        self._pilot = asyncio.Lock()
        self._asking: dict[str, asyncio.Future] = {}
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
        self.cache.close()

    @property
    def _features_path(self) -> Path:
        return self.cache_path.with_name("endpoint.json")

    def map(self, task: Task, rows: Sequence[Row], progress: Progress | None = None) -> list[BaseModel | None]:
        """Ask `task` about every row, `(id, inputs)`; replies in the rows' order, None for a quarantined row.

        Equal inputs are asked once. `progress(done, total, failed, cost)` is called in the caller's thread: rows, and
        `cost()`.
        Raises `TeacherError` when no row can be served (wrong key, model, address) or the cap on dollars is reached;
        what is recorded by then is kept.
        """
        return [reply for _, reply in self.stream(task, list(rows), progress)]

    def stream(
        self, task: Task, rows: Iterable[Row], progress: Progress | None = None
    ) -> Iterator[tuple[str, BaseModel | None]]:
        """As `map`, for any number of rows in bounded memory: yields `(id, reply)` in the rows' order as they come.

        The rows are taken in the teacher's thread, a few hundred ahead of what is read here. (In batch mode they are
        taken all at once, as a batch must be whole before it is sent.)
        """
        if self._loop is None:
            raise RuntimeError("A Teacher is used as a context manager: `with Teacher(...) as teacher:`.")
        counts = self.counts.setdefault(task.name, new_counts())
        before = listed(self.quarantine_path, task.name)
        rows = list(rows) if self.batch else rows
        window = len(rows) + 1 if self.batch else max(WINDOW * self.concurrency, 256)
        job = Job(task, rows, counts, before, window, self._loop, self.cost)
        work = asyncio.run_coroutine_threadsafe(self._run(job, rows), self._loop)
        try:
            yield from job.results(progress)
            work.result()
        finally:
            self._wind_up(job, work)

    def _wind_up(self, job: Job, work: Future) -> None:
        """End a job: calls under way are paid and so waited for, whatever stopped it; a second interrupt cuts that."""
        try:
            if not work.done():
                self._loop.call_soon_threadsafe(self._stop, job)
                wait([work], timeout=self.timeout + 1)
        finally:
            work.cancel()
            settle(self.quarantine_path, job.task.name, job.healed, [job.failures[at] for at in sorted(job.failures)])

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()

    async def _run(self, job: Job, rows: Iterable[Row]) -> None:
        started = time.perf_counter()
        try:
            async with self._spending():
                self.cache.refresh()
                self.budget = self._open_budget()
                job.report(final=True)
                if self.batch:
                    await collect_batches(self, job, rows)
                await self._side_by_side(job)
        finally:
            job.counts["seconds"] += time.perf_counter() - started
            job.report(final=True)
            job.close()

    @asynccontextmanager
    async def _spending(self) -> AsyncIterator[None]:
        """With a cap, one process at a time: two that spend from one purse cannot both keep count of it."""
        if self.max_cost is None:
            yield
            return
        with open(self.cache_path.with_name(".spending.lock"), "w") as lock:
            while not _locked(lock):
                await asyncio.sleep(LOCK_POLL)
            yield

    def _open_budget(self) -> Budget | None:
        if self.max_cost is None:
            return None
        unanswered = self.budget.unanswered if self.budget else 0.0
        return Budget(self.max_cost, self._on_record() + unanswered)

    def cost(self) -> float | str:
        """Dollars for all calls of this cache so far, or in words why there is no such number."""
        if self.price is None:
            return "price unknown"
        if self.price.input == self.price.output == 0:
            return "free"
        return self.budget.spent if self.budget else self._on_record()

    def _on_record(self) -> float:
        for model, _ in self.cache.spending:
            if model not in self._prices:
                self._prices[model] = load_price(model)
        return spent(self.cache.spending, self._prices)

    async def _side_by_side(self, job: Job) -> None:
        """The workers of a job; the first error stops the others after the calls that they are waiting for."""
        self._workers = [asyncio.ensure_future(self._work(job)) for _ in range(self.concurrency)]
        try:
            done, _ = await asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION)
            self._stop(job)
            await asyncio.gather(*self._workers, return_exceptions=True)
            for worker in done:
                if not worker.cancelled() and worker.exception() is not None:
                    raise worker.exception()
        finally:
            for worker in self._workers:
                worker.cancel()

    def _stop(self, job: Job) -> None:
        job.stopped = True
        for worker in getattr(self, "_workers", []):
            if worker not in job.calling:
                worker.cancel()

    async def _work(self, job: Job) -> None:
        while (item := await job.next()) is not None:
            try:
                reply = await self._serve(job, item)
            except Unusable as failure:
                job.give_up(item, failure)
            else:
                job.serve(item, reply)

    async def _serve(self, job: Job, item: Item) -> BaseModel:
        """A row's reply: on record, about to be (another row asks the same), or asked for now."""
        key = job.keys[item.position] if job.keys else cache_key(job.task, item.inputs, self.model, self.sampling)
        if key in self._asking:
            job.counts["from_cache"] += 1
            return await asyncio.shield(self._asking[key])
        if (reply := job.served.get(key) or self.recorded(job.task, item.inputs, key)) is not None:
            job.counts["from_cache"] += 1
            return reply
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self.ask(job, item.inputs, key)
        except Unusable as failure:
            asking.set_exception(failure)
            asking.exception()  # seen, if nobody waits
            raise
        except BaseException:
            asking.cancel()  # the run is ending, for the rows that wait here as well
            raise
        else:
            asking.set_result(reply)
            return reply
        finally:
            del self._asking[key]

    def recorded(self, task: Task, inputs: dict, key: str) -> BaseModel | None:
        """The reply on record under a key, if it passes today's checks."""
        reply = self.cache.get(key)
        if reply is None:
            return None
        try:
            return accept(task, inputs, reply)
        except ReplyError:  # recorded under weaker checks, or edited by hand: ask again
            return None

    def given_up(self, key: str) -> Unusable | None:
        """Why a call is not made any more: as many unusable replies as are allowed are on record already."""
        used, last = self.cache.unusable(key, self.max_tokens)
        if used <= NEW_REQUESTS:
            return None
        return Unusable(last["reason"], raw=last.get("raw"), again=False, attempts=used)

    async def ask(self, job: Job, inputs: dict, key: str) -> BaseModel:
        """Ask one row until it is on record; raises `Unusable` when it is lost, `TeacherError` when all are."""
        if (failure := self.given_up(key) or job.lost.get(key)) is not None:
            raise failure
        waits = throttled = 0
        while True:
            try:
                return await self._call(job, inputs, key)
            except Transient as failure:
                if failure.throttled and throttled < THROTTLED * self.max_retries:  # not the row's fault
                    throttled += 1
                elif waits == self.max_retries:
                    raise self._lost(failure, waits + throttled + 1) from None
                else:
                    waits += 1
                if not job.stopped:
                    await asyncio.sleep(self._pause(waits or min(throttled, SHORT), failure.retry_after))
            except Unusable as failure:
                failure.attempts = self.cache.unusable(key, self.max_tokens)[0] or 1
                if failure.attempts > NEW_REQUESTS or not failure.again:
                    raise
            if job.stopped:
                raise asyncio.CancelledError
            job.counts["retries"] += 1

    async def _call(self, job: Job, inputs: dict, key: str) -> BaseModel:
        """One call in the form that the endpoint understands; until that is known, one call at a time looks for it."""
        if not self.features.proven:
            async with self._pilot:
                if not self.features.proven:
                    return await self._find_form(job, inputs, key)
        features = self.features
        try:
            return await self._call_as(features, job, inputs, key)
        except Refused as refusal:  # it changed since it was remembered
            if self.features == features:
                self.features = replace(_next_form(features, refusal), proven=False)
            raise Transient("the endpoint takes other parameters now", retry_after=0.0) from None

    async def _find_form(self, job: Job, inputs: dict, key: str) -> BaseModel:
        """One call of the search: what is refused is left out at once, what comes back malformed after three times."""
        while True:
            features = self.features
            try:
                reply = await self._call_as(features, job, inputs, key)
            except Refused as refusal:
                self.features = _next_form(features, refusal)
            except Unusable as failure:
                self._malformed += failure.malformed
                if self._malformed == FORM_PATIENCE:
                    self._malformed = 0
                    if (lower := features.without("response_format")) is None:
                        self.features = replace(features, proven=True)  # no form helps: the fault is the model's
                    else:
                        self.features = lower
                        self.cache.forgive(key)  # it was not the row's fault
                raise
            else:
                self.features = replace(features, proven=True)
                save_features(self._features_path, shown(self.base_url), self.model, self.features)
                return reply

    async def _call_as(self, features: Features, job: Job, inputs: dict, key: str) -> BaseModel:
        body = features.body(job.task, inputs, self.model, self.max_tokens, self.sampling)
        return self.record(job, inputs, key, await self._post(job, body))

    def record(self, job: Job, inputs: dict, key: str, body: str) -> BaseModel:
        """Check an endpoint's response body and put it on record, usable or not; raises `Unusable` if it is not."""
        entry, outcome = self.examine(job, inputs, key, body)
        self.cache.append(entry)
        if isinstance(outcome, Unusable):
            raise outcome
        return outcome

    def examine(self, job: Job, inputs: dict, key: str, body: str | dict) -> tuple[dict, BaseModel | Unusable]:
        """What is to be put on record for a response body (its text, or its JSON object), and what came of it."""
        completion, usage, text = {}, {}, None
        try:
            completion = body if isinstance(body, dict) else read_body(body)
            usage = read_usage(completion)
            text = read_text(completion)
            outcome = parse(job.task, inputs, text)
        except ReplyError as error:
            outcome = Unusable(str(error), raw=text, malformed=isinstance(error, Malformed))
        except Unusable as error:
            outcome = error
        if not any(usage.values()):
            said = text or (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))
            usage = guess_usage(messages(job.task, inputs, self.features.structured), said)
        for name in ("prompt_tokens", "completion_tokens"):
            job.counts[name] += usage[name]
        entry = {"key": key, "task": job.task.name, "model": self.model}
        if isinstance(outcome, Unusable):
            raw = (outcome.raw or "").encode("utf-8", "backslashreplace").decode()
            entry |= {"reply": None, "reason": outcome.reason, "raw": raw, "cap": self.max_tokens}
        else:
            entry |= {"reply": outcome.model_dump(), "raw": text}
        return entry | {"usage": usage, "time": datetime.now(UTC).isoformat(timespec="seconds")}, outcome

    async def _post(self, job: Job, body: dict) -> str:
        """One HTTP call; the response's body, in which the key never occurs."""
        sizes = [_size(message["content"]) for message in body["messages"]]
        tokens = sum(sizes) * TOKENS_PER_CHARACTER
        async with self._purse(sum(sizes)) as book, self._pace.slot(tokens) as started:
            worker = asyncio.current_task()
            job.calling.add(worker)
            job.counts["calls"] += 1
            try:
                async with asyncio.timeout(self.timeout):
                    response = await self.client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            except TimeoutError:
                job.counts["unanswered"] += 1
                book(None)
                raise Transient(f"no reply within {self.timeout:g} s", charged=True) from None
            except (APIConnectionError, APIStatusError) as error:
                raise self._consequence(error, job, started, book) from None
            finally:
                job.calling.discard(worker)
            self._answered = True
            self._lost_in_a_row = 0
            self._pace.succeeded(response.headers)
            text = without_key(response.text, self._key)
            if self.budget is not None:
                book(_usage_in(text))
            return text

    def meaning(self, error: Exception) -> Exception:
        """What an error of the SDK means here (see `failures.classify`)."""
        meaning = classify(error, self.base_url, self.model, self._key, self._answered)
        self._answered |= isinstance(error, APIStatusError)
        return meaning

    def _consequence(self, error: Exception, job: Job, started: float, book) -> Exception:
        meaning = self.meaning(error)
        if isinstance(meaning, Transient):
            if meaning.throttled:
                self._pace.throttled(started, meaning.retry_after)
            if meaning.charged:
                job.counts["unanswered"] += 1
                book(None)
        return meaning

    @asynccontextmanager
    async def _purse(self, request_bytes: int) -> AsyncIterator:
        """Reserve the most that a call may cost; yields what its true usage (None: unknown) is booked with."""
        if self.budget is None:
            yield lambda usage: None
            return
        bound = upper_bound(self.price, request_bytes, self.max_tokens)

        def book(usage: Mapping[str, int] | None) -> None:
            if usage is None:
                self.budget.book_unanswered(bound)
            else:
                known = usage["prompt_tokens"] or usage["completion_tokens"]
                self.budget.book(self.price.dollars(*usage.values()) if known else bound)

        async with self.budget.reserve(bound):
            yield book

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


def _locked(file: TextIO) -> bool:
    """Take the lock on a file if it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _next_form(features: Features, refusal: Refused) -> Features:
    for parameter in refusal.parameters:
        if (lower := features.without(parameter)) is not None:
            return lower
    raise refusal.stop


def _usage_in(body: str) -> dict[str, int]:
    try:
        return read_usage(read_body(body))
    except Unusable:
        return {"prompt_tokens": 0, "completion_tokens": 0}


def _size(text: str) -> int:
    """Bytes of a message; text that has none (half a surrogate pair) cannot be sent."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Unusable(
            "the row's text is not valid Unicode (a lone surrogate): repair it in the data.", again=False
        ) from None
