"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from knowtuning.teacher.serving.broken import BROKEN, break_off, stormy
from knowtuning.teacher.serving.call import Call
from knowtuning.teacher.serving.completion import tokens
from knowtuning.teacher.serving.endpoint import Endpoint
from knowtuning.teacher.serving.limits import Limits
from knowtuning.teacher.serving.options import ServerOptions
from knowtuning.teacher.serving.protocol import RequestError, json_response, read_json

Intercept = Callable[[dict], web.StreamResponse | None | Awaitable[web.StreamResponse | None]]


@dataclass
class _Served:
    """What the log will say about one request."""

    outcome: str = "cancelled"
    call: Call | None = None


class Chat:
    """Serves an endpoint's completions one by one, within limits.

    `intercept` is for tests: it sees each request's JSON (and may wait), and what it returns is sent in place of the
    reply.
    """

    def __init__(
        self, endpoint: Endpoint, limits: Limits, options: ServerOptions, intercept: Intercept | None = None
    ) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._delay = options.delay
        self._stall = options.stall
        self._intercept = intercept

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """Answer one request, whatever comes of it, and log it."""
        served = _Served()
        try:
            with self._limits:
                return await self._serve(http, served)
        except RequestError as error:
            if served.outcome == "cancelled":
                served.outcome = str(error.status)
            raise
        except web.HTTPException as error:  # the web framework's: a body that is too large
            served.outcome = str(error.status)
            raise
        finally:
            self._log(served)

    async def _serve(self, http: web.Request, served: _Served) -> web.StreamResponse:
        request = await read_json(http)
        if self._intercept is not None:
            answer = self._intercept(request)
            answer = await answer if inspect.isawaitable(answer) else answer
            if answer is not None:
                served.outcome = str(answer.status)
                return answer
        if self._endpoint.faults.storming():
            raise stormy()
        served.call = call = self._endpoint.read(request)
        self._limits.admit(tokens(call.asked))
        fault = self._endpoint.faults.draw(call)
        if fault == "storm":
            served.outcome = fault
            self._endpoint.faults.start_storm()
            raise stormy()
        if self._delay:
            await asyncio.sleep(self._delay)
        if fault in BROKEN:
            served.outcome = fault
            return await break_off(fault, http, self._stall, lambda: self._endpoint.answer(call))
        body = self._endpoint.answer(call, fault)
        self._limits.charge(body["usage"]["completion_tokens"])
        gone = http.transport is None or http.transport.is_closing()
        served.outcome = fault or ("abandoned" if gone else "reply")
        return json_response(body)

    def _log(self, served: _Served) -> None:
        if self._endpoint.log.kept:
            key, task = (served.call.key, served.call.task) if served.call else (None, None)
            self._endpoint.log.write(served.outcome, key, task)
