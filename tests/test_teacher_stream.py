"""Rows in bounded memory, and what becomes of calls under way when a run is stopped."""

from __future__ import annotations

import pytest
from endpoints.options import Options
from knowtuning.teacher.cache import Cache
from teacher_server import serving
from test_teacher_client import extract_rows, quarantine, teacher_at

from knowtuning.teacher.prompts import EXTRACT


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_a_stream_yields_in_order_what_a_map_returns(tmp_path):
    rows = extract_rows(300)
    with serving() as server, teacher_at(server.base_url, tmp_path) as teacher:
        streamed = list(teacher.stream(EXTRACT, iter(rows)))
        mapped = teacher.map(EXTRACT, rows)
    assert [row_id for row_id, _ in streamed] == [row_id for row_id, _ in rows]
    assert [reply for _, reply in streamed] == mapped and len(server.requests) == 300


def test_rows_are_taken_a_window_ahead_and_no_more(tmp_path):
    taken = []

    def rows():
        for row in extract_rows(5000):
            taken.append(row[0])
            yield row

    with serving() as server, teacher_at(server.base_url, tmp_path, concurrency=4) as teacher:
        stream = teacher.stream(EXTRACT, rows())
        for _ in range(100):
            next(stream)
        assert len(taken) <= 100 + 256, "the window of four calls at once"
        stream.close()
        assert len(taken) < 1000
    assert len(Cache(tmp_path / "cache.jsonl")) == len(server.requests)


def test_calls_under_way_at_an_interrupt_are_still_recorded(tmp_path):
    def interrupted(done, total, failed, cost):
        if done >= 3:
            raise KeyboardInterrupt

    with serving(options=Options(delay=0.2)) as server:
        with teacher_at(server.base_url, tmp_path, concurrency=8) as teacher:
            teacher.map(EXTRACT, extract_rows(1))  # the form of asking is known
            with pytest.raises(KeyboardInterrupt):
                teacher.map(EXTRACT, extract_rows(200, start=10), interrupted)
            asked = len(server.requests)
        assert 8 < asked < 60
        assert len(Cache(tmp_path / "cache.jsonl")) == asked, "a paid reply was thrown away"
        with teacher_at(server.base_url, tmp_path) as teacher:
            assert all(teacher.map(EXTRACT, extract_rows(20, start=10)))
    assert len(server.requests) < asked + 20 and quarantine(tmp_path) == []


def test_an_error_in_the_users_rows_reaches_the_user(tmp_path):
    def rows():
        yield from extract_rows(5)
        raise ValueError("row 6 is broken")

    with serving() as server, teacher_at(server.base_url, tmp_path) as teacher:
        with pytest.raises(ValueError, match="row 6 is broken"):
            list(teacher.stream(EXTRACT, rows()))
        assert teacher.map(EXTRACT, extract_rows(2))
