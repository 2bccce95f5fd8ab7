"""Calls at once and per minute: what the endpoint bears is learnt from what it says."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from endpoints.options import Options
from teacher_server import serving
from test_teacher_client import extract_rows, quarantine, teacher_at

from knowtuning.teacher.prompts import EXTRACT
from knowtuning.teacher.throttle import Throttle


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def test_no_more_calls_go_out_than_the_endpoint_says_it_has_room_for():
    async def scene(left):
        throttle = Throttle(16)
        throttle.succeeded(left, tokens=700)
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while True:
                    await throttle.enter()
                    taken += 1
        return taken

    def ask(**left):
        return asyncio.run(scene({f"x-ratelimit-remaining-{unit}": str(value) for unit, value in left.items()}))

    assert (ask(), ask(requests=3), ask(tokens=2000, requests=99), ask(tokens=0), ask(requests="?")) == (
        16,
        3,
        2,
        1,
        16,
    )


def test_a_burst_of_refusals_halves_the_calls_once_and_success_brings_them_back():
    async def scene():
        throttle, limits = Throttle(16), []

        async def call(fails):
            started = await throttle.enter()
            await asyncio.sleep(0.01)
            throttle.throttled(started, None) if fails else throttle.succeeded({}, 1)
            throttle.leave()

        await asyncio.gather(*(call(True) for _ in range(16)))
        limits.append(throttle.limit)
        await asyncio.gather(*(call(False) for _ in range(200)))
        return [*limits, throttle.limit]

    assert asyncio.run(scene()) == [8.0, 16.0]


def test_a_retry_after_holds_every_call_back():
    async def scene():
        throttle, starts = Throttle(4), []

        async def call(fails):
            started = await throttle.enter()
            starts.append(started)
            if fails:
                throttle.throttled(started, 0.3)
            throttle.leave()

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
    assert all(replies) and quarantine(tmp_path) == []


def test_limits_named_by_the_endpoint_are_kept(tmp_path):
    options = Options(requests_per_minute=1200, burst=1.0)
    with serving(options=options) as server, teacher_at(server.base_url, tmp_path, concurrency=32) as teacher:
        replies = teacher.map(EXTRACT, extract_rows(60))
    assert all(replies) and quarantine(tmp_path) == []
