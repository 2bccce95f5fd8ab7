"""Where the teacher is and with which key: arguments first, then the environment."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from knowtuning.teacher.errors import TeacherError

OPENAI = "https://api.openai.com/v1"
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


def is_loopback(base_url: str) -> bool:
    """Whether an address is on this machine, where no proxy of the environment can reach it.

    >>> is_loopback("http://127.0.0.1:8000/v1"), is_loopback("https://api.openai.com/v1")
    (True, False)
    """
    host = urlsplit(base_url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
