"""A batch on its way: validating, in_progress, finalizing, and one of the five ends."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable

from knowtuning.teacher.serving import batch_input
from knowtuning.teacher.serving.batch_lines import Line, run_request, undone
from knowtuning.teacher.serving.endpoint import Endpoint
from knowtuning.teacher.serving.files import Files
from knowtuning.teacher.serving.options import ServerOptions
from knowtuning.teacher.serving.protocol import RequestError

EDGE = 0.1  # share of a batch's time that validating takes, and finalizing
BREATH = 32  # requests after which others get their turn


class BatchRun:
    """Runs one `batch` (the object that clients see, changed in place); `save()` is called at every new status.

    `number` counts the server's batches from 0.
    """

    def __init__(
        self,
        batch: dict,
        number: int,
        endpoint: Endpoint,
        files: Files,
        options: ServerOptions,
        save: Callable[[], None],
    ) -> None:
        self._batch, self._number = batch, number
        self._endpoint, self._files, self._options, self._save = endpoint, files, options, save
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        """Stop before the next request."""
        self._enter("cancelling")
        self._cancelled.set()

    async def run(self) -> None:
        """Take the batch to its end."""
        seconds = self._options.batch_seconds
        await self._pause(seconds * EDGE)
        try:
            requests = await self._validated()
        except batch_input.InvalidInput as invalid:
            self._batch["errors"] = {"object": "list", "data": invalid.errors}
            return self._enter("failed")
        random.Random(f"{self._options.fault_seed} {self._number}").shuffle(requests)
        self._batch["request_counts"]["total"] = len(requests)
        self._enter("in_progress")
        run = len(requests) - math.ceil(self._options.batch_expire * len(requests))
        lines = await self._serve(requests[:run], seconds * (1 - 2 * EDGE))
        end = "completed"
        if len(lines) < len(requests):
            end = "cancelled" if self._cancelled.is_set() else "expired"
        lines += [undone(request, end) for request in requests[len(lines) :]]
        self._enter("finalizing")
        await asyncio.sleep(seconds * EDGE)
        self._write(lines)
        self._enter(end)

    async def _validated(self) -> list[dict]:
        batch, models = self._batch, self._endpoint.models
        if self._options.batch_invalid_first and self._number == 0:
            raise batch_input.invalid_first()
        try:
            path = self._files.path(batch["input_file_id"])
        except RequestError:
            raise batch_input.deleted() from None
        requests = await asyncio.to_thread(batch_input.read_requests, path, batch["endpoint"], models)
        batch["model"] = requests[0]["body"]["model"]
        return requests

    async def _serve(self, requests: list[dict], seconds: float) -> list[Line]:
        """Serve requests evenly over some seconds, until the batch is cancelled."""
        counts = self._batch["request_counts"]
        start, lines = time.monotonic(), []
        for number, request in enumerate(requests, start=1):
            if self._cancelled.is_set():
                break
            lines.append(line := run_request(self._endpoint, request))
            counts["completed" if line.good else "failed"] += 1
            early = start + seconds * number / len(requests) - time.monotonic()
            if early > 0.01 or number % BREATH == 0:
                await self._pause(early)
        return lines

    def _write(self, lines: list[Line]) -> None:
        batch = self._batch
        good, bad = [line for line in lines if line.good], [line for line in lines if not line.good]
        batch["output_file_id"] = self._files.add_lines(f"{batch['id']}_output.jsonl", [line.content for line in good])
        batch["error_file_id"] = self._files.add_lines(f"{batch['id']}_error.jsonl", [line.content for line in bad])
        batch["request_counts"]["failed"] = len(bad)
        batch["usage"] = _usage(good)
        for line in lines if self._endpoint.log.kept else ():
            if line.outcome is not None:
                call = line.call
                self._endpoint.log.write(line.outcome, call and call.key, call and call.task)

    def _enter(self, status: str) -> None:
        # a batch that is cancelled says so until its files are there
        if not (status in ("in_progress", "finalizing") and self._batch["status"] == "cancelling"):
            self._batch["status"] = status
        self._batch[f"{status}_at"] = int(time.time())
        self._save()

    async def _pause(self, seconds: float) -> None:
        """Wait, and no longer than until the batch is cancelled."""
        if seconds <= 0:
            return await asyncio.sleep(0)
        try:
            await asyncio.wait_for(self._cancelled.wait(), seconds)
        except TimeoutError:
            return


def _usage(lines: list[Line]) -> dict:
    asked = sum(line.usage["prompt_tokens"] for line in lines)
    answered = sum(line.usage["completion_tokens"] for line in lines)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + answered,
    }
