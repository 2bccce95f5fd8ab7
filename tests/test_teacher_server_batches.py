"""The Files and Batch APIs, asked by OpenAI's own SDK."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter

import pytest
from endpoints.options import Options
from knowtuning.teacher.serving import batch_input, files
from openai import APIStatusError, OpenAI
from openai.types import Batch
from teacher_server import request_body, sdk, serving

from knowtuning.files import read_jsonl
from knowtuning.teacher.prompts import EXTRACT, messages

QUICK = {"batch_seconds": 0.0}
ENDED = ("completed", "failed", "expired", "cancelled")


def line(number: int, **changes) -> dict:
    chat = messages(EXTRACT, {"question": "Q?", "answer": f"A {number}. B."})
    body = request_body(messages=chat)
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


def lines(count: int) -> list[dict]:
    return [line(number) for number in range(count)]


def upload(client: OpenAI, content: list[dict] | bytes) -> str:
    if isinstance(content, list):
        content = "\n".join(json.dumps(each) for each in content).encode()
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def create(client: OpenAI, content: list[dict] | bytes, metadata: dict | None = None) -> Batch:
    return client.batches.create(
        input_file_id=upload(client, content),
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=metadata,
    )


def ended(client: OpenAI, batch: Batch) -> Batch:
    return reached(client, batch, *ENDED)


def reached(client: OpenAI, batch: Batch, *statuses: str) -> Batch:
    for _ in range(1000):
        batch = client.batches.retrieve(batch.id)
        if batch.status in statuses:
            return batch
        time.sleep(0.01)
    raise AssertionError(f"the batch stays {batch.status}")


def content(client: OpenAI, file_id: str | None) -> list[dict]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()] if file_id else []


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


# --- files


def test_a_file_is_kept_described_read_listed_and_deleted():
    text = json.dumps({"é": "\ud800"}).encode() * 1000
    with serving(options=Options(**QUICK)) as server:
        client = sdk(server.base_url)
        file = client.files.create(file=("in.jsonl", text), purpose="batch")
        assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(text), "in.jsonl", "batch")
        assert client.files.retrieve(file.id) == file == next(iter(client.files.list()))
        assert client.files.content(file.id).read() == text
        assert client.files.delete(file.id).deleted
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(APIStatusError, match="No such File object") as error:
                call(file.id)
            assert error.value.status_code == 404


def test_a_file_for_another_purpose_or_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(files, "LARGEST_FILE", 2**20)
    with serving() as server:
        client = sdk(server.base_url)
        assert client.files.create(file=b"x" * 2**20, purpose="batch").bytes == 2**20
        with pytest.raises(APIStatusError, match="larger than 1 MB") as large:
            client.files.create(file=b"x" * (2**20 + 1), purpose="batch")
        with pytest.raises(APIStatusError) as other:
            client.files.create(file=b"x", purpose="vision")
    assert (large.value.status_code, large.value.param, large.value.code) == (413, "file", "file_too_large")
    assert (other.value.status_code, other.value.param) == (400, "purpose")


def test_files_that_nobody_wants_kept_go_with_the_server(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving(options=Options(**QUICK)) as server:
        assert list(tmp_path.iterdir()) == []
        ended(client := sdk(server.base_url), create(client, lines(1)))
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


# --- a batch and its ends


def test_a_batch_is_served_in_another_order_and_counted(tmp_path):
    with serving(options=Options(**QUICK, log=tmp_path / "log")) as server:
        client = sdk(server.base_url)
        batch = create(client, lines(20), {"mark": "m1"})
        assert batch.status == "validating" and batch.request_counts.total == 0
        batch = ended(client, batch)
        output = content(client, batch.output_file_id)
    assert batch.status == "completed" and counts(batch) == (20, 20, 0) and batch.metadata == {"mark": "m1"}
    assert batch.error_file_id is None and batch.model == "stub" and batch.errors is None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at
    ids = [each["custom_id"] for each in output]
    assert ids != sorted(ids, key=lambda name: int(name[1:])) and set(ids) == {f"r{n}" for n in range(20)}
    for each in output:
        assert set(each) == {"id", "custom_id", "response", "error"} and each["error"] is None
        assert each["response"]["status_code"] == 200 and each["response"]["request_id"]
        text = each["response"]["body"]["choices"][0]["message"]["content"]
        assert json.loads(text)["facts"][0] == f"A {each['custom_id'][1:]}."
    assert batch.usage.total_tokens == sum(each["response"]["body"]["usage"]["total_tokens"] for each in output)
    assert Counter(entry["outcome"] for entry in read_jsonl(tmp_path / "log")) == {"batch": 20}


def test_a_batch_is_seen_on_its_way_and_can_be_cancelled():
    with serving(options=Options(batch_seconds=3.0)) as server:
        client = sdk(server.base_url)
        batch = create(client, lines(200))
        batch = reached(client, batch, "in_progress")
        while not client.batches.retrieve(batch.id).request_counts.completed > 0:
            time.sleep(0.01)
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch = ended(client, batch)
        output, errors = content(client, batch.output_file_id), content(client, batch.error_file_id)
        with pytest.raises(APIStatusError, match="status 'cancelled'"):
            client.batches.cancel(batch.id)
    assert batch.status == "cancelled" and batch.cancelling_at and batch.cancelled_at
    assert 0 < len(output) < 200 and len(output) + len(errors) == 200
    assert counts(batch) == (200, len(output), len(errors))
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}


def test_a_batch_that_expires_lists_what_was_not_done():
    with serving(options=Options(**QUICK, batch_expire=0.3)) as server:
        client = sdk(server.base_url)
        batch = ended(client, create(client, lines(10)))
        output, errors = content(client, batch.output_file_id), content(client, batch.error_file_id)
    assert batch.status == "expired" and batch.expired_at and counts(batch) == (10, 7, 3)
    assert {each["custom_id"] for each in output + errors} == {f"r{n}" for n in range(10)}
    assert [(each["response"], each["error"]["code"]) for each in errors] == [(None, "batch_expired")] * 3


def test_the_first_batch_fails_where_that_is_asked_for():
    with serving(options=Options(**QUICK, batch_invalid_first=True)) as server:
        client = sdk(server.base_url)
        first = ended(client, create(client, lines(2)))
        second = ended(client, create(client, lines(2)))
    assert (first.status, second.status) == ("failed", "completed")
    assert first.errors.data[0].code == "invalid_json_line" and first.failed_at and not first.output_file_id


def test_a_bad_request_fails_alone():
    body = request_body() | {"temperature": 0.5}
    with serving(options=Options(**QUICK, dialect="reasoning")) as server:
        client = sdk(server.base_url)
        batch = ended(client, create(client, [line(0), line(1, body=body)]))
        [error] = content(client, batch.error_file_id)
    assert batch.status == "completed" and counts(batch) == (2, 1, 1)
    assert error["custom_id"] == "r1" and error["error"] is None and error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["code"] == "unsupported_value"


@pytest.mark.parametrize(
    ("kind", "status"),
    [("storm", 429), ("error500", 500), ("html", 500), ("echo_key", 500), ("reset", None), ("stall", None)],
)
def test_faults_of_the_connection_are_lines_of_the_error_file(kind, status, tmp_path):
    options = Options(**QUICK, faults=1.0, fault_kinds=(kind,), log=tmp_path / "log")
    with serving(options=options) as server:
        client = sdk(server.base_url)
        batch = ended(client, create(client, lines(2)))
        errors = content(client, batch.error_file_id)
    assert batch.status == "completed" and counts(batch) == (2, 0, 2) and batch.output_file_id is None
    assert [each["response"] and each["response"]["status_code"] for each in errors] == [status, status]
    assert all(each["error"] is None or each["error"]["code"] == "server_error" for each in errors)
    assert [entry["outcome"] for entry in read_jsonl(tmp_path / "log")] == [kind, kind]


def test_faults_of_the_reply_are_lines_of_the_output():
    with serving(options=Options(**QUICK, faults=1.0, fault_kinds=("refusal", "empty_choices"))) as server:
        client = sdk(server.base_url)
        batch = ended(client, create(client, lines(20)))
        choices = [each["response"]["body"]["choices"] for each in content(client, batch.output_file_id)]
    assert counts(batch) == (20, 20, 0)
    assert [] in choices and any(choice and choice[0]["message"]["refusal"] for choice in choices)


# --- what is no batch


@pytest.mark.parametrize(
    ("given", "code", "number"),
    [
        (b"\n\n", "empty_file", None),
        (json.dumps(line(0)).encode() + b"\n{\n", "invalid_json_line", 2),
        ([line(0), line(1, custom_id=7)], "missing_required_parameter", 2),
        ([line(0), line(0)], "duplicate_custom_id", 2),
        ([line(0, method="GET")], "invalid_method", 1),
        ([line(0, url="/v1/embeddings")], "invalid_url", 1),
        ([line(0, body=None)], "missing_required_parameter", 1),
        ([line(0, body={"model": "gpt-4"})], "model_not_found", 1),
    ],
)
def test_an_input_that_does_not_fit_fails_the_whole_batch(given, code, number):
    with serving(options=Options(**QUICK)) as server:
        client = sdk(server.base_url)
        batch = ended(client, create(client, given))
    assert batch.status == "failed" and [(each.code, each.line) for each in batch.errors.data] == [(code, number)]


def test_all_requests_of_a_batch_use_one_model(tmp_path):
    (tmp_path / "in").write_text("\n".join(json.dumps(line(n, body={"model": "ab"[n % 2]})) for n in range(3)))
    with pytest.raises(batch_input.InvalidInput, match="one model, here 'a'") as invalid:
        batch_input.read_requests(tmp_path / "in", "/v1/chat/completions", {"a", "b"})
    assert [error["line"] for error in invalid.value.errors] == [2]


def test_a_batch_of_too_many_requests_fails(monkeypatch):
    assert batch_input.MOST_REQUESTS == 50_000 and files.LARGEST_FILE == 200 * 2**20
    monkeypatch.setattr(batch_input, "MOST_REQUESTS", 3)
    with serving(options=Options(**QUICK)) as server:
        client = sdk(server.base_url)
        assert ended(client, create(client, lines(3))).status == "completed"
        batch = ended(client, create(client, lines(4)))
    assert batch.status == "failed" and batch.errors.data[0].code == "too_many_tasks"


def test_a_batch_whose_input_went_away_fails():
    with serving(options=Options(batch_seconds=2.0)) as server:
        client = sdk(server.base_url)
        batch = create(client, lines(1))
        client.files.delete(batch.input_file_id)
        assert ended(client, batch).errors.data[0].code == "file_not_found"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
    ],
)
def test_what_is_no_batch_is_refused_at_once(changes, param):
    with serving() as server:
        client = sdk(server.base_url)
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        with pytest.raises(APIStatusError) as refused:
            client.batches.create(**asked | {"input_file_id": upload(client, lines(1))} | changes)
    assert (refused.value.status_code, refused.value.param) == (400, param)


# --- many batches, and a second start


def test_batches_are_listed_newest_first_in_pages():
    with serving(options=Options(**QUICK)) as server:
        client = sdk(server.base_url)
        made = [create(client, lines(1)).id for _ in range(5)]
        first = client.batches.list(limit=2)
        assert [batch.id for batch in first.data] == made[:2:-1] and first.has_more
        assert [batch.id for batch in first] == made[::-1]
        assert not client.batches.list(after=made[1]).has_more
        with pytest.raises(APIStatusError, match="limit"):
            client.batches.list(limit=101)
        with pytest.raises(APIStatusError, match="No batch found"):
            client.batches.retrieve("batch_none")


def test_a_restarted_server_still_knows_its_files_and_batches(tmp_path):
    options = Options(batch_seconds=60.0, state=tmp_path / "state")
    with serving(options=options) as server:
        batch = create(sdk(server.base_url), lines(3))
        file = sdk(server.base_url).files.retrieve(batch.input_file_id)
    options = Options(**QUICK, state=tmp_path / "state", batch_invalid_first=True)
    with serving(options=options) as server:
        client = sdk(server.base_url)
        assert client.files.retrieve(file.id) == file and client.files.content(file.id).read()
        assert ended(client, batch).status == "failed", "it is still the first batch"
        second = ended(client, create(client, lines(3)))
    with serving(options=options) as server:
        client = sdk(server.base_url)
        assert [each.id for each in client.batches.list()] == [second.id, batch.id]
        assert len(content(client, second.output_file_id)) == 3


def test_a_batch_in_progress_is_done_once_after_a_restart(tmp_path):
    options = {"state": tmp_path / "state", "log": tmp_path / "log"}
    with serving(options=Options(batch_seconds=60.0, **options)) as server:
        batch = create(sdk(server.base_url), lines(3))
    with serving(options=Options(**QUICK, **options)) as server:
        client = sdk(server.base_url)
        batch = ended(client, batch)
        assert len(content(client, batch.output_file_id)) == 3
    with serving(options=Options(**QUICK, **options)) as server:
        assert sdk(server.base_url).batches.retrieve(batch.id) == batch
    assert batch.status == "completed" and counts(batch) == (3, 3, 0)
    assert [entry["outcome"] for entry in read_jsonl(tmp_path / "log")] == ["batch"] * 3
