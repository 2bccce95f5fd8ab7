"""What a failed call means: try it again, give this row up, or stop the run."""

from __future__ import annotations

import email.utils
import time
from urllib.parse import urlsplit

from openai import APIConnectionError, APIStatusError, APITimeoutError

from knowtuning.teacher.endpoint import without_key
from knowtuning.teacher.errors import TeacherError, Transient, Unusable

LONGEST_WAIT = 120.0
_BROKEN_OFF = {"ReadError", "WriteError", "CloseError", "RemoteProtocolError"}


def classify(error: Exception, base_url: str, model: str, key: str, answered: bool) -> Exception:
    """The meaning of an SDK error: `Transient`, `Unusable` or `TeacherError`.

    `answered`: whether the endpoint has served anything yet. Before that an unreachable address is a wrong one;
    afterwards it may be a server that restarts. `key` is blotted out of what the endpoint said.
    """
    where = f"{shown(base_url)} (model {model})"
    if isinstance(error, APITimeoutError):
        return Transient("no reply within the time limit")
    if isinstance(error, APIConnectionError):
        return _connection(error, where, answered)
    assert isinstance(error, APIStatusError)
    return _status(error, where, without_key(_said(error), key))


def shown(base_url: str) -> str:
    """A base URL as messages may show it: without user, password and query."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else base_url


def _connection(error: APIConnectionError, where: str, answered: bool) -> Exception:
    cause = error.__cause__
    kind = type(cause).__name__
    if kind in _BROKEN_OFF:
        return Transient(f"the connection broke off ({kind})")
    if answered:
        return Transient(f"the endpoint cannot be reached ({kind})", unreachable=True)
    return TeacherError(
        f"No teacher can be reached at {where}: {cause or error}; start the server there or correct OPENAI_BASE_URL."
    )


def _status(error: APIStatusError, where: str, message: str) -> Exception:
    status = error.status_code
    said = f"HTTP {status}: {message}"
    if status == 401:
        return TeacherError(f"{where} refused the key (HTTP 401): set OPENAI_API_KEY to a key that is valid there.")
    if status == 403:
        return TeacherError(f"{where} does not allow this call ({said}): use a key or a model that has access there.")
    if status == 404:
        return TeacherError(
            f"{where} is not there ({said}): correct OPENAI_BASE_URL (it ends in /v1) or the model's name."
        )
    if error.code == "insufficient_quota":
        return TeacherError(
            f"{where} has no credit left ({said}): raise the account's limit, then run again; nothing recorded is lost."
        )
    if status in (408, 409, 429) or status >= 500:
        return Transient(said, retry_after=_retry_after(error))
    # A parameter other than the messages is the same in every call: one row refused for it means that all will be.
    if error.param and not str(error.param).startswith("messages"):
        return TeacherError(
            f"{where} does not accept the parameter {error.param} ({said}): use a model with structured outputs."
        )
    return Unusable(said, again=False)


def _said(error: APIStatusError) -> str:
    body = error.body
    text = body.get("message") if isinstance(body, dict) else body
    return " ".join(str(text or error.response.reason_phrase).split())[:300]


def _retry_after(error: APIStatusError) -> float | None:
    """Seconds that the endpoint asks us to wait: the header's number, or its date (RFC 9110, section 10.2.3)."""
    value = error.response.headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None
