from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap

from knowtuning.evaluation.stats import bootstrap_difference, mean_interval, ratio_interval


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(3)
    skill = rng.normal(size=120)
    return skill + rng.normal(0.2, 0.3, 120), skill + rng.normal(0, 0.3, 120)


def test_paired_mean_equals_scipys_percentile_bootstrap(arms):
    a, b = arms
    found = bootstrap_difference(a, b, resamples=2000, seed=7)
    trusted = bootstrap(
        (a, b),
        lambda x, y, axis=-1: x.mean(axis) - y.mean(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((trusted.low, trusted.high))
    assert found["difference"] == pytest.approx(np.mean(a) - np.mean(b))


def test_pooled_ratio_equals_scipys_percentile_bootstrap():
    rng = np.random.default_rng(5)
    one, other = (np.stack([rng.integers(0, 9, 80), rng.integers(9, 12, 80)], axis=1) for _ in range(2))
    found = bootstrap_difference(one.tolist(), other.tolist(), "ratio", resamples=2000, seed=1)
    trusted = bootstrap(
        (one[:, 0], one[:, 1], other[:, 0], other[:, 1]),
        lambda p, q, r, s, axis=-1: p.sum(axis) / q.sum(axis) - r.sum(axis) / s.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((trusted.low, trusted.high))


def test_the_interval_is_that_of_all_resamples_where_they_can_be_enumerated():
    a, b = [3.0, 0.0, 1.0], [1.0, 1.0, 0.0]  # differences 2, -1, 1
    means = [np.mean([(2, -1, 1)[k] for k in draw]) for draw in itertools.product(range(3), repeat=3)]
    found = bootstrap_difference(a, b, resamples=40_000)
    # 1 of 27 resamples is (-1, -1, -1), so 2.5 % falls on it; likewise (2, 2, 2) above
    assert (found["low"], found["high"]) == (min(means), max(means)) == (-1, 2)
    assert found["difference"] == pytest.approx(2 / 3)


def test_a_ratio_is_pooled_not_averaged():
    found = bootstrap_difference([(1, 1), (0, 3)], [(0, 1), (1, 1)], "ratio")
    assert found["difference"] == pytest.approx(1 / 4 - 1 / 2)


def test_pairing_takes_out_what_the_arms_share(arms):
    a, b = arms
    paired = bootstrap_difference(a, b)
    shuffled = bootstrap_difference(a, np.random.default_rng(0).permutation(b))
    assert paired["high"] - paired["low"] < 0.6 * (shuffled["high"] - shuffled["low"])


def test_a_question_without_a_value_in_either_arm_is_left_out_of_both():
    found = bootstrap_difference([1.0, None, 0.5, 9.0], [0.5, 7.0, 0.5, float("nan")])
    assert (found["difference"], found["n"], found["missing"]) == (0.25, 2, 2)


def test_no_difference_has_an_interval_around_zero_and_a_sure_one_does_not():
    same = bootstrap_difference([0.1, 0.9, 0.4] * 20, [0.1, 0.9, 0.4] * 20)
    assert same["low"] == same["high"] == 0
    sure = bootstrap_difference([1.0, 1.2, 0.9] * 20, [0.0, 0.1, 0.0] * 20)
    assert sure["low"] > 0.8


def test_coverage_of_the_95_percent_interval():
    rng = np.random.default_rng(11)
    inside = 0
    for trial in range(200):
        found = mean_interval(rng.exponential(1.0, 60), resamples=400, seed=trial)
        inside += found["low"] <= 1 <= found["high"]
    assert 0.88 <= inside / 200 <= 0.98


def test_the_seed_decides_and_blocks_do_not(arms, monkeypatch):
    whole = bootstrap_difference(*arms, resamples=500)
    assert bootstrap_difference(*arms, resamples=500) == whole
    assert bootstrap_difference(*arms, resamples=500, seed=1)["low"] != whole["low"]
    monkeypatch.setattr("knowtuning.evaluation.stats._BLOCK", 1000)
    assert bootstrap_difference(*arms, resamples=500) == whole


def test_intervals_of_one_arm():
    found = mean_interval([1.0, None, 2.0, 3.0])
    assert (found["value"], found["n"], found["missing"]) == (2, 3, 1)
    assert 1 <= found["low"] < 2 < found["high"] <= 3
    assert ratio_interval([(3, 4), (0, 0), (5, 6)])["value"] == 0.8


def test_what_is_not_defined_is_none():
    assert bootstrap_difference([None], [1.0])["difference"] is None
    assert ratio_interval([(0, 0), (0, 0)]) == {"value": None, "low": None, "high": None, "n": 2, "missing": 0}
    assert mean_interval([])["value"] is None


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="one has 2 values, the other 1"):
        bootstrap_difference([1, 2], [1])
    with pytest.raises(ValueError, match="'median'; use 'mean' or 'ratio'"):
        bootstrap_difference([1], [1], "median")
    with pytest.raises(ValueError, match="question 1 has 3; the statistic 'ratio' needs a pair"):
        ratio_interval([(1, 2), 3])
