"""Faults inside a completion: HTTP says 200, and what it carries is cut, refused, empty or of another form."""

from __future__ import annotations

import json
from collections.abc import Callable

from knowtuning.teacher.serving.call import Call
from knowtuning.teacher.serving.completion import completion

REFUSAL = "I'm sorry, but I can't help with that."


def spoil(kind: str | None, call: Call, text: str | None, refusal: str | None, wrap: Callable[[str], str]) -> dict:
    """The completion that carries a model's reply (`text`, or None and its `refusal`) with one fault, or none.

    `wrap` puts around a JSON text what the endpoint's dialect puts there.
    """
    if kind in ("refusal", "poison"):
        return completion(call, None, REFUSAL)
    if text is None:
        return completion(call, None, refusal)
    if kind == "truncated":
        whole = wrap(text)
        return completion(call, whole[: len(whole) // 2], finish_reason="length" if len(text) % 2 else "stop")
    if kind == "wrong_schema":
        return completion(call, wrap(json.dumps({"result": {"text": text[:40], "confidence": 0.5}})))
    if kind == "empty_choices":
        return completion(call, text) | {"choices": []}
    if kind == "duplicate_field":
        return completion(call, wrap(duplicate_first_field(text)))
    if kind == "reordered":
        fields = dict(reversed(json.loads(text).items()))
        body = completion(call, wrap(f"\n\n{json.dumps(fields, ensure_ascii=False, indent=4)}  \n"))
        return dict(reversed(body.items()))
    return completion(call, wrap(text))


def duplicate_first_field(text: str) -> str:
    """A JSON object whose first field comes twice: parsers take the last and right one, and say nothing.

    >>> duplicate_first_field('{"facts": ["It is so."]}')
    '{"facts": ["Nothing is known."], "facts": ["It is so."]}'
    """
    field, value = next(iter(json.loads(text).items()))
    wrong = ["Nothing is known."] if isinstance(value, list) else "Nothing is known."
    return f"{{{json.dumps(field)}: {json.dumps(wrong)}, {text[1:]}"
