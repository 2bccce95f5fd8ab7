from __future__ import annotations

import json

import pytest

from knowtuning.teacher.ledger import LOCAL_PRICE, dollars, new_counts, summary

COUNTS = {
    "extract": new_counts() | {"asked": 10, "calls": 12, "retries": 2, "prompt_tokens": 1_000_000, "seconds": 1.5},
    "revise": new_counts() | {"asked": 5, "calls": 5, "completion_tokens": 200_000, "seconds": 0.5},
}


def test_the_account_sums_over_tasks_and_is_json():
    account = json.loads(json.dumps(summary(COUNTS, {"input": 0.5, "output": 2.0})))
    assert account["tasks"]["extract"]["retries"] == 2
    assert (account["total"]["asked"], account["total"]["calls"], account["total"]["seconds"]) == (15, 17, 2.0)
    assert account["dollars"] == pytest.approx(0.5 + 0.4)


def test_without_a_price_there_are_no_dollars_and_the_local_server_costs_none():
    assert dollars(summary(COUNTS)["total"], None) is None
    assert summary(COUNTS)["dollars"] is None
    assert summary(COUNTS, LOCAL_PRICE)["dollars"] == 0


def test_nothing_asked_costs_nothing():
    assert summary({}, {"input": 1.0, "output": 1.0})["dollars"] == 0
