"""The web application behind the local teacher: OpenAI's chat completions, answered by Python functions.

The task is the name of the requested JSON schema, its inputs are the JSON in the last user message. Tokens are counted
as a quarter of the characters, rounded up.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

Model = Callable[[str, dict], dict]
Faults = Callable[[dict], web.StreamResponse | None | Awaitable[web.StreamResponse | None]]
LARGEST_REQUEST = 64 * 2**20  # bytes


class RequestError(Exception):
    """A request that cannot be served: HTTP `status`, and the sentence and parameter that the error object carries."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


def build_app(models: dict[str, Model], faults: Faults | None = None, delay: float = 0.0) -> web.Application:
    """The web application that serves `models` by name.

    `delay` is seconds before each reply. `faults` is for tests: it sees each request's JSON (and may wait), and what it
    returns is sent in place of the reply.
    """
    app = web.Application(client_max_size=LARGEST_REQUEST)
    app.router.add_get("/v1/models", partial(_list_models, models))
    app.router.add_post("/v1/chat/completions", partial(_complete, models, faults, delay))
    return app


async def _list_models(models: dict[str, Model], request: web.Request) -> web.Response:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "knowtuning"} for name in models]
    return web.json_response({"object": "list", "data": data})


async def _complete(
    models: dict[str, Model], faults: Faults | None, delay: float, http: web.Request
) -> web.StreamResponse:
    try:
        request = await _read_json(http)
        if faults is not None:
            fault = faults(request)
            fault = await fault if inspect.isawaitable(fault) else fault
            if fault is not None:
                return fault
        model, task, inputs = read_request(request, models)
        await asyncio.sleep(delay)
        return web.json_response(_completion(request, _message(models[model], task, inputs)))
    except RequestError as error:
        return error_response(error.status, str(error), error.param)


def read_request(request: dict, models: dict[str, Model]) -> tuple[str, str, dict]:
    """The model, the task and its inputs in a chat request; raises `RequestError` (400, 404 or 422) with the reason."""
    model = request.get("model")
    if not isinstance(model, str):
        raise RequestError(400, "The request names no model.", "model")
    if model not in models:
        raise RequestError(404, f"There is no model {model!r} here, only {', '.join(models)}.", "model")
    if request.get("stream"):
        raise RequestError(400, "This server does not stream.", "stream")
    return model, _task(request.get("response_format")), _inputs(request.get("messages"))


def _task(response_format: Any) -> str:
    schema = response_format.get("json_schema") if isinstance(response_format, dict) else None
    name = schema.get("name") if isinstance(schema, dict) else None
    if not isinstance(name, str):
        raise RequestError(400, "The request names no task: response_format.json_schema.name.", "response_format")
    return name


def _inputs(messages: Any) -> dict:
    if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
        raise RequestError(400, "The request holds no list of messages.", "messages")
    texts = [message.get("content") for message in messages if message.get("role") == "user"]
    try:
        inputs = json.loads(texts[-1])
    except (IndexError, TypeError, json.JSONDecodeError):
        inputs = None
    if not isinstance(inputs, dict):
        raise RequestError(422, "The last user message is not a JSON object of inputs.", "messages")
    return inputs


def _message(model: Model, task: str, inputs: dict) -> dict:
    """The assistant's message: a reply, or, for inputs that are not the model's, a refusal with its reason."""
    try:
        reply = model(task, inputs)
    except ValueError as reason:
        return {"role": "assistant", "content": None, "refusal": str(reason)}
    except Exception as error:
        traceback.print_exc()
        raise RequestError(500, f"The model failed on {task}: {type(error).__name__}: {error}") from error
    return {"role": "assistant", "content": json.dumps(reply, ensure_ascii=False), "refusal": None}


def _completion(request: dict, message: dict) -> dict:
    asked = sum(len(part.get("content") or "") for part in request["messages"])
    usage = {"prompt_tokens": _tokens(asked), "completion_tokens": _tokens(len(message["content"] or ""))}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def _tokens(characters: int) -> int:
    return -(-characters // 4)


async def _read_json(http: web.Request) -> dict:
    try:
        request = json.loads(await http.read())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"The request is not JSON ({error}).") from None
    if not isinstance(request, dict):
        raise RequestError(400, "The request is not a JSON object.")
    return request


def error_response(status: int, message: str, param: str | None = None) -> web.Response:
    """An error in the form of OpenAI's endpoints."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return web.json_response({"error": {"message": message, "type": kind, "param": param, "code": None}}, status=status)
