from __future__ import annotations

from knowtuning.teacher.ledger import new_counts, totals

COUNTS = {
    "extract": new_counts() | {"asked": 10, "calls": 12, "retries": 2, "prompt_tokens": 1_000_000, "seconds": 1.5},
    "revise": new_counts() | {"asked": 5, "calls": 5, "completion_tokens": 200_000, "seconds": 0.5},
}


def test_the_account_sums_over_tasks():
    total = totals(COUNTS)
    assert (total["asked"], total["calls"], total["retries"], total["seconds"]) == (15, 17, 2, 2.0)
    assert (total["prompt_tokens"], total["completion_tokens"]) == (1_000_000, 200_000)


def test_nothing_asked_is_nothing():
    assert not any(totals({}).values())
