from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from study.lengths import PRIOR, length_controlled


def judge(rng, cells, questions, effect, bias, mean=15.0):
    """Games with a true effect and a bias for length, both in logits, and the length differences."""
    lengths = np.round(rng.normal(mean, 20, (cells, questions)))
    chance = expit(effect + bias * np.tanh(lengths / lengths.std(ddof=1)))
    return np.where(rng.random(lengths.shape) < chance, 1, -1), lengths


def test_wins_that_come_from_length_alone_vanish_at_equal_length():
    won, lengths = judge(np.random.default_rng(1), 5, 300, effect=0, bias=2)
    controlled = length_controlled(won, lengths, resamples=200)
    assert (won > 0).mean() > 0.62 and controlled["rate_low"] <= 0.5 <= controlled["rate_high"]
    assert controlled["rate_at_equal_length"] == pytest.approx(0.5, abs=0.05)


def test_a_real_effect_survives_length_control():
    truth = expit(1.0)
    won, lengths = judge(np.random.default_rng(2), 1, 600, effect=1, bias=1)
    controlled = length_controlled(won, lengths, resamples=200)
    assert (won > 0).mean() > truth
    assert 0.5 < controlled["rate_low"] <= truth <= controlled["rate_high"]


def test_coverage_of_the_controlled_rate():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        controlled = length_controlled(*judge(rng, 1, 100, effect=0.5, bias=1), resamples=150)
        inside += controlled["rate_low"] <= expit(0.5) <= controlled["rate_high"]
    assert inside / 200 >= 0.9


def test_the_fit_is_that_of_a_general_minimiser():
    won, lengths = judge(np.random.default_rng(4), 1, 200, effect=0.3, bias=-1)
    won[0, :30] = 0
    y, x = (won[0] + 1) / 2, np.tanh(lengths[0] / lengths[0].std(ddof=1))

    def loss(beta):
        logit = beta[0] + beta[1] * x
        return (np.logaddexp(0, logit) - y * logit).sum() + beta @ beta / (2 * PRIOR**2)

    trusted = minimize(loss, [0, 0], tol=1e-10).x
    controlled = length_controlled(won, lengths, resamples=10)
    assert controlled["rate_at_equal_length"] == pytest.approx(expit(trusted[0]), abs=1e-5)


def test_the_sign_of_length_is_free():
    won, lengths = judge(np.random.default_rng(5), 2, 100, effect=0.5, bias=1)
    rate, turned = (length_controlled(*pair, resamples=10) for pair in ((won, lengths), (-won, -lengths)))
    assert rate["rate_at_equal_length"] == pytest.approx(1 - turned["rate_at_equal_length"])


def test_questions_are_drawn_with_all_their_cells():
    won, lengths = judge(np.random.default_rng(6), 1, 100, effect=0.5, bias=1)
    once = length_controlled(won, lengths, resamples=500)
    nine = length_controlled(np.repeat(won, 9, axis=0), np.repeat(lengths, 9, axis=0), resamples=500)
    assert nine["rate_high"] - nine["rate_low"] == pytest.approx(once["rate_high"] - once["rate_low"], rel=0.1)


def test_wins_and_losses_that_length_parts_stay_finite():
    lengths = np.arange(-20, 21)[None]
    for won in (np.where(lengths > 3, 1, -1), np.ones((1, 41))):
        assert np.isfinite(list(length_controlled(won, lengths, resamples=100).values())).all()


def test_answers_of_equal_length_need_no_control_and_a_constant_difference_has_none():
    won = np.array([[1] * 30 + [-1] * 10])
    equal = length_controlled(won, np.zeros((1, 40)), resamples=10)
    assert equal["rate_at_equal_length"] == pytest.approx(0.75, abs=1e-3) and equal["longer"] == 0
    assert set(length_controlled(won, np.full((1, 40), 5.0)).values()) == {None}
