from __future__ import annotations

import pytest
from scipy.stats import binomtest

from knowtuning.evaluation.pairwise import sign_test, win_tie_lose
from knowtuning.evaluation.stats import ratio_interval


def test_shares_ties_both_ways_and_the_sign_test():
    found = win_tie_lose(["win"] * 12 + ["tie"] * 5 + ["lose"] * 2 + [None])
    assert [found[name]["value"] for name in ("win", "tie", "lose", "unreadable")] == [0.6, 0.25, 0.1, 0.05]
    assert found["win rate (ties dropped)"]["value"] == pytest.approx(12 / 14)
    assert found["win rate (ties split)"]["value"] == pytest.approx(14.5 / 19)
    assert found["n"] == 20 and found["p"] == binomtest(12, 14).pvalue


@pytest.mark.parametrize(("wins", "losses"), [(0, 5), (7, 7), (30, 12), (1, 0)])
def test_the_sign_test_is_scipys(wins, losses):
    verdicts = ["win"] * wins + ["lose"] * losses + ["tie"] * 3
    assert win_tie_lose(verdicts)["p"] == sign_test(wins, losses) == binomtest(wins, wins + losses).pvalue


def test_intervals_are_the_bootstrap_over_questions():
    verdicts = ["win"] * 90 + ["tie"] * 60 + ["lose"] * 40 + [None] * 10
    found = win_tie_lose(verdicts, resamples=10_000)
    for name, pairs in (
        ("win", [(v == "win", 1) for v in verdicts]),
        ("win rate (ties dropped)", [(v == "win", v in ("win", "lose")) for v in verdicts]),
        ("win rate (ties split)", [((v == "win") + (v == "tie") / 2, v is not None) for v in verdicts]),
    ):
        trusted = ratio_interval(pairs, resamples=10_000)
        assert found[name]["low"] == pytest.approx(trusted["low"], abs=0.008)
        assert found[name]["high"] == pytest.approx(trusted["high"], abs=0.008)


def test_only_ties_decide_nothing():
    found = win_tie_lose(["tie"] * 4)
    assert found["win rate (ties dropped)"] == {"value": None, "low": None, "high": None}
    assert found["win rate (ties split)"]["value"] == 0.5 and found["p"] == 1


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="'win', 'tie', 'lose' or None; got 'won'"):
        win_tie_lose(["won"])
    with pytest.raises(ValueError, match="one verdict per question"):
        win_tie_lose([["win"], ["lose"]])
