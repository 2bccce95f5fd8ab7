"""An endpoint with its ways: the package's own protocol with dialects, limits, faults and batches on top."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from endpoints import faults
from endpoints.batches import Batches
from endpoints.dialects import DIALECTS, in_prose
from endpoints.limits import Limits
from endpoints.options import Options
from knowtuning.teacher.server import Model, RequestError, ask_model, new_app, read_call, read_json

Intercept = Callable[[dict], web.StreamResponse | None | Awaitable[web.StreamResponse | None]]


class Endpoint:
    """The `models` by name behind one dialect, with the faults, limits and log of one server.

    The log has a JSON line per request: `key` (see `call_key`; null when nothing was read), `task`, `outcome` and
    `time` (Unix seconds). Outcomes: "reply"; "batch" for a reply in a batch's output; a kind of fault, or "poison";
    "abandoned" when the client had gone before its reply; "cancelled" when the server stopped before it; else the HTTP
    status. `intercept` sees each request's JSON (and may wait); what it returns is sent in place of the reply.
    """

    def __init__(self, models: Mapping[str, Model], options: Options, intercept: Intercept | None = None) -> None:
        self.models, self.options, self.intercept = models, options, intercept
        self.dialect = DIALECTS[options.dialect]
        self.faults = faults.Faults(options.faults, options.fault_kinds, options.fault_seed)
        limits = options.requests_per_minute, options.tokens_per_minute, options.capacity, options.burst
        self.limits = Limits(*limits)
        self._log = open(options.log, "a", encoding="utf-8") if options.log else None  # noqa: SIM115 (closed by close)

    def close(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()

    def log(self, outcome: str, call: tuple[str, dict] | None) -> None:
        """Add one request to the log."""
        if self._log:
            key, task = (faults.call_key(*call), call[0]) if call else (None, None)
            line = {"key": key, "task": task, "outcome": outcome, "time": round(time.time(), 6)}
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()

    def read(self, request: dict) -> tuple[str, dict]:
        """Task and inputs of a request; raises `RequestError` for what the dialect or nobody understands."""
        self.dialect.check(request)
        return read_call(request, self.models)

    def answer(self, request: dict, call: tuple[str, dict], fault: str | None = None) -> dict:
        """The completion of a call, spoilt by `fault` where it is one that a completion can carry."""
        text, refusal = ask_model(self.models[request["model"]], *call)
        return faults.spoil(fault, request, text, refusal, in_prose if self.dialect.prose else str)

    def answer_in_batch(self, request: dict) -> tuple[int | None, dict]:
        """Status and body of one request of a batch; no connection can break there, so that some have no status."""
        call = fault = None
        try:
            call = self.read(request)
            fault = self.faults.draw(*call)
            if fault == "storm":
                self.faults.check_storm(begins=True)
            if fault in ("html", "error500", "echo_key"):
                raise RequestError(500, faults.ERROR)
        except RequestError as error:
            self.log(fault or str(error.status), call)
            return error.status, error.body
        self.log(fault or "batch", call)
        if fault in faults.BROKEN:
            return None, {"code": "server_error", "message": "The request could not be executed."}
        return 200, self.answer(request, call, fault)

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """Answer one chat request, whatever comes of it, and log it."""
        served = {"outcome": "cancelled", "call": None}
        try:
            with self.limits:
                return await self._serve(http, served)
        except RequestError as error:
            if served["outcome"] == "cancelled":
                served["outcome"] = str(error.status)
            raise
        finally:
            self.log(**served)

    async def _serve(self, http: web.Request, served: dict) -> web.StreamResponse:
        request = await read_json(http)
        if self.intercept is not None:
            response = self.intercept(request)
            response = await response if inspect.isawaitable(response) else response
            if response is not None:
                served["outcome"] = str(response.status)
                return response
        self.faults.check_storm()
        served["call"] = call = self.read(request)
        self.limits.admit(sum(len(message["content"]) for message in request["messages"]) // 4)
        fault = self.faults.draw(*call)
        served["outcome"] = fault or "cancelled"
        if fault == "storm":
            self.faults.check_storm(begins=True)
        if self.options.delay:
            await asyncio.sleep(self.options.delay)
        if fault in faults.BROKEN:
            return await faults.break_off(fault, http, self.options.stall, lambda: self.answer(request, call))
        body = self.answer(request, call, fault)
        self.limits.charge(body["usage"]["completion_tokens"])
        gone = http.transport is None or http.transport.is_closing()
        served["outcome"] = fault or ("abandoned" if gone else "reply")
        return web.json_response(body)


def build_endpoint(
    models: Mapping[str, Model], options: Options, intercept: Intercept | None = None
) -> web.Application:
    """The web application of an endpoint; the files of its batches go with it."""
    endpoint = Endpoint(models, options, intercept)
    folder = Path(tempfile.gettempdir(), f"knowtuning-batches-{id(endpoint)}-{time.time_ns()}")
    batches = Batches(folder, endpoint.answer_in_batch, options)
    app = new_app(models, **({"shutdown_date": options.shutdown_date} if options.shutdown_date else {}))
    app.router.add_post("/v1/chat/completions", endpoint.complete)
    batches.add_routes(app.router)

    async def run(app: web.Application) -> AsyncIterator[None]:
        yield
        batches.stop()
        endpoint.close()
        shutil.rmtree(folder, ignore_errors=True)

    async def add_headers(http: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(endpoint.limits.headers())

    app.cleanup_ctx.append(run)
    app.on_response_prepare.append(add_headers)
    return app
