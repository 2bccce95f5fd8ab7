from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from endpoints.options import Options
from teacher_server import get, post, request_body, sdk, serving, stub

from knowtuning.files import read_jsonl
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.prompts import EXTRACT, REVISE, TASKS, messages
from knowtuning.teacher.record import Record
from knowtuning.teacher.server import load_model, local_server, open_teacher

TESTS = Path(__file__).parent
STUB_SERVER = """
from knowtuning.teacher.server import build_app, run_server
from teacher_server import stub
run_server(build_app({"stub": stub}))
"""
PARENT = """
import subprocess, sys, time
server = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(server.pid, server.stdout.readline(), flush=True)
time.sleep(60)
"""


def get_models(base_url: str) -> list[str]:
    return [model["id"] for model in get(f"{base_url}/models")["data"]]


def gone(pid: int, seconds: float = 600.0) -> bool:
    """Whether a process ends within some seconds (a zombie has ended)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def stub_server(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    process = subprocess.Popen(
        [sys.executable, "-c", STUB_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.base_url = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


# --- the protocol


def test_a_completion_has_openais_form_and_counts_quarters_of_characters():
    body = request_body()
    with serving() as server:
        status, reply = post(server.base_url, body)
        assert get_models(server.base_url) == ["stub"]
    [choice] = reply["choices"]
    assert status == 200 and reply["object"] == "chat.completion" and reply["model"] == "stub"
    assert choice["finish_reason"] == "stop" and choice["message"]["refusal"] is None
    assert json.loads(choice["message"]["content"]) == {"facts": ["A.", "B."]}
    asked = sum(len(message["content"]) for message in body["messages"])
    assert reply["usage"]["prompt_tokens"] == -(-asked // 4)
    assert reply["usage"]["completion_tokens"] == -(-len(choice["message"]["content"]) // 4)
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"\xff\xfe", 400, None),
        (request_body(model=None), 400, "model"),
        (request_body(model="gpt-4"), 404, "model"),
        (request_body(stream=True), 400, "stream"),
        (request_body(response_format={"type": "json_schema"}), 400, "response_format.json_schema.name"),
        (request_body(response_format=None, messages=[{"role": "user", "content": "{}"}]), 400, "messages"),
        (request_body(messages=None), 400, "messages"),
        (request_body(messages=[]), 400, "messages"),
        (request_body(messages=["hello"]), 400, "messages"),
        (request_body(messages=[{"role": "system", "content": "{}"}]), 422, "messages"),
        (request_body(messages=[{"role": "user", "content": "hello"}]), 422, "messages"),
        (request_body(messages=[{"role": "user", "content": "[1]"}]), 422, "messages"),
        (request_body(messages=[{"role": "user", "content": None}]), 422, "messages"),
    ],
)
def test_bad_requests_get_openais_error_object(body, status, param):
    with serving() as server:
        answered, reply = post(server.base_url, body)
    assert (answered, reply["error"]["param"]) == (status, param)
    assert reply["error"]["type"] == "invalid_request_error" and reply["error"]["message"]


@pytest.mark.parametrize("response_format", [None, {"type": "json_object"}])
@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_without_a_schema_the_task_is_known_by_its_instructions(task, response_format):
    inputs = {"question": "Q?", "answer": "A.", "facts": ["A."], "reference": "A. B.", "first": "A.", "second": "A. B."}
    chat = messages(task, inputs, "text")
    with serving() as server:
        status, reply = post(server.base_url, request_body(messages=chat, response_format=response_format))
    assert status == 200 and json.loads(reply["choices"][0]["message"]["content"]) == stub(task.name, inputs)


def test_an_announced_shutdown_is_told_to_openais_sdk():
    with serving(options=Options(shutdown_date="2027-01-14")) as server:
        assert [model.shutdown_date for model in sdk(server.base_url).models.list()] == ["2027-01-14"]


def test_an_over_long_answer_is_served():
    chat = messages(EXTRACT, {"question": "Q?", "answer": "word " * 1_000_000})
    with serving() as server:
        assert post(server.base_url, request_body(messages=chat))[0] == 200


def test_text_that_is_not_the_models_is_refused_with_its_reason(tmp_path):
    def knows_nothing(task, inputs):
        raise ValueError("Q? is not about my world.")

    with serving(model=knows_nothing) as server:
        message = post(server.base_url, request_body())[1]["choices"][0]["message"]
        with Teacher("stub", tmp_path, base_url=server.base_url, api_key="k") as teacher:
            assert teacher.map(EXTRACT, [("r1", {"question": "Q?", "answer": "A."})]) == [None]
    assert message["content"] is None and message["refusal"] == "Q? is not about my world."
    assert read_jsonl(tmp_path / "quarantine.jsonl")[0]["reason"] == "the teacher refused: Q? is not about my world."


def test_a_model_that_fails_is_a_server_error_that_names_it(capsys):
    def broken(task, inputs):
        return {}["facts"]

    with serving(model=broken) as server:
        status, reply = post(server.base_url, request_body())
    assert status == 500 and reply["error"]["type"] == "server_error"
    assert reply["error"]["message"] == "The model failed on extract: KeyError: 'facts'"
    assert "Traceback" in capsys.readouterr().err


# --- the process


def test_a_server_in_a_process_of_its_own_serves_and_ends_with_its_input(stub_server, tmp_path):
    assert stub_server.base_url.startswith("http://127.0.0.1:") and stub_server.base_url.endswith("/v1")
    with Teacher("stub", tmp_path, base_url=stub_server.base_url, api_key="k") as teacher:
        [reply] = teacher.map(REVISE, [("r1", {"question": "Q?", "facts": ["A."]})])
    assert reply.facts == ["It is wrong that A."]
    stub_server.stdin.close()
    assert stub_server.wait(timeout=600) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_when_it_is_told_to(stub_server, number):
    stub_server.send_signal(number)
    assert stub_server.wait(timeout=600) == 0


def test_a_server_does_not_outlive_a_killed_parent(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, STUB_SERVER], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline().split()[0])
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_the_server_starts_without_the_heavy_libraries():
    code = (
        "import sys, knowtuning.teacher.server; print(sorted({'torch', 'openai', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_server_that_cannot_start_says_why():
    with (
        pytest.raises(TeacherError, match="local server of lab-oracle did not start: .*no lab called 'mars'"),
        local_server("lab-oracle", settings="mars"),
    ):
        raise AssertionError("it started")


def test_an_unknown_local_model_is_named():
    with pytest.raises(TeacherError, match="'gpt-4': use one of lab-oracle, english-rules"):
        load_model("gpt-4")


# --- the teacher of a run


def test_a_local_model_brings_its_server_along_and_takes_it_away(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-the-local-server")
    with open_teacher("english-rules", tmp_path) as teacher:
        assert get_models(teacher.base_url) == ["english-rules"]
        [reply] = teacher.map(EXTRACT, [("r1", {"question": "What is tin?", "answer": "Tin is a soft metal."})])
    assert reply.facts == ["Tin is a soft metal."]
    with Record(tmp_path) as record:
        assert list(record.spending()) == [("english-rules", False)]
    with pytest.raises(urllib.error.URLError):
        get_models(teacher.base_url)


def test_the_oracle_of_the_lab_answers_over_http(tmp_path, monkeypatch):
    from knowtuning.recipe import get_recipe

    SMOKE = get_recipe("smoke").lab
    from knowtuning.lab.world import World

    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    world = World.load(SMOKE)
    entity, relation = world.entities[0], world.relations[0].key
    fact = world.sentence(entity, relation)
    with open_teacher("lab-oracle", tmp_path, settings="smoke") as teacher:
        inputs = {"question": world.question(entity), "facts": [fact]}
        good, foreign = teacher.map(REVISE, [("r1", inputs), ("r2", {"question": "What is tin?", "facts": ["Tin."]})])
    [statement] = world.parse(good.facts[0], entity)
    assert statement.relation == relation and not statement.correct
    assert foreign is None and "refused" in read_jsonl(tmp_path / "quarantine.jsonl")[0]["reason"]


def test_an_endpoint_in_the_environment_goes_before_the_local_server(tmp_path, monkeypatch):
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        with open_teacher("stub", tmp_path, concurrency=2) as teacher:
            assert teacher.base_url == server.base_url
            teacher.map(EXTRACT, [("r1", {"question": "Q?", "answer": "A."})])
    assert len(server.requests) == 1


def test_a_local_server_that_dies_during_the_run_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rows = [(f"r{i}", {"question": "What is tin?", "answer": f"Tin is {i}."}) for i in range(2)]
    with (
        pytest.raises(TeacherError, match="local server of lab-oracle died during the run"),
        open_teacher("lab-oracle", tmp_path, settings="smoke", max_retries=1, backoff=0.01) as teacher,
    ):
        assert teacher.map(EXTRACT, rows[:1]) == [None]
        os.kill(the_server_we_started(), signal.SIGKILL)
        teacher.map(EXTRACT, rows[1:])


def the_server_we_started() -> int:
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
    [pid] = [p for p in children if b"knowtuning.teacher.server" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return int(pid)
