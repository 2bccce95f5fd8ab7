"""Endpoints that understand less, or other words, than OpenAI's: found out once, remembered, and asked so."""

from __future__ import annotations

import pytest
from endpoints.options import Options
from teacher_server import serving
from test_teacher_client import extract_rows, quarantine, teacher_at

from knowtuning.teacher.endpoint import Features
from knowtuning.teacher.prompts import EXTRACT, REVISE
from knowtuning.teacher.record import Record

FORMS = {
    "openai": ("json_schema", "max_completion_tokens", True),
    "no-schema": ("json_object", "max_completion_tokens", True),
    "text-only": ("text", "max_completion_tokens", True),
    "ignores-schema": ("json_schema", "max_completion_tokens", True),
    "old": ("json_object", "max_tokens", True),
    "reasoning": ("json_schema", "max_completion_tokens", False),
    "strict-params": ("json_schema", "max_tokens", True),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.mark.parametrize("dialect", FORMS)
def test_the_form_is_found_once_and_remembered(tmp_path, dialect):
    with serving(options=Options(dialect=dialect)) as server:
        with teacher_at(server.base_url, tmp_path, temperature=0.0) as teacher:
            replies = teacher.map(EXTRACT, extract_rows(20))
            features = teacher.features
        first = len(server.requests)
        with teacher_at(server.base_url, tmp_path, temperature=0.0) as teacher:
            assert teacher.features == features
            revised = teacher.map(REVISE, [(f"r{i}", {"question": "Q?", "facts": [f"Fact {i}."]}) for i in range(10)])
    assert [reply.facts for reply in replies] == [[f"Fact {i}.", f"More {i}."] for i in range(20)]
    assert all(revised) and quarantine(tmp_path) == []
    assert (features.structured, features.cap, features.temperature) == FORMS[dialect] and features.proven
    assert first <= 20 + 4, "the search costs a call a step, made by one row"
    assert len(server.requests) == first + 10, "what was found out is not found out again"
    last = server.requests[-1]
    assert ("temperature" in last) == features.temperature
    assert {"max_tokens", "max_completion_tokens"} & set(last) == {features.cap}
    stated = '"facts"' in last["messages"][0]["content"].split("Reply with one JSON object of this schema")[-1]
    assert stated == (features.structured != "json_schema") or features.structured == "json_schema"


def test_what_was_found_out_is_known_by_endpoint_and_model(tmp_path):
    with serving(options=Options(dialect="old")) as server, teacher_at(server.base_url, tmp_path) as teacher:
        teacher.map(EXTRACT, extract_rows(1))
    with Record(tmp_path) as record:
        assert record.features(server.base_url, "stub").structured == "json_object"
        assert record.features(server.base_url, "other") == record.features("http://other/v1", "stub") == Features()


def test_an_endpoint_that_changed_is_found_out_anew(tmp_path):
    with serving(options=Options(dialect="old")) as server:
        with Record(tmp_path) as record:
            record.remember(server.base_url, "stub", Features(proven=True))
        with teacher_at(server.base_url, tmp_path) as teacher:
            replies = teacher.map(EXTRACT, extract_rows(8))
            assert teacher.features.structured == "json_object"
    assert all(replies)


def test_one_bad_reply_does_not_cost_an_endpoint_its_schema(tmp_path):
    options = Options(faults=1.0, fault_kinds=("wrong_schema",))
    with serving(options=options) as server, teacher_at(server.base_url, tmp_path) as teacher:
        teacher.map(EXTRACT, extract_rows(4))
        assert teacher.features.structured != "json_schema", "three in a row say that the form is not understood"
    with serving(options=Options(faults=0.3, fault_kinds=("wrong_schema",))) as server:
        with teacher_at(server.base_url, tmp_path / "new") as teacher:
            teacher.map(EXTRACT, extract_rows(30))
            assert teacher.features.structured == "json_schema"
