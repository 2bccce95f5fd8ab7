"""Each fault is what it says on the wire, and comes to the same calls for the same seed."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections import Counter

import pytest
from endpoints.options import Options
from knowtuning.teacher.serving.call import Call, call_key
from knowtuning.teacher.serving.faults import FAULT_KINDS, HARMLESS, POISON, STORM, Faults, drawn
from teacher_server import OPENER, post, request_body, serving

from knowtuning.files import read_jsonl
from knowtuning.teacher.prompts import EXTRACT, messages

INPUTS = {"question": "Q?", "answer": "A. B."}
RIGHT = {"facts": ["A.", "B."]}


def always(kind: str, **options) -> ServerOptions:
    return Options(faults=1.0, fault_kinds=(kind,), **options)


def asked(kind: str, **options) -> dict:
    """The completion that carries a fault."""
    with serving(options=always(kind, **options)) as server:
        status, reply = post(server.base_url, request_body())
    assert status == 200
    return reply


def message(reply: dict) -> dict:
    return reply["choices"][0]["message"]


# --- which call meets which fault


def test_a_draw_depends_on_seed_call_and_attempt_only():
    draws = [drawn(0.5, FAULT_KINDS, seed, key, n) for seed in (0, 1) for key in ("a", "b") for n in range(50)]
    assert draws == [drawn(0.5, FAULT_KINDS, seed, key, n) for seed in (0, 1) for key in ("a", "b") for n in range(50)]
    parts = [tuple(draws[start : start + 50]) for start in range(0, 200, 50)]
    assert len(set(parts)) == 4


def test_faults_come_in_their_share_and_kinds_evenly():
    draws = Counter(drawn(0.26, FAULT_KINDS, 3, str(n), 0) for n in range(13000))
    assert draws.pop(None) == pytest.approx(13000 * 0.74, rel=0.03)
    assert set(draws) == set(FAULT_KINDS)
    assert all(count == pytest.approx(13000 * 0.26 / 13, rel=0.25) for count in draws.values())


def test_asking_again_is_another_attempt_and_the_order_of_calls_changes_nothing():
    calls = [Call("stub", "extract", {"question": str(n), "answer": "A."}, 1) for n in range(40)]
    forward, backward = Faults(0.5), Faults(0.5)
    one = [[forward.draw(call) for call in calls] for _ in range(3)]
    other = [[backward.draw(call) for call in reversed(calls)][::-1] for _ in range(3)]
    assert one == other and one[0] != one[1]


def test_without_faults_nothing_is_poison():
    call = Call("stub", "extract", {"answer": f"{POISON}."}, 1)
    assert [Faults(share).draw(call) for share in (None, 0.0, 1.0)] == [None, "poison", "poison"]


# --- what a fault is


def test_poisoned_inputs_are_refused_every_time():
    chat = messages(EXTRACT, {"question": "Q?", "answer": f"A {POISON}."})
    with serving(options=Options(faults=0.0)) as server:
        for _ in range(3):
            assert message(post(server.base_url, request_body(messages=chat))[1])["refusal"]
        assert message(post(server.base_url, request_body())[1])["refusal"] is None


def test_a_storm_meets_everybody_and_passes():
    seed = next(s for s in range(1000) if drawn(0.1, FAULT_KINDS, s, call_key("extract", INPUTS), 0) == "storm")
    other = messages(EXTRACT, {"question": "Other?", "answer": "A."})
    with serving(options=Options(faults=0.1, fault_seed=seed, fault_kinds=FAULT_KINDS)) as server:
        with pytest.raises(urllib.error.HTTPError) as error:
            OPENER.open(f"{server.base_url}/chat/completions", json.dumps(request_body()).encode())
        bystander = post(server.base_url, request_body(messages=other))[0]
        time.sleep(STORM)
        afterwards = post(server.base_url, request_body(messages=other))[0]
    assert (error.value.code, error.value.headers["Retry-After"]) == (429, "0.05")
    assert (bystander, afterwards) == (429, 200)


def test_an_internal_error():
    with serving(options=always("error500")) as server:
        status, reply = post(server.base_url, request_body())
    assert status == 500 and reply["error"]["type"] == "server_error"


def test_an_error_that_repeats_the_key():
    with serving(options=always("echo_key")) as server:
        headers = {"Authorization": "Bearer sk-secret", "Content-Type": "application/json"}
        body = json.dumps(request_body()).encode()
        with pytest.raises(urllib.error.HTTPError) as error:
            OPENER.open(urllib.request.Request(f"{server.base_url}/chat/completions", body, headers))
    assert error.value.code == 500 and "Bearer sk-secret" in json.loads(error.value.read())["error"]["message"]


def test_a_page_in_place_of_json():
    with serving(options=always("html")) as server, pytest.raises(urllib.error.HTTPError) as error:
        OPENER.open(f"{server.base_url}/chat/completions", json.dumps(request_body()).encode())
    assert error.value.code == 502 and error.value.headers.get_content_type() == "text/html"
    assert error.value.read().startswith(b"<html>")


@pytest.mark.parametrize("kind", ["reset", "stall"])
def test_a_connection_that_breaks_off_without_a_reply(kind, capfd):
    with (
        serving(options=always(kind, stall=0.1)) as server,
        pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)),
    ):
        post(server.base_url, request_body())
    assert capfd.readouterr().err == ""


def test_a_stall_outlasts_the_clients_patience_and_ends_with_it(capfd):
    with serving(options=always("stall")) as server, pytest.raises(TimeoutError):
        OPENER.open(f"{server.base_url}/chat/completions", json.dumps(request_body()).encode(), timeout=0.2)
    assert capfd.readouterr().err == ""


def test_a_body_shorter_than_it_promised(capfd):
    with serving(options=always("cut_body")) as server:
        body = json.dumps(request_body()).encode()
        with OPENER.open(f"{server.base_url}/chat/completions", body) as response:
            promised = int(response.headers["Content-Length"])
            with pytest.raises(http.client.IncompleteRead) as cut:
                response.read()
    assert response.status == 200 and len(cut.value.partial) == promised // 2
    assert capfd.readouterr().err == ""


def test_a_reply_cut_in_the_middle_says_so_or_not():
    ends = set()
    with serving(options=always("truncated")) as server:
        for n in range(8):
            chat = messages(EXTRACT, {"question": "Q?", "answer": "A" * n + " B."})
            [choice] = post(server.base_url, request_body(messages=chat))[1]["choices"]
            ends.add(choice["finish_reason"])
            with pytest.raises(json.JSONDecodeError):
                json.loads(choice["message"]["content"])
    assert ends == {"length", "stop"}


def test_a_reply_of_another_schema():
    assert "facts" not in json.loads(message(asked("wrong_schema"))["content"])


def test_a_refusal():
    assert message(asked("refusal"))["content"] is None and message(asked("refusal"))["refusal"]


def test_a_completion_without_a_choice():
    assert asked("empty_choices")["choices"] == []


def test_a_field_that_comes_twice_the_last_time_right():
    content = message(asked("duplicate_field"))["content"]
    [(first, wrong), (second, right)] = json.loads(content, object_pairs_hook=list)
    assert first == second == "facts" and wrong != right == RIGHT["facts"]


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_harmless_fault_is_a_right_reply(kind):
    reply = asked(kind)
    text = message(reply)["content"]
    assert json.loads(text) == RIGHT and text != text.strip()
    assert next(iter(reply)) == "usage"


def test_a_fault_in_prose_is_still_a_fault():
    text = message(asked("duplicate_field", dialect="ignores-schema"))["content"]
    assert text.count("```") == 2 and text.count('"facts"') == 2


# --- what the log says


def test_the_log_tells_what_was_answered_and_how_often(tmp_path):
    log = tmp_path / "log" / "served.jsonl"
    with serving(options=Options(log=log, faults=0.0)) as server:
        post(server.base_url, request_body())
        post(server.base_url, request_body())
        post(server.base_url, request_body(messages=messages(EXTRACT, {"question": "Q?", "answer": POISON})))
        post(server.base_url, request_body(model="gpt-4"))
        post(server.base_url, b"{")
    with serving(options=always("reset", log=log)) as server, pytest.raises(OSError):
        post(server.base_url, request_body())
    lines = read_jsonl(log)
    assert [line["outcome"] for line in lines] == ["reply", "reply", "poison", "404", "400", "reset"]
    assert {line["key"] for line in lines[:2]} == {call_key("extract", INPUTS)} == {lines[5]["key"]}
    assert [line["task"] for line in lines] == ["extract"] * 3 + [None] * 2 + ["extract"]
    assert all(line["time"] > 1e9 for line in lines)


def test_a_reply_that_nobody_waited_for_is_no_reply(tmp_path):
    with serving(options=Options(log=tmp_path / "log", delay=0.2)) as server:
        host, port = server.base_url.removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps(request_body()).encode()
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
            connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            while not server.requests:
                time.sleep(0.01)
        while not (tmp_path / "log").read_text():
            time.sleep(0.01)
    assert [line["outcome"] for line in read_jsonl(tmp_path / "log")] == ["abandoned"]
