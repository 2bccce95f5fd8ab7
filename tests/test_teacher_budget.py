"""The cap on dollars: never passed, resumable, and shared by everything on record."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from teacher_server import serving
from test_teacher_client import completion, extract_rows, quarantine, teacher_at

from knowtuning.files import DataError
from knowtuning.teacher.budget import Budget, Price, dollars_of, load_price, parse_price
from knowtuning.teacher.errors import CapReached, TeacherError
from knowtuning.teacher.prompts import EXTRACT
from knowtuning.teacher.record import Record

PRICE = Price(input=10.0, output=100.0, batch=0.5)  # dollars per million: a reply of 110 tokens below costs 0.002


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def paid(folder) -> float:
    with Record(folder) as record:
        return dollars_of(record.spending(), {"stub": PRICE}.get)


def test_the_cap_stops_before_it_is_passed_and_a_higher_one_goes_on(tmp_path):
    with serving(lambda request: completion('{"facts": ["A."]}')) as server:
        options = {"price": PRICE, "max_tokens": 50}
        with teacher_at(server.base_url, tmp_path, max_cost=0.2, **options) as teacher:
            with pytest.raises(CapReached, match=r"cap of \$0\.2 .*raise max_cost"):
                teacher.map(EXTRACT, extract_rows(300))
        calls = len(server.requests)
        bound = 0.06  # of one call: about 4 kB of prompt and 50 tokens of reply
        assert 0.2 - bound < paid(tmp_path) <= 0.2
        assert paid(tmp_path) == pytest.approx(0.002 * calls), "calls under way when it stopped are on record"
        with teacher_at(server.base_url, tmp_path, max_cost=2.0, **options) as teacher:
            replies = teacher.map(EXTRACT, extract_rows(300))
    assert all(replies) and len(server.requests) == 300, "nothing was paid twice"
    assert quarantine(tmp_path) == []


def test_unusable_replies_and_missing_ones_count_against_the_cap(tmp_path):
    with serving(lambda request: completion("no")) as server:
        with teacher_at(server.base_url, tmp_path, price=PRICE, max_cost=0.1, max_tokens=50) as teacher:
            with pytest.raises(CapReached):
                teacher.map(EXTRACT, extract_rows(300))
    assert 0.02 < paid(tmp_path) <= 0.1 and len(server.requests) == pytest.approx(paid(tmp_path) / 0.002)

    async def hang(request):
        await asyncio.sleep(60)

    with serving(hang) as server:
        options = {"price": PRICE, "max_cost": 0.2, "max_tokens": 50, "timeout": 1.0, "max_retries": 50}
        with teacher_at(server.base_url, tmp_path / "late", **options) as teacher:
            with pytest.raises(CapReached):
                teacher.map(EXTRACT, extract_rows(300))
            assert teacher.counts["extract"]["unanswered"] == len(server.requests) < 10


def test_a_cap_without_a_price_is_refused_before_anything_is_asked(tmp_path):
    with pytest.raises(TeacherError, match="no price of stub .* data/prices.yaml"):
        teacher_at("http://127.0.0.1:9/v1", tmp_path, max_cost=1.0)


def test_a_call_that_does_not_fit_waits_for_those_under_way():
    async def scene():
        budget, order = Budget(cap=1.0, spent=0.0, price=PRICE), []

        async def call(name, bound, cost):
            async with budget.reserve(bound):
                await asyncio.sleep(0.01)
                order.append(name)
                budget.spent += cost

        await asyncio.gather(call("a", 0.9, 0.1), call("b", 0.8, 0.1))
        return order, budget.spent

    assert asyncio.run(scene()) == (["a", "b"], pytest.approx(0.2))


def test_prices_come_from_the_table_by_name_or_by_dated_name():
    price = load_price("gpt-6-luna")
    assert (price.input, price.output, price.batch, price.date) == (0.1, 0.5, 0.5, "2026-11-20")
    assert load_price("gpt-6-luna-2026-09-01") == price
    assert load_price("somebody-elses-model") is None and load_price("gpt-6-lunatic") is None
    assert load_price("lab-oracle").dollars(10**9, 10**9) == 0


def test_a_batch_call_costs_half():
    assert PRICE.dollars(1_000_000, 0, batch=True) == 5.0 and PRICE.dollars(1_000_000, 0) == 10.0


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2"])
def test_a_price_that_is_none_is_refused(text):
    with pytest.raises(DataError, match="price"):
        parse_price(text)


def test_two_runs_with_a_cap_spend_one_after_the_other_and_together_no_more(tmp_path):
    with serving(lambda request: completion('{"facts": ["A."]}')) as server:
        options = {"price": PRICE, "max_tokens": 50, "max_cost": 0.3}

        def run(start):
            with teacher_at(server.base_url, tmp_path, **options) as teacher, contextlib.suppress(CapReached):
                teacher.map(EXTRACT, extract_rows(120, start=start))

        threads = [threading.Thread(target=run, args=(start,)) for start in (0, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 0.2 < paid(tmp_path) <= 0.3
    assert paid(tmp_path) == pytest.approx(0.002 * len(server.requests))
