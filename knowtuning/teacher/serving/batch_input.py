"""The input file of a batch: one request per line, all checked before the first is served."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

MOST_REQUESTS = 50_000
MOST_ERRORS = 20


class InvalidInput(Exception):
    """A file that cannot be a batch; `errors` are OpenAI's objects (code, line, message, param)."""

    def __init__(self, errors: list[dict]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


def read_requests(path: Path, url: str, models: Container[str]) -> list[dict]:
    """The requests in a file; raises `InvalidInput` for lines that are broken or do not fit together."""
    lines = [(number, line) for number, line in enumerate(path.read_bytes().splitlines(), start=1) if line.strip()]
    if not lines:
        raise InvalidInput([_error("empty_file", "The input file holds no request.")])
    if len(lines) > MOST_REQUESTS:
        message = f"The input file holds {len(lines)} requests, more than the limit of {MOST_REQUESTS} of a batch."
        raise InvalidInput([_error("too_many_tasks", message)])
    requests, errors, seen, first = [], [], set(), None
    for number, line in lines:
        request = _read(line)
        if (problem := _problem(request, url, seen, first, models)) is not None:
            errors.append(_error(*problem, line=number))
            if len(errors) == MOST_ERRORS:
                break
            continue
        seen.add(request["custom_id"])
        first = first or request["body"]["model"]
        requests.append(request)
    if errors:
        raise InvalidInput(errors)
    return requests


def invalid_first() -> InvalidInput:
    """A failure that no file deserves."""
    return InvalidInput([_error("invalid_json_line", "This line is not parseable as valid JSON.", line=1)])


def deleted() -> InvalidInput:
    """A file that went away before it was read."""
    return InvalidInput([_error("file_not_found", "The input file was deleted.", "input_file_id")])


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None


def _problem(
    request: Any, url: str, seen: set[str], first: str | None, models: Container[str]
) -> tuple[str, str, str | None] | None:
    """What is wrong with a line, as code, message and parameter."""
    if not isinstance(request, dict):
        return "invalid_json_line", "This line is not parseable as valid JSON.", None
    if not isinstance(request.get("custom_id"), str):
        return "missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id"
    if request["custom_id"] in seen:
        message = f"The custom_id {request['custom_id']!r} was used before in this file."
        return "duplicate_custom_id", message, "custom_id"
    if request.get("method") != "POST":
        return "invalid_method", "The method of a request must be 'POST'.", "method"
    if request.get("url") != url:
        return "invalid_url", f"The URL of a request must be that of the batch, {url!r}.", "url"
    body = request.get("body")
    if not isinstance(body, dict):
        return "missing_required_parameter", "Missing required parameter: 'body'.", "body"
    if body.get("model") not in models:
        return "model_not_found", f"The provided model {body.get('model')!r} does not exist here.", "body.model"
    if first not in (None, body["model"]):
        return "mismatched_model", f"All requests of a batch must use one model, here {first!r}.", "body.model"
    return None


def _error(code: str, message: str, param: str | None = None, line: int | None = None) -> dict:
    return {"code": code, "line": line, "message": message, "param": param}
