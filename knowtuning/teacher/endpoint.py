"""Where the teacher is, with which key, and how it wants to be asked: that is found out once and kept on record."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from knowtuning.teacher.errors import Refused, TeacherError
from knowtuning.teacher.prompts import Task, messages, response_format

OPENAI = "https://api.openai.com/v1"
STRUCTURED = ("json_schema", "json_object", "text")
CAPS = ("max_completion_tokens", "max_tokens", None)
_PLACEHOLDER = "none"
_SHORTEST_SECRET = 16  # shorter keys are placeholders of keyless servers, and may well be words of a reply


def find_base_url(given: str | None) -> str:
    """The base URL: the one given, OPENAI_BASE_URL, or OpenAI's."""
    base_url = given or os.environ.get("OPENAI_BASE_URL") or OPENAI
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TeacherError(f"{base_url!r} is no address of a teacher: write OPENAI_BASE_URL as https://host/v1.")
    if parts.username or parts.password:
        raise TeacherError(
            f"OPENAI_BASE_URL ({parts.scheme}://{parts.hostname}…) holds a user or a password: put the secret into "
            "OPENAI_API_KEY, where no message repeats it."
        )
    return base_url


def find_key(given: str | None, base_url: str) -> str:
    """The key to send: the one given, OPENAI_API_KEY, or a placeholder for servers that ask for none."""
    key = (given or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key and base_url == OPENAI:
        raise TeacherError(
            "There is no key for the teacher: set OPENAI_API_KEY, or OPENAI_BASE_URL to a server that needs none."
        )
    if not (key.isascii() and key.isprintable()):
        raise TeacherError("OPENAI_API_KEY holds characters that no key has: set it anew.")
    return key or _PLACEHOLDER


def without_key(text: str, key: str) -> str:
    """`text` with the key blotted out, for endpoints that repeat what they were sent."""
    return text.replace(key, "[key]") if len(key) >= _SHORTEST_SECRET else text


def shown(base_url: str) -> str:
    """A base URL as messages may show it: without a query, where a secret could stand."""
    return base_url.partition("?")[0]


def is_loopback(base_url: str) -> bool:
    """Whether an address is on this machine, where no proxy of the environment can reach it.

    >>> is_loopback("http://127.0.0.1:8000/v1"), is_loopback("https://api.openai.com/v1")
    (True, False)
    """
    host = urlsplit(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


@dataclass(frozen=True)
class Features:
    """How one model is to be asked: the strongest form of structured reply, the name of the cap, whether it samples.

    `proven`: a reply came back in this form, so that nothing is left to find out.
    """

    structured: str = "json_schema"
    cap: str | None = "max_completion_tokens"
    temperature: bool = True
    proven: bool = False

    def body(self, task: Task, inputs: dict, model: str, max_tokens: int, sampling: dict) -> dict:
        """The JSON body of one call in the form that the model understands."""
        body = {"model": model, "messages": messages(task, inputs, self.structured)}
        if (form := response_format(task, self.structured)) is not None:
            body["response_format"] = form
        if self.cap is not None:
            body[self.cap] = max_tokens
        return body | (sampling if self.temperature else {})

    def without(self, parameter: str) -> Features | None:
        """The next form to try when `parameter` was refused; None where nothing is left to give up.

        >>> Features().without("response_format").structured, Features().without("max_completion_tokens").cap
        ('json_object', 'max_tokens')
        """
        if parameter == "response_format" and self.structured != STRUCTURED[-1]:
            return replace(self, structured=STRUCTURED[STRUCTURED.index(self.structured) + 1])
        if parameter == self.cap and parameter is not None:
            return replace(self, cap=CAPS[CAPS.index(self.cap) + 1])
        if parameter == "temperature" and self.temperature:
            return replace(self, temperature=False)
        return None

    def after(self, refusal: Refused) -> Features:
        """The next form after a refusal; raises what the refusal means where there is none."""
        forms = (self.without(parameter) for parameter in refusal.parameters)
        if (form := next(filter(None, forms), None)) is None:
            raise refusal.stop
        return form
