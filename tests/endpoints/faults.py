"""Faults on purpose: which request meets which, and what each of them does to the reply.

Which one is drawn from the seed, what is asked and how often it was asked before; so a run with one seed meets the same
faults however its calls are ordered in time, and asking again can help.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from knowtuning.teacher.server import RequestError, completion

KINDS = (
    "storm",  # HTTP 429 for everybody during `STORM` seconds
    "error500",  # HTTP 500
    "reset",  # the connection breaks off without a reply
    "stall",  # no reply for a long time, then the connection closes
    "truncated",  # the reply's JSON is cut in the middle
    "cut_body",  # the HTTP body is shorter than its Content-Length
    "wrong_schema",  # JSON, and of another schema
    "refusal",  # the assistant refuses
    "empty_choices",  # a completion without a choice
    "duplicate_field",  # the reply's first field comes twice, the first time with a wrong value
    "reordered",  # a right reply, its fields in another order and blanks around them
    "html",  # HTTP 502 with a page of a proxy
    "echo_key",  # HTTP 500 whose message repeats the Authorization header
)
BROKEN = ("error500", "reset", "stall", "cut_body", "html", "echo_key")  # of the connection; others are in the reply
POISON = "POISON"  # inputs with this word are refused whenever they are asked, where faults are switched on
STORM = 0.05  # seconds
ERROR = "The server had an error while processing your request. Sorry about that!"
PAGE = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"


def call_key(task: str, inputs: dict) -> str:
    """SHA-256 of a task and its inputs, whatever the order of their fields: the key in the server's log."""
    return hashlib.sha256(json.dumps([task, inputs], sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def drawn(share: float, kinds: tuple[str, ...], seed: int, key: str, attempt: int) -> str | None:
    """The fault of one attempt (0 is the first) at a call, or None; the same arguments always draw the same."""
    digest = hashlib.sha256(f"{seed} {key} {attempt}".encode()).digest()
    if int.from_bytes(digest[:8]) / 2**64 >= share:
        return None
    return kinds[int.from_bytes(digest[8:16]) % len(kinds)]


class Faults:
    """The faults of one server. `share` None: none at all, not even for poisoned inputs."""

    def __init__(self, share: float | None = None, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> None:
        self._share, self._kinds, self._seed = share, kinds, seed
        self._attempts: Counter[str] = Counter()
        self._storm_ends = 0.0

    def draw(self, task: str, inputs: dict) -> str | None:
        """The fault that this request meets, "poison", or None; every call counts as one attempt."""
        if self._share is None:
            return None
        if POISON in json.dumps(inputs, ensure_ascii=False):
            return "poison"
        key = call_key(task, inputs)
        self._attempts[key] += 1
        return drawn(self._share, self._kinds, self._seed, key, self._attempts[key] - 1)

    def check_storm(self, begins: bool = False) -> None:
        """Raise HTTP 429 with the seconds to wait while a storm is on, or where one begins."""
        if begins:
            self._storm_ends = time.monotonic() + STORM
        if time.monotonic() < self._storm_ends:
            message = "The engine is currently overloaded, please try again later."
            raise RequestError(429, message, code="engine_overloaded", headers={"Retry-After": str(STORM)})


def spoil(kind: str | None, request: dict, text: str | None, refusal: str | None, wrap: Callable[[str], str]) -> dict:
    """The completion that carries a model's reply (`text`, or None and its `refusal`) with one fault, or none.

    `wrap` puts around a JSON text what the endpoint's dialect puts there.
    """
    if kind in ("refusal", "poison"):
        return completion(request, None, "I'm sorry, but I can't help with that.")
    if text is None:
        return completion(request, None, refusal)
    if kind == "truncated":
        whole = wrap(text)
        return completion(request, whole[: len(whole) // 2], None, "length" if len(text) % 2 else "stop")
    if kind == "wrong_schema":
        return completion(request, wrap(json.dumps({"result": {"text": text[:40], "confidence": 0.5}})))
    if kind == "empty_choices":
        return completion(request, text) | {"choices": []}
    if kind == "duplicate_field":
        return completion(request, wrap(duplicate_first_field(text)))
    if kind == "reordered":
        fields = dict(reversed(json.loads(text).items()))
        body = completion(request, wrap(f"\n\n{json.dumps(fields, ensure_ascii=False, indent=4)}  \n"))
        return dict(reversed(body.items()))
    return completion(request, wrap(text))


def duplicate_first_field(text: str) -> str:
    """A JSON object whose first field comes twice: parsers take the last and right one, and say nothing.

    >>> duplicate_first_field('{"facts": ["It is so."]}')
    '{"facts": ["Nothing is known."], "facts": ["It is so."]}'
    """
    field, value = next(iter(json.loads(text).items()))
    wrong = ["Nothing is known."] if isinstance(value, list) else "Nothing is known."
    return f"{{{json.dumps(field)}: {json.dumps(wrong)}, {text[1:]}"


async def break_off(kind: str, http: web.Request, stall: float, answer: Callable[[], dict]) -> web.StreamResponse:
    """Answer with one fault of `BROKEN`; `stall` is seconds, `answer` makes what "cut_body" sends half of."""
    if kind == "error500":
        raise RequestError(500, ERROR)
    if kind == "echo_key":
        sent = http.headers.get("Authorization", "no key")
        raise RequestError(500, f"An internal error occurred; the request was sent with Authorization: {sent}")
    if kind == "html":
        return web.Response(status=502, text=PAGE, content_type="text/html")
    if kind == "cut_body":
        body = json.dumps(answer()).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(http)
        await response.write(body[: len(body) // 2])
        http.transport.close()
        return response
    end = time.monotonic() + (stall if kind == "stall" else 0)
    while not _gone(http) and time.monotonic() < end:  # no longer than the client waits
        await asyncio.sleep(0.05)
    if http.transport is not None:
        http.transport.abort()
    return web.Response()


def _gone(http: web.Request) -> bool:
    return http.transport is None or http.transport.is_closing()
