"""From a model's reply to the chat completion that carries it."""

from __future__ import annotations

import itertools
import json
import secrets
import time
import traceback
from collections.abc import Callable

from knowtuning.teacher.serving.call import Call
from knowtuning.teacher.serving.protocol import RequestError

Model = Callable[[str, dict], dict]

_numbers = itertools.count()
_process = secrets.token_hex(8)


def reply_text(model: Model, call: Call) -> tuple[str | None, str | None]:
    """The model's reply as JSON text, or, for inputs that are not the model's, None and the reason of its refusal."""
    try:
        return json.dumps(model(call.task, call.inputs), ensure_ascii=False), None
    except ValueError as reason:
        return None, str(reason)
    except Exception as error:
        traceback.print_exc()
        raise RequestError(500, f"The model failed on {call.task}: {type(error).__name__}: {error}") from error


def completion(call: Call, content: str | None, refusal: str | None = None, finish_reason: str = "stop") -> dict:
    """A chat completion with one choice; a token is a quarter of the characters, rounded up."""
    prompt_tokens, completion_tokens = tokens(call.asked), tokens(len(content or refusal or ""))
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": f"chatcmpl-{_process}{next(_numbers)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def tokens(characters: int) -> int:
    """Tokens in a text of that many characters."""
    return -(-characters // 4)
