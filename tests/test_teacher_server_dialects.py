"""Each dialect takes and refuses what its endpoints do; the errors are read through OpenAI's own SDK."""

from __future__ import annotations

import json

import pytest
from endpoints.options import Options
from knowtuning.teacher.serving.dialects import DIALECTS
from openai import APIStatusError
from teacher_server import request_body, sdk, serving

from knowtuning.teacher.prompts import EXTRACT, messages

SCHEMA = {}
OBJECT = {"response_format": {"type": "json_object"}}
TEXT = {"response_format": None}
TAKEN = [
    ("openai", SCHEMA | {"temperature": 0.2, "max_completion_tokens": 9}),
    ("openai", OBJECT | {"max_tokens": 9}),
    ("no-schema", OBJECT | {"max_completion_tokens": 9, "temperature": 0.2}),
    ("no-schema", TEXT),
    ("text-only", TEXT | {"max_completion_tokens": 9}),
    ("ignores-schema", SCHEMA),
    ("old", OBJECT | {"max_tokens": 9, "temperature": 0.2}),
    ("reasoning", SCHEMA | {"max_completion_tokens": 9, "temperature": 1}),
    ("strict-params", SCHEMA | {"max_tokens": 9, "temperature": 0.2}),
]
REFUSED = [
    ("no-schema", SCHEMA, "response_format", None, "'json_schema' is not supported"),
    ("text-only", SCHEMA, None, "400", "response_format is not supported"),
    ("text-only", OBJECT, None, "400", "response_format is not supported"),
    ("old", OBJECT | {"max_completion_tokens": 9}, None, None, "Unrecognized request argument .*max_completion_tokens"),
    ("old", SCHEMA, "response_format.type", "invalid_value", "'json_schema'"),
    ("reasoning", {"temperature": 0.2}, "temperature", "unsupported_value", "only the default"),
    ("reasoning", {"max_tokens": 9}, "max_tokens", "unsupported_parameter", "use 'max_completion_tokens'"),
]


def ask(dialect: str, changes: dict) -> str:
    """The reply's text to a request with the instructions of a task and these changes."""
    body = request_body(messages=messages(EXTRACT, {"question": "Q?", "answer": "A. B."}, "text")) | changes
    body = {name: value for name, value in body.items() if value is not None}
    with serving(options=Options(dialect=dialect)) as server:
        return sdk(server.base_url).chat.completions.create(**body).choices[0].message.content


@pytest.mark.parametrize(("dialect", "changes"), TAKEN)
def test_a_dialect_takes_what_it_knows(dialect, changes):
    text = ask(dialect, changes)
    if dialect in ("text-only", "ignores-schema"):
        before, text, after = text.split("```")
        assert before.strip() and after.strip() and text.startswith("json\n")
        text = text.removeprefix("json")
    assert json.loads(text) == {"facts": ["A.", "B."]}


@pytest.mark.parametrize(("dialect", "changes", "param", "code", "message"), REFUSED)
def test_a_dialect_refuses_what_it_does_not_know(dialect, changes, param, code, message):
    with pytest.raises(APIStatusError, match=f"(?i){message}") as refused:
        ask(dialect, changes)
    error = refused.value
    assert (error.status_code, error.param, error.code) == (400, param, code)
    assert ("param" in error.body) == (dialect != "text-only")


def test_a_strict_gateway_refuses_in_the_form_of_fastapi():
    with pytest.raises(APIStatusError) as refused:
        ask("strict-params", {"max_completion_tokens": 9})
    assert refused.value.status_code == 422
    [detail] = refused.value.response.json()["detail"]
    assert detail["loc"] == ["body", "max_completion_tokens"] and detail["type"] == "extra_forbidden"
    assert detail["msg"] == "Extra inputs are not permitted"


def test_every_dialect_is_tried():
    assert {dialect for dialect, _ in TAKEN} == set(DIALECTS)
