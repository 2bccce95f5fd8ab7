"""From the body of a chat completion to the teacher's text, kept raw so that every verdict can be audited.

Read from the bare JSON: the SDK's own objects let a broken body pass without a word.
"""

from __future__ import annotations

import json

from knowtuning.teacher.errors import Unusable


def read_body(body: str) -> dict:
    """The completion object in an HTTP body; raises `Unusable` when there is none."""
    try:
        completion = json.loads(body)
    except json.JSONDecodeError:
        raise Unusable(f"the endpoint's response is {'not JSON' if body.strip() else 'empty'}.", raw=body) from None
    if not isinstance(completion, dict):
        raise Unusable("the endpoint's response is no chat completion.", raw=body)
    return completion


def read_usage(completion: dict) -> dict[str, int]:
    """Tokens charged for a completion, `prompt_tokens` and `completion_tokens`; 0 where the endpoint counts none."""
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counted = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return {name: tokens if isinstance(tokens, int) else 0 for name, tokens in counted.items()}


def guess_usage(messages: list[dict[str, str]], reply: str) -> dict[str, int]:
    """Tokens of a call whose endpoint counts none: a third of its bytes, more than they are in most languages."""
    asked = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
    answered = len(reply.encode("utf-8", "replace"))
    return {"prompt_tokens": -(-asked // 3), "completion_tokens": -(-answered // 3)}


def read_text(completion: dict) -> str:
    """The text of the reply; raises `Unusable` for no choice, a refusal, a cut or withheld reply, and no text."""
    whole = json.dumps(completion, ensure_ascii=False)
    choices = completion.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        raise Unusable("the endpoint returned no choice.", raw=whole)
    message = choices[0].get("message")
    message = message if isinstance(message, dict) else {}
    text = message.get("content")
    if message.get("refusal"):
        raise Unusable(f"the teacher refused: {message['refusal']}", raw=whole)
    if choices[0].get("finish_reason") == "length":
        raise Unusable("the reply was cut at the token limit: raise max_tokens.", raw=text or whole)
    if choices[0].get("finish_reason") == "content_filter":
        raise Unusable("the endpoint's content filter withheld the reply.", raw=text or whole)
    if not (isinstance(text, str) and text.strip()):
        raise Unusable("the reply is empty.", raw=whole)
    return text
