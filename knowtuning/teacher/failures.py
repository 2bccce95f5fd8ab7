"""What a failed call means: make it again, ask in another form, give this row up, or stop the run."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping

import aiohttp
from openai import APIConnectionError, APIStatusError

from knowtuning.teacher.endpoint import shown, without_key
from knowtuning.teacher.errors import Refused, TeacherError, Transient, Unusable

LONGEST_WAIT = 120.0  # seconds
# what a message has to mention to be about a parameter that has another form
NEGOTIABLE = {
    "response_format": re.compile(r"response_format|json_schema|json_object|structured output", re.I),
    "temperature": re.compile(r"temperature", re.I),
    "max_completion_tokens": re.compile(r"\bmax_completion_tokens\b"),
    "max_tokens": re.compile(r"\bmax_tokens\b"),
}


def classify(error: APIConnectionError | APIStatusError, base_url: str, model: str, key: str, answered: bool):
    """The meaning of an SDK error: a `Transient`, `Refused`, `Unusable` or `TeacherError`, to be raised.

    `answered`: whether the endpoint has served anything yet. Before that an unreachable address is a wrong one;
    afterwards it may be a server that restarts. `key` is blotted out of what the endpoint said.
    """
    where = f"{shown(base_url)} (model {model})"
    if isinstance(error, APIStatusError):
        return _status(error, where, without_key(_words_of(error), key))
    causes: list[BaseException] = [error]  # the SDK's own kinds are too coarse: a reset is a timeout to it
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    nowhere = next((cause for cause in causes if isinstance(cause, aiohttp.ClientConnectorError)), None)
    broken = next((cause for cause in causes if isinstance(cause, aiohttp.ClientError)), causes[-1])
    if nowhere is None:
        return Transient(f"the connection broke off ({type(broken).__name__})", charged=True)
    if answered:
        return Transient(f"the endpoint cannot be reached ({type(nowhere).__name__})", unreachable=True)
    return TeacherError(
        f"No teacher can be reached at {where}: {nowhere}; start the server there or correct OPENAI_BASE_URL."
    )


def _status(error: APIStatusError, where: str, message: str) -> Exception:
    status = error.status_code
    answer = f"HTTP {status}: {message}"
    stops = {
        401: f"{where} refused the key (HTTP 401): set OPENAI_API_KEY to a key that is valid there.",
        403: f"{where} does not allow this call ({answer}): use a key or a model that has access there.",
        404: f"{where} is not there ({answer}): correct OPENAI_BASE_URL (it ends in /v1) or the model's name.",
    }
    if status in stops:
        return TeacherError(stops[status])
    if error.code == "insufficient_quota":
        return TeacherError(
            f"{where} has no credit left ({answer}): raise the account's limit, then run again; "
            "nothing recorded is lost."
        )
    if status in (408, 409, 429) or status >= 500:
        return Transient(answer, _retry_after(error.response.headers), throttled=status == 429)
    if error.code == "context_length_exceeded" or "context length" in message:
        return Unusable(f"the row is too long for the model ({answer}).", again=False)
    # A parameter other than the messages is the same in every call: one row refused for it means that all will be.
    named = str(error.param or "")
    about = [name for name, mention in NEGOTIABLE.items() if name == named or mention.search(message)]
    stop = TeacherError(
        f"{where} does not accept the parameter {named or ' or '.join(about)} ({answer}): "
        "use another model or endpoint."
    )
    if about:
        return Refused(about, stop)
    if named and not named.startswith("messages"):
        return stop
    return Unusable(answer, again=False)


def _words_of(error: APIStatusError) -> str:
    """The endpoint's own words: OpenAI's error object, FastAPI's `detail`, or whatever else the body holds."""
    body = error.body
    text = (body.get("message") or json.dumps(body.get("detail", body))) if isinstance(body, dict) else body
    return " ".join(str(text or error.response.reason_phrase).split())[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks us to wait: OpenAI's milliseconds, or a number or date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None
