"""The rig itself: endpoints fail, refuse, throttle and batch as told, or no test of the client says a thing."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections import Counter

import pytest
from endpoints.dialects import DIALECTS
from endpoints.faults import KINDS, POISON, STORM, Faults, call_key, drawn
from endpoints.options import Options
from openai import APIStatusError
from teacher_server import OPENER, post, request_body, sdk, serving

from knowtuning.files import read_jsonl
from knowtuning.teacher.prompts import EXTRACT, messages

INPUTS = {"question": "Q?", "answer": "A. B."}
RIGHT = {"facts": ["A.", "B."]}
OBJECT = {"response_format": {"type": "json_object"}}
TEXT = {"response_format": None}


def always(kind: str, **options) -> Options:
    return Options(faults=1.0, fault_kinds=(kind,), **options)


def content(kind: str, **options) -> str | None:
    """The text of the completion that carries a fault."""
    with serving(options=always(kind, **options)) as server:
        status, reply = post(server.base_url, request_body())
    assert status == 200
    return reply["choices"][0]["message"]["content"]


def refused(base_url: str, **headers: str) -> urllib.error.HTTPError:
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(request_body()).encode(), headers)
    with pytest.raises(urllib.error.HTTPError) as error:
        OPENER.open(request)
    return error.value


def ask(dialect: str, changes: dict) -> str:
    """The reply's text to a request with the instructions of a task and these changes."""
    body = request_body(messages=messages(EXTRACT, INPUTS, "text")) | changes
    body = {name: value for name, value in body.items() if value is not None}
    with serving(options=Options(dialect=dialect)) as server:
        return sdk(server.base_url).chat.completions.create(**body).choices[0].message.content


def test_the_same_seed_draws_the_same_faults_in_whatever_order_the_calls_come():
    draws = Counter(drawn(0.26, KINDS, 3, str(n), 0) for n in range(13000))
    assert draws.pop(None) == pytest.approx(13000 * 0.74, rel=0.03) and set(draws) == set(KINDS)
    calls = [("extract", {"question": str(n), "answer": "A."}) for n in range(40)]
    forward, backward = Faults(0.5), Faults(0.5)
    one = [[forward.draw(*call) for call in calls] for _ in range(3)]
    other = [[backward.draw(*call) for call in reversed(calls)][::-1] for _ in range(3)]
    assert one == other and one[0] != one[1], "asking again is another attempt"
    poison = "extract", {"answer": f"{POISON}."}
    assert [Faults(share).draw(*poison) for share in (None, 0.0, 1.0)] == [None, "poison", "poison"]


def test_a_storm_meets_everybody_and_passes():
    seed = next(s for s in range(1000) if drawn(0.1, KINDS, s, call_key("extract", INPUTS), 0) == "storm")
    other = messages(EXTRACT, {"question": "Other?", "answer": "A."})
    with serving(options=Options(faults=0.1, fault_seed=seed)) as server:
        error = refused(server.base_url)
        bystander = post(server.base_url, request_body(messages=other))[0]
        time.sleep(STORM)
        afterwards = post(server.base_url, request_body(messages=other))[0]
    assert (error.code, error.headers["Retry-After"], bystander, afterwards) == (429, "0.05", 429, 200)


def test_errors_of_the_server_and_of_what_stands_before_it():
    with serving(options=always("echo_key")) as server:
        error = refused(server.base_url, Authorization="Bearer sk-secret")
    assert error.code == 500 and "Bearer sk-secret" in json.loads(error.read())["error"]["message"]
    with serving(options=always("html")) as server:
        error = refused(server.base_url)
    assert error.code == 502 and error.read().startswith(b"<html>")
    with serving(options=always("error500")) as server:
        assert post(server.base_url, request_body())[1]["error"]["type"] == "server_error"


@pytest.mark.parametrize("kind", ["reset", "stall"])
def test_a_connection_that_breaks_off_without_a_reply(kind, capfd):
    with (
        serving(options=always(kind, stall=0.1)) as server,
        pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)),
    ):
        post(server.base_url, request_body())
    assert capfd.readouterr().err == ""


def test_a_body_shorter_than_it_promised():
    with serving(options=always("cut_body")) as server, pytest.raises(http.client.IncompleteRead):
        post(server.base_url, request_body())


def test_faults_of_the_reply():
    with pytest.raises(json.JSONDecodeError):
        json.loads(content("truncated"))
    assert "facts" not in json.loads(content("wrong_schema")) and content("refusal") is None
    [(first, wrong), (second, right)] = json.loads(content("duplicate_field"), object_pairs_hook=list)
    assert first == second == "facts" and wrong != right == RIGHT["facts"]
    assert json.loads(content("reordered")) == RIGHT
    text = content("duplicate_field", dialect="ignores-schema")
    assert text.count("```") == 2 and text.count('"facts"') == 2
    with serving(options=always("empty_choices")) as server:
        assert post(server.base_url, request_body())[1]["choices"] == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_takes_what_it_knows(dialect):
    form = {"text-only": TEXT, "ignores-schema": {}, "no-schema": OBJECT, "old": OBJECT}.get(dialect, {})
    text = ask(dialect, form | ({"max_completion_tokens": 9} if dialect == "reasoning" else {"max_tokens": 9}))
    assert json.loads(text.split("```")[1].removeprefix("json") if DIALECTS[dialect].prose else text) == RIGHT


@pytest.mark.parametrize(
    ("dialect", "changes", "status", "said"),
    [
        ("no-schema", {}, 400, "'json_schema' is not supported"),
        ("text-only", OBJECT, 400, "response_format is not supported"),
        ("old", OBJECT | {"max_completion_tokens": 9}, 400, "Unrecognized request argument .*max_completion_tokens"),
        ("old", {}, 400, "'json_schema'"),
        ("reasoning", {"temperature": 0.2}, 400, "[Oo]nly the default"),
        ("reasoning", {"max_tokens": 9}, 400, "Use 'max_completion_tokens'"),
        ("strict-params", {"max_completion_tokens": 9}, 422, "Error code: 422"),
    ],
)
def test_a_dialect_refuses_what_it_does_not_know(dialect, changes, status, said):
    with pytest.raises(APIStatusError, match=said) as error:
        ask(dialect, changes)
    assert error.value.status_code == status


def test_limits_are_told_and_kept():
    with serving(options=Options(requests_per_minute=2)) as server:
        assert [post(server.base_url, request_body())[0] for _ in range(2)] == [200, 200]
        error = refused(server.base_url)
    assert error.code == 429 and 29000 < int(error.headers["retry-after-ms"]) <= 30000
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    with serving(options=Options(tokens_per_minute=10)) as server:
        assert refused(server.base_url).headers["retry-after"] is None, "it never fits"


def test_the_log_tells_what_was_answered_and_how_often(tmp_path):
    log = tmp_path / "served.jsonl"
    with serving(options=Options(log=log, faults=0.0)) as server:
        post(server.base_url, request_body())
        post(server.base_url, request_body(messages=messages(EXTRACT, {"question": "Q?", "answer": POISON})))
        post(server.base_url, request_body(model="gpt-4"))
        post(server.base_url, b"{")
    lines = read_jsonl(log)
    assert [line["outcome"] for line in lines] == ["reply", "poison", "404", "400"]
    assert lines[0]["key"] == call_key("extract", INPUTS) and [line["task"] for line in lines[1:]] == [
        "extract",
        None,
        None,
    ]


def test_a_value_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="no dialect 'klingon': use openai, "):
        Options(dialect="klingon")
    with pytest.raises(ValueError, match="no fault kind 'rain'"):
        Options(fault_kinds=("rain",))


# --- batches


def batch_of(client, count: int):
    """A batch of so many requests, once it has ended."""
    chats = [messages(EXTRACT, {"question": "Q?", "answer": f"A {number}. B."}) for number in range(count)]
    line = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [line | {"custom_id": f"r{n}", "body": request_body(messages=chat)} for n, chat in enumerate(chats)]
    file = client.files.create(file=("in", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    asked = {"endpoint": line["url"], "completion_window": "24h", "metadata": {"mark": "m"}}
    batch = client.batches.create(input_file_id=file.id, **asked)
    while batch.status not in ("completed", "failed", "expired"):
        batch = client.batches.retrieve(batch.id)
    return batch


def output(client, file_id: str | None) -> list[dict]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()] if file_id else []


def test_a_batch_is_served_in_another_order_and_found_by_its_mark():
    with serving(options=Options(batch_seconds=0.0)) as server:
        client = sdk(server.base_url)
        batch = batch_of(client, 20)
        lines = output(client, batch.output_file_id)
        assert [found.metadata for found in client.batches.list()] == [{"mark": "m"}]
    ids = [line["custom_id"] for line in lines]
    assert batch.status == "completed" and sorted(ids) == sorted(f"r{n}" for n in range(20)) != ids
    for line in lines:
        text = line["response"]["body"]["choices"][0]["message"]["content"]
        assert json.loads(text)["facts"][0] == f"A {line['custom_id'][1:]}."


def test_a_batch_that_expires_lists_what_was_not_done_and_the_first_fails_where_that_is_asked_for():
    with serving(options=Options(batch_seconds=0.0, batch_expire=0.3, batch_invalid_first=True)) as server:
        client = sdk(server.base_url)
        first, batch = batch_of(client, 2), batch_of(client, 10)
        done, errors = output(client, batch.output_file_id), output(client, batch.error_file_id)
    assert (first.status, first.errors.data[0].code, batch.status) == ("failed", "invalid_json_line", "expired")
    assert len(done) == 7 and [line["error"]["code"] for line in errors] == ["batch_expired"] * 3


@pytest.mark.parametrize(("kind", "status"), [("storm", 429), ("error500", 500), ("html", 500), ("reset", None)])
def test_faults_of_the_connection_are_lines_of_the_error_file(kind, status):
    with serving(options=Options(batch_seconds=0.0, faults=1.0, fault_kinds=(kind,))) as server:
        client = sdk(server.base_url)
        batch = batch_of(client, 2)
        errors = output(client, batch.error_file_id)
    assert batch.output_file_id is None
    assert [line["response"] and line["response"]["status_code"] for line in errors] == [status, status]
