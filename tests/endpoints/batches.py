"""The Files and Batch APIs, as much of them as the client uses: contents of files in a folder, the rest in memory."""

from __future__ import annotations

import asyncio
import json
import math
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import BodyPartReader, web

from endpoints.options import Options
from knowtuning.teacher.server import RequestError, read_json

BREATH = 200  # requests served before other requests get a turn
Answer = Callable[[dict], tuple[int | None, dict]]


class Batches:
    """The batches of one server; `answer` turns the body of a request into a status (None: no response) and a body."""

    def __init__(self, folder: Path, answer: Answer, options: Options) -> None:
        self._folder, self._answer, self._options = folder, answer, options
        self._objects: dict[str, dict] = {}
        self._running: set[asyncio.Task] = set()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Files are created and read, batches created, read and listed."""
        router.add_post("/v1/files", self._upload)
        router.add_get("/v1/files/{id}/content", self._content)
        router.add_post("/v1/batches", self._create)
        router.add_get("/v1/batches", self._list)
        router.add_get("/v1/batches/{id}", self._retrieve)

    def stop(self) -> None:
        """Stop all batches where they are."""
        for task in self._running:
            task.cancel()

    def _keep(self, content: bytes) -> dict:
        name = f"file-{secrets.token_hex(12)}"
        self._folder.mkdir(exist_ok=True)
        (self._folder / name).write_bytes(content)
        about = {"id": name, "object": "file", "bytes": len(content), "created_at": int(time.time())}
        return about | {"filename": name, "purpose": "batch", "status": "processed"}

    async def _upload(self, http: web.Request) -> web.Response:
        content = b""
        async for part in await http.multipart():
            if isinstance(part, BodyPartReader) and part.name == "file":
                content = bytes(await part.read())
        return web.json_response(self._keep(content))

    async def _content(self, http: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._folder / http.match_info["id"])

    async def _create(self, http: web.Request) -> web.Response:
        asked = await read_json(http)
        if not (self._folder / str(asked.get("input_file_id"))).is_file():
            raise RequestError(400, f"There is no file {asked.get('input_file_id')!r}.", "input_file_id")
        batch = {"id": f"batch_{secrets.token_hex(12)}", "object": "batch", "created_at": int(time.time())} | asked
        batch |= {"status": "validating", "output_file_id": None, "error_file_id": None, "errors": None}
        batch |= {"request_counts": {"total": 0, "completed": 0, "failed": 0}}
        number = len(self._objects)
        self._objects[batch["id"]] = batch
        task = asyncio.create_task(self._run(batch, number))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.json_response(batch)

    async def _list(self, http: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self._objects.values())[::-1], "has_more": False})

    async def _retrieve(self, http: web.Request) -> web.Response:
        if http.match_info["id"] not in self._objects:
            raise RequestError(404, f"No batch found with id '{http.match_info['id']}'.", "batch_id")
        return web.json_response(self._objects[http.match_info["id"]])

    async def _run(self, batch: dict, number: int) -> None:
        """Serve the requests of a batch in another order than theirs, some of them not at all where it expires."""
        await asyncio.sleep(0)
        text = (self._folder / batch["input_file_id"]).read_text(encoding="utf-8")
        requests = [json.loads(line) for line in text.split("\n") if line.strip()]
        if self._options.batch_invalid_first and number == 0:
            error = {"code": "invalid_json_line", "line": 1, "message": "This line is not parseable as valid JSON."}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
            return
        batch["status"] = "in_progress"
        batch["request_counts"]["total"] = len(requests)
        random.Random(number).shuffle(requests)
        undone = math.ceil(self._options.batch_expire * len(requests))
        served, start, lines = requests[: len(requests) - undone], time.monotonic(), {True: [], False: []}
        for place, request in enumerate(served, start=1):
            status, body = self._answer(request["body"])
            lines[status == 200].append(_line(request, status, body))
            batch["request_counts"]["completed" if status == 200 else "failed"] += 1
            early = start + self._options.batch_seconds * place / len(requests) - time.monotonic()
            if early > 0.01 or place % BREATH == 0:
                await asyncio.sleep(max(early, 0))
        error = {"code": "batch_expired", "message": "This request could not be executed before the window expired."}
        lines[False] += [_line(request, None, error) for request in requests[len(served) :]]
        for good, name in ((True, "output_file_id"), (False, "error_file_id")):
            if lines[good]:
                batch[name] = self._keep("".join(json.dumps(line) + "\n" for line in lines[good]).encode())["id"]
        batch["status"] = "expired" if undone else "completed"


def _line(request: dict, status: int | None, body: dict) -> dict:
    line = {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": request["custom_id"]}
    if status is None:
        return line | {"response": None, "error": body}
    return line | {"response": {"status_code": status, "request_id": "req", "body": body}, "error": None}
