"""The Batch API: batches by id, kept in a folder, each with the task that runs it."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from knowtuning.files import read_json, write_json
from knowtuning.teacher.serving.batch_run import BatchRun
from knowtuning.teacher.serving.endpoint import Endpoint
from knowtuning.teacher.serving.files import Files
from knowtuning.teacher.serving.options import ServerOptions
from knowtuning.teacher.serving.protocol import RequestError, json_response, page
from knowtuning.teacher.serving.protocol import read_json as read_body

ENDED = ("completed", "failed", "expired", "cancelled")
WINDOW = 24 * 60 * 60  # seconds
URL = "/v1/chat/completions"
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class Batches:
    """The batches of one server; those that a stopped server left unfinished begin anew with `resume`."""

    def __init__(self, folder: Path, endpoint: Endpoint, files: Files, options: ServerOptions) -> None:
        self._folder, self._endpoint, self._files, self._options = folder, endpoint, files, options
        kept = [read_json(path) for path in sorted(folder.glob("*.json"))]
        self._objects = {batch["id"]: batch for batch in kept}
        self._runs: dict[str, tuple[BatchRun, asyncio.Task]] = {}

    def resume(self) -> None:
        """Start what is unfinished."""
        for batch in list(self._objects.values()):
            if batch["status"] not in ENDED:
                cancelling = batch["status"] == "cancelling"
                batch |= {"status": "validating", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
                self._start(batch)
                if cancelling:
                    self._runs[batch["id"]][0].cancel()

    async def stop(self) -> None:
        """Stop all runs where they are."""
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, http: web.Request) -> web.Response:
        """POST /v1/batches."""
        asked = await read_body(http)
        _check(asked, self._files)
        now = int(time.time())
        batch = {
            "id": f"batch_{secrets.token_hex(12)}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "model": None,
            "errors": None,
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "expires_at": now + WINDOW,
            **{f"{status}_at": None for status in _TIMES},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "usage": None,
            "metadata": asked.get("metadata"),
        }
        self._objects[batch["id"]] = batch
        self._start(batch)
        return json_response(batch)

    async def retrieve(self, http: web.Request) -> web.Response:
        """GET /v1/batches/{id}."""
        return json_response(self._get(http))

    async def list(self, http: web.Request) -> web.Response:
        """GET /v1/batches, newest first."""
        newest_first = list(reversed(self._objects.values()))
        return json_response(page(newest_first, http.query.get("after"), http.query.get("limit")))

    async def cancel(self, http: web.Request) -> web.Response:
        """POST /v1/batches/{id}/cancel."""
        batch = self._get(http)
        if batch["status"] not in ("validating", "in_progress"):
            raise RequestError(400, f"Cannot cancel a batch with status '{batch['status']}'.")
        self._runs[batch["id"]][0].cancel()
        return json_response(batch)

    def _get(self, http: web.Request) -> dict:
        name = http.match_info["id"]
        if name not in self._objects:
            raise RequestError(404, f"No batch found with id '{name}'.", "batch_id")
        return self._objects[name]

    def _start(self, batch: dict) -> None:
        number = list(self._objects).index(batch["id"])
        path = self._folder / f"{number:06d}.json"
        run = BatchRun(batch, number, self._endpoint, self._files, self._options, lambda: write_json(path, batch))
        write_json(path, batch)
        task = asyncio.get_running_loop().create_task(run.run())
        task.add_done_callback(_report_failure)
        self._runs[batch["id"]] = run, task


def _report_failure(task: asyncio.Task) -> None:
    """Hand what broke a run to the loop, which prints it: nobody awaits the task."""
    if not task.cancelled():
        task.result()


def _check(asked: dict, files: Files) -> None:
    """Raise `RequestError` (400) for what cannot be a batch at all."""
    if asked.get("endpoint") != URL:
        raise RequestError(400, f"endpoint is {asked.get('endpoint')!r}: this server has {URL!r} only.", "endpoint")
    if asked.get("completion_window") != "24h":
        raise RequestError(400, "completion_window must be '24h'.", "completion_window")
    try:
        purpose = files.get(asked.get("input_file_id"))["purpose"]
    except (RequestError, TypeError):
        message = f"There is no file {asked.get('input_file_id')!r}."
        raise RequestError(400, message, "input_file_id") from None
    if purpose != "batch":
        raise RequestError(400, f"The purpose of the input file is {purpose!r}, not 'batch'.", "input_file_id")
    _check_metadata(asked.get("metadata") or {})


def _check_metadata(metadata: Any) -> None:
    fits = isinstance(metadata, dict) and len(metadata) <= 16
    if not (fits and all(len(key) <= 64 and isinstance(v, str) and len(v) <= 512 for key, v in metadata.items())):
        message = "metadata is at most 16 pairs of strings, keys of 64 and values of 512 characters."
        raise RequestError(400, message, "metadata")
