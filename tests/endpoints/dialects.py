"""How endpoints differ in what they accept, with the errors that each of them really sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from knowtuning.teacher.server import RequestError


def _refuse_schema(request: dict) -> None:
    if _format(request) == "json_schema":
        message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
        raise RequestError(400, message, "response_format")


def _refuse_format(request: dict) -> None:
    """Like small servers of one's own: a sentence, and no parameter to read it from."""
    if request.get("response_format") is not None:
        raise RequestError(400, "response_format is not supported by this server.")


def _refuse_what_is_new(request: dict) -> None:
    """Like OpenAI and Azure before September 2024."""
    if "max_completion_tokens" in request:
        raise RequestError(400, "Unrecognized request argument supplied: max_completion_tokens")
    if _format(request) == "json_schema":
        message = "Invalid value: 'json_schema'. Supported values are: 'text' and 'json_object'."
        raise RequestError(400, message, "response_format.type", "invalid_value")


def _refuse_sampling(request: dict) -> None:
    """Like OpenAI's reasoning models."""
    if "max_tokens" in request:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. "
        message += "Use 'max_completion_tokens' instead."
        raise RequestError(400, message, "max_tokens", "unsupported_parameter")
    if (given := request.get("temperature")) not in (None, 1):
        message = f"Unsupported value: 'temperature' does not support {given} with this model. "
        message += "Only the default (1) value is supported."
        raise RequestError(400, message, "temperature", "unsupported_value")


_KNOWN = {"model", "messages", "response_format", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "stream"}


def _refuse_unknown(request: dict) -> None:
    """Like gateways whose request model forbids extra fields (FastAPI)."""
    detail = [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": value}
        for name, value in request.items()
        if name not in _KNOWN
    ]
    if detail:
        error = RequestError(422, detail[0]["msg"])
        error.body = {"detail": detail}
        raise error


@dataclass(frozen=True)
class Dialect:
    """An endpoint's ways: `check` raises `RequestError` for what it refuses; `prose`: replies are wrapped in prose."""

    about: str
    check: Callable[[dict], None] = lambda request: None
    prose: bool = False


DIALECTS = {
    "openai": Dialect("takes every parameter and enforces the schema"),
    "no-schema": Dialect("refuses a JSON schema, knows json_object", _refuse_schema),
    "text-only": Dialect("refuses any response_format, replies in prose", _refuse_format, prose=True),
    "ignores-schema": Dialect("takes a JSON schema and replies in prose all the same", prose=True),
    "old": Dialect("knows max_tokens and json_object only", _refuse_what_is_new),
    "reasoning": Dialect("refuses temperature and max_tokens", _refuse_sampling),
    "strict-params": Dialect("refuses unknown parameters as FastAPI does (HTTP 422)", _refuse_unknown),
}


def in_prose(text: str) -> str:
    """A JSON reply as a talkative model gives it.

    >>> in_prose('{"facts": []}').splitlines()[2:5]
    ['```json', '{"facts": []}', '```']
    """
    return f"Sure! Here is the JSON object you asked for:\n\n```json\n{text}\n```\n\nLet me know if it needs a change."


def _format(request: dict) -> str | None:
    given = request.get("response_format")
    return given.get("type") if isinstance(given, dict) else None
