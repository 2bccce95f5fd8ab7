"""Calls at once and per minute: what the endpoint bears is learnt from what it says."""

from __future__ import annotations

import asyncio
import time

import pytest
from endpoints.options import Options
from teacher_server import serving
from test_teacher_client import extract_rows, quarantine, teacher_at

from knowtuning.teacher.pace import Bucket, Pace
from knowtuning.teacher.prompts import EXTRACT


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_a_bucket_gives_a_minutes_worth_at_once_and_then_makes_wait():
    bucket = Bucket(60)
    assert [bucket.take(1) for _ in range(60)] == [0.0] * 60
    assert bucket.take(1) == pytest.approx(1, abs=0.1) and bucket.take(1) == pytest.approx(2, abs=0.1)
    bucket.limit(600)
    assert bucket.per_minute == 60, "the lower limit stays"
    bucket.know(-600)
    assert bucket.take(0) == pytest.approx(600, abs=1), "the endpoint knows of other users of the account"
    assert Bucket().take(1e9) == 0


def test_a_burst_of_refusals_halves_the_calls_once_and_success_brings_them_back():
    async def scene():
        pace, limits = Pace(16, None, None), []

        async def call(fails):
            async with pace.slot(0) as started:
                await asyncio.sleep(0.01)
                pace.throttled(started, None) if fails else pace.succeeded({})

        await asyncio.gather(*(call(True) for _ in range(16)))
        limits.append(pace.limit)
        await asyncio.gather(*(call(False) for _ in range(200)))
        return [*limits, pace.limit]

    assert asyncio.run(scene()) == [8.0, 16.0]


def test_a_retry_after_holds_every_call_back():
    async def scene():
        pace, starts = Pace(4, None, None), []

        async def call(fails):
            async with pace.slot(0) as started:
                starts.append(time.monotonic())
                if fails:
                    pace.throttled(started, 0.3)

        await call(True)
        await asyncio.gather(*(call(False) for _ in range(3)))
        return [start - starts[0] for start in starts[1:]]

    assert min(asyncio.run(scene())) >= 0.3


def test_a_full_queue_is_met_with_fewer_calls_and_no_row_is_lost(tmp_path):
    options = Options(capacity=4, delay=0.02)
    with serving(options=options) as server:
        with teacher_at(server.base_url, tmp_path, concurrency=32, max_retries=6, backoff=0.05) as teacher:
            replies = teacher.map(EXTRACT, extract_rows(300))
            refused = teacher.counts["extract"]["retries"]
    assert all(replies) and quarantine(tmp_path) == []
    assert refused < 300, f"{refused} calls were refused: the client does not learn"


def test_a_limit_on_tokens_per_minute_spreads_the_calls_instead_of_losing_rows(tmp_path):
    options = Options(tokens_per_minute=1_200_000, burst=1.0)  # about 30 calls of 700 tokens a second
    with serving(options=options) as server, teacher_at(server.base_url, tmp_path, concurrency=32) as teacher:
        replies = teacher.map(EXTRACT, extract_rows(80))
        assert teacher._pace.tokens.per_minute == 1_200_000
    assert all(replies) and quarantine(tmp_path) == []


def test_a_limit_of_the_users_own_is_kept_where_the_endpoint_names_none(tmp_path):
    with serving() as server:
        with teacher_at(server.base_url, tmp_path, requests_per_minute=600) as teacher:
            teacher._pace.requests._level = 5  # as after a minute of calls
            started = time.monotonic()
            assert all(teacher.map(EXTRACT, extract_rows(10)))
    assert time.monotonic() - started > 0.4, "five calls had to wait a tenth of a second each"


def test_limits_named_by_the_endpoint_are_kept(tmp_path):
    options = Options(requests_per_minute=1200, burst=1.0)
    with serving(options=options) as server, teacher_at(server.base_url, tmp_path, concurrency=32) as teacher:
        replies = teacher.map(EXTRACT, extract_rows(60))
        assert teacher._pace.requests.per_minute == 1200
    assert all(replies) and quarantine(tmp_path) == []
