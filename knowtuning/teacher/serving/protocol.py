"""OpenAI's protocol on the server's side: JSON in, JSON out, and errors in the form of its error object."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

LARGEST_REQUEST = 64 * 2**20  # bytes


class RequestError(Exception):
    """A request that gets an error in reply: HTTP `status`, the JSON `body` and further `headers`."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        body: dict | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body or error_body(status, message, param, code)
        self.headers = dict(headers or {})


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict:
    """An error object as OpenAI's endpoints send it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_response(body: dict, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body in ASCII: a lone surrogate in a reply travels as its escape."""
    return web.Response(
        body=json.dumps(body).encode(), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def page(objects: list[dict], after: str | None, limit: str | None) -> dict:
    """One page of a list, beginning behind the object whose id is `after`; `limit` is 1 to 100 (20 by default)."""
    if not (limit is None or (limit.isdecimal() and 1 <= int(limit) <= 100)):
        raise RequestError(400, f"limit is {limit!r}: use a whole number from 1 to 100.", "limit")
    ids = [each["id"] for each in objects]
    if after is not None and after not in ids:
        raise RequestError(400, f"There is no object {after!r} to begin after.", "after")
    rest = objects[ids.index(after) + 1 :] if after is not None else objects
    data = rest[: int(limit or 20)]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": len(rest) > len(data)}


@web.middleware
async def errors_as_json(request: web.Request, handler) -> web.StreamResponse:
    """Send every error in OpenAI's form, those of the web framework too."""
    try:
        return await handler(request)
    except RequestError as error:
        return json_response(error.body, error.status, error.headers)
    except web.HTTPNotFound:
        message = f"Unknown request URL: {request.method} {request.path}."
        return json_response(error_body(404, message, code="unknown_url"), 404)
    except web.HTTPClientError as error:
        return json_response(error_body(error.status, error.text or error.reason), error.status)


async def read_json(http: web.Request) -> dict:
    """The JSON object in a request's body; raises `RequestError` (400) where there is none."""
    try:
        request = json.loads(await http.read())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"The request is not JSON ({error}).") from None
    if not isinstance(request, dict):
        raise RequestError(400, "The request is not a JSON object.")
    return request
