"""From a chat request to the task that is asked and its inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from knowtuning.teacher.prompts import TASKS
from knowtuning.teacher.serving.protocol import RequestError


@dataclass(frozen=True)
class Call:
    """What one chat request asks: `task` and its `inputs`, of `model`; `asked` is the prompt's length in characters."""

    model: str
    task: str
    inputs: dict
    asked: int

    @property
    def key(self) -> str:
        """What the call is about, however it is asked (see `call_key`)."""
        return call_key(self.task, self.inputs)


def call_key(task: str, inputs: dict) -> str:
    """SHA-256 of a task and its inputs, whatever the order of their fields: the key in the server's log."""
    content = json.dumps([task, inputs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def read_call(request: dict, models: Container[str]) -> Call:
    """What a chat request asks; raises `RequestError` (400, 404 or 422) with the reason when it asks nothing.

    The task is the name of the requested JSON schema or, without one, the task whose instructions the system message
    begins with. The inputs are the JSON of the last user message.
    """
    model = request.get("model")
    if not isinstance(model, str):
        raise RequestError(400, "The request names no model.", "model")
    if model not in models:
        raise RequestError(404, f"The model {model!r} does not exist here.", "model", "model_not_found")
    if request.get("stream"):
        raise RequestError(400, "This server does not stream.", "stream")
    messages = request.get("messages")
    if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
        raise RequestError(400, "The request holds no list of messages.", "messages")
    asked = sum(len(text) for message in messages if isinstance(text := message.get("content"), str))
    task = _named_task(request.get("response_format")) or _instructed_task(messages)
    return Call(model, task, _inputs(messages), asked)


def _named_task(response_format: Any) -> str | None:
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return None
    schema = response_format.get("json_schema")
    name = schema.get("name") if isinstance(schema, dict) else None
    if not isinstance(name, str):
        raise RequestError(400, "The response format names no schema.", "response_format.json_schema.name")
    return name


def _instructed_task(messages: list[dict]) -> str:
    for message in messages:
        content = message.get("content")
        if message.get("role") in ("system", "developer") and isinstance(content, str):
            for name, task in TASKS.items():
                if content.startswith(task.system):
                    return name
    raise RequestError(400, "No system message holds a known task's instructions, and no schema names it.", "messages")


def _inputs(messages: list[dict]) -> dict:
    texts = [message.get("content") for message in messages if message.get("role") == "user"]
    try:
        inputs = json.loads(texts[-1])
    except (IndexError, TypeError, json.JSONDecodeError, RecursionError):
        inputs = None
    if not isinstance(inputs, dict):
        raise RequestError(422, "The last user message is not a JSON object of inputs.", "messages")
    return inputs
