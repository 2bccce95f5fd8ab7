from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest

from knowtuning.evaluation.pairwise import POINTS, PRIOR, length_controlled, sign_test, win_tie_lose
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


def judge(rng, questions, effect, bias, mean=15.0):
    """Verdicts of a judge with a true effect and a bias for length, both in logits, and the length differences."""
    lengths = np.round(rng.normal(mean, 20, questions))
    chance = expit(effect + bias * np.tanh(lengths / lengths.std(ddof=1)))
    verdicts = np.where(rng.random(questions) < chance, "win", "lose").astype(object)
    verdicts[rng.random(questions) < 0.1] = None
    return verdicts.tolist(), lengths


def test_wins_that_come_from_length_alone_vanish_at_equal_length():
    found = length_controlled(*judge(np.random.default_rng(1), 1500, effect=0, bias=2), resamples=200)
    assert found["raw"] > 0.62 and found["low"] <= 0.5 <= found["high"]
    assert found["controlled"] == pytest.approx(0.5, abs=0.05)
    assert found["slope"] == pytest.approx(2, abs=0.4) and not found["separated"]
    assert found["n"] + found["unreadable"] == 1500


def test_a_real_effect_survives_length_control():
    truth = expit(1.0)
    found = length_controlled(*judge(np.random.default_rng(2), 600, effect=1, bias=1), resamples=200)
    assert found["raw"] > truth
    assert 0.5 < found["low"] <= truth <= found["high"]


def test_coverage_of_the_controlled_rate():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(100):
        found = length_controlled(*judge(rng, 100, effect=0.5, bias=1), resamples=100)
        inside += found["low"] <= expit(0.5) <= found["high"]
    assert inside / 100 >= 0.88


def test_the_fit_is_that_of_a_general_minimiser():
    verdicts, lengths = judge(np.random.default_rng(4), 200, effect=0.3, bias=-1)
    verdicts[:30] = ["tie"] * 30
    y = np.array([POINTS[verdict] for verdict in verdicts])
    x = np.tanh(lengths / lengths[~np.isnan(y)].std(ddof=1))[~np.isnan(y)]
    y = y[~np.isnan(y)]

    def loss(beta):
        logit = beta[0] + beta[1] * x
        return (np.logaddexp(0, logit) - y * logit).sum() + beta @ beta / (2 * PRIOR**2)

    trusted = minimize(loss, [0, 0], tol=1e-10).x
    found = length_controlled(verdicts, lengths, resamples=10)
    assert found["controlled"] == pytest.approx(expit(trusted[0]), abs=1e-5)
    assert found["slope"] == pytest.approx(trusted[1], abs=1e-4)


def test_the_sign_of_length_is_free():
    verdicts, lengths = judge(np.random.default_rng(5), 200, effect=0.5, bias=1)
    turned = [{"win": "lose", "lose": "win"}.get(verdict) for verdict in verdicts]
    one = length_controlled(verdicts, lengths, resamples=10)
    other = length_controlled(turned, -lengths, resamples=10)
    assert one["controlled"] == pytest.approx(1 - other["controlled"])
    assert one["slope"] == pytest.approx(other["slope"])


def test_questions_are_drawn_with_all_their_cells():
    verdicts, lengths = judge(np.random.default_rng(6), 100, effect=0.5, bias=1)
    one = length_controlled(verdicts, lengths, resamples=500)
    nine = length_controlled([verdicts] * 9, np.tile(lengths, (9, 1)), resamples=500)
    assert nine["high"] - nine["low"] == pytest.approx(one["high"] - one["low"], rel=0.1)


def test_separation_is_said_and_stays_finite():
    lengths = np.arange(-20, 21)
    verdicts = ["win" if length > 3 else "lose" for length in lengths]
    found = length_controlled(verdicts, lengths, resamples=100)
    assert found["separated"] and np.isfinite([found["slope"], found["low"], found["high"]]).all()
    assert length_controlled(["win"] * 41, lengths, resamples=10)["separated"]
    verdicts[0] = "win"
    assert not length_controlled(verdicts, lengths, resamples=10)["separated"]


def test_answers_of_equal_length_need_no_control():
    found = length_controlled(["win"] * 30 + ["lose"] * 10, [0] * 40, resamples=10)
    assert found["controlled"] == pytest.approx(0.75, abs=1e-3) and found["longer"] == 0


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="'win', 'tie', 'lose' or None; got 'won'"):
        win_tie_lose(["won"])
    with pytest.raises(ValueError, match="one verdict per question"):
        win_tie_lose([["win"], ["lose"]])
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(1, 3\)"):
        length_controlled(["win", "lose"], [1, 2, 3])
    with pytest.raises(ValueError, match="differs by 5 in length"):
        length_controlled(["win", "lose"], [5, 5])
    with pytest.raises(ValueError, match="two readable verdicts"):
        length_controlled(["win", None], [1, 2])
