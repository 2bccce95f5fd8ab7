"""Rate limits are kept by the clock that the bucket is given, and told as OpenAI tells them."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request

import pytest
from endpoints.options import Options
from knowtuning.teacher.serving.limits import Bucket, duration
from teacher_server import OPENER, post, request_body, serving, stub


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def headers(base_url: str, path: str = "/models") -> dict[str, str]:
    with OPENER.open(base_url + path) as response:
        return {name.lower(): value for name, value in response.headers.items()}


def refused(base_url: str) -> urllib.error.HTTPError:
    with pytest.raises(urllib.error.HTTPError) as error:
        OPENER.open(f"{base_url}/chat/completions", json.dumps(request_body()).encode())
    assert error.value.code == 429
    return error.value


def test_a_bucket_holds_a_minutes_units_and_regains_them_evenly():
    clock = Clock()
    bucket = Bucket(60, now=clock)
    for _ in range(60):
        assert bucket.wait_for(1) == 0
        bucket.take(1)
    assert bucket.wait_for(1) == pytest.approx(1) and bucket.reset() == pytest.approx(60)
    clock.seconds = 0.75
    assert bucket.wait_for(1) == pytest.approx(0.25)
    clock.seconds = 1000
    assert bucket.level() == 60 and bucket.reset() == 0


def test_a_short_burst_leaves_the_rate_and_more_than_a_bucket_never_comes():
    bucket = Bucket(600, burst=1, now=Clock())
    assert bucket.level() == 10 and bucket.wait_for(11) == float("inf")
    bucket.take(15)
    assert bucket.level() == -5 and bucket.wait_for(1) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0171, "18ms"), (0.9999, "1s"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"), (360, "6m0s")],
)
def test_a_duration_is_written_as_openai_writes_it(seconds, text):
    assert duration(seconds) == text


def test_requests_beyond_the_limit_are_told_when_to_come_back():
    with serving(options=Options(requests_per_minute=2)) as server:
        assert [post(server.base_url, request_body())[0] for _ in range(2)] == [200, 200]
        error = refused(server.base_url)
        said = headers(server.base_url)
    assert 29 <= int(error.headers["retry-after"]) <= 30 and 29000 < int(error.headers["retry-after-ms"]) <= 30000
    assert error.headers["x-ratelimit-limit-requests"] == "2" == said["x-ratelimit-limit-requests"]
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.headers["x-ratelimit-reset-requests"].startswith(("59.", "1m0s"))
    body = json.loads(error.read())["error"]
    assert body["type"] == "requests" and body["code"] == "rate_limit_exceeded"


def test_tokens_asked_and_answered_count():
    with serving() as server:
        usage = post(server.base_url, request_body())[1]["usage"]
    limit = usage["prompt_tokens"] + usage["total_tokens"] - 1  # one too few for a second call
    with serving(options=Options(tokens_per_minute=limit)) as server:
        assert post(server.base_url, request_body())[0] == 200
        assert int(headers(server.base_url)["x-ratelimit-remaining-tokens"]) in range(usage["prompt_tokens"])
        assert json.loads(refused(server.base_url).read())["error"]["type"] == "tokens"


def test_a_request_larger_than_the_limit_need_not_come_back():
    with serving(options=Options(tokens_per_minute=10)) as server:
        error = refused(server.base_url)
    assert error.headers["retry-after"] is None and "too large" in json.loads(error.read())["error"]["message"]


def test_without_limits_nothing_is_said_of_them():
    with serving() as server:
        assert not [name for name in headers(server.base_url) if name.startswith("x-ratelimit")]


def test_a_full_queue_refuses_without_a_time_to_wait():
    entered, leave = threading.Event(), threading.Event()

    async def held(request):
        entered.set()
        await asyncio.to_thread(leave.wait)

    with serving(held, stub, Options(capacity=1)) as server:
        answers = []
        first = threading.Thread(target=lambda: answers.append(post(server.base_url, request_body())[0]))
        first.start()
        entered.wait()
        error = refused(server.base_url)
        leave.set()
        first.join()
        assert post(server.base_url, request_body())[0] == 200
    assert answers == [200] and error.headers["retry-after"] is None
