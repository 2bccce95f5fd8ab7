"""Faults of the connection and of what stands between: resets, stalls, half bodies, error pages, storms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from aiohttp import web

from knowtuning.teacher.serving.faults import STORM
from knowtuning.teacher.serving.protocol import RequestError

BROKEN = ("storm", "error500", "reset", "stall", "cut_body", "html", "echo_key")
PAGE = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"


async def break_off(kind: str, http: web.Request, stall: float, answer: Callable[[], dict]) -> web.StreamResponse:
    """Answer with one fault of `BROKEN` other than a storm.

    `stall` is seconds, `answer` makes the completion that "cut_body" sends half of.
    """
    if kind == "error500":
        raise RequestError(500, "The server had an error while processing your request. Sorry about that!")
    if kind == "echo_key":
        sent = http.headers.get("Authorization", "no key")
        raise RequestError(500, f"An internal error occurred; the request was sent with Authorization: {sent}")
    if kind == "html":
        return web.Response(status=502, text=PAGE, content_type="text/html")
    if kind == "cut_body":
        return await _half(http, json.dumps(answer()).encode())
    if kind == "stall":
        await _until_gone(http, stall)
    if http.transport is not None:
        http.transport.abort()
    return web.Response()


def stormy() -> RequestError:
    """HTTP 429 with the seconds to wait."""
    return RequestError(
        429,
        "The engine is currently overloaded, please try again later.",
        code="engine_overloaded",
        headers={"Retry-After": str(STORM)},
    )


async def _half(http: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(http)
    await response.write(body[: len(body) // 2])
    if http.transport is not None:
        http.transport.close()
    return response


async def _until_gone(http: web.Request, seconds: float) -> None:
    """Wait, and no longer than the client does."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while http.transport is not None and not http.transport.is_closing() and (left := end - loop.time()) > 0:
        await asyncio.sleep(min(0.05, left))
