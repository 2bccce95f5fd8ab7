from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from knowtuning.evaluation.stats import bootstrap_difference
from study.seeds import Paired, crossed, over_cells, variance_components


def table(rng, cells, questions, seed=0.0, question=0.0, residual=1.0, effect=0.0):
    """Differences (cells, questions) of known mean and standard deviations."""
    part = seed * rng.normal(size=(cells, 1)) + question * rng.normal(size=(1, questions))
    return effect + part + residual * rng.normal(size=(cells, questions))


def against_zero(differences):
    return Paired(differences, np.zeros_like(differences))


@pytest.mark.parametrize(
    ("cells", "spread"),
    [(4, (3, 3, 10)), (5, (3.9, 5, 18.8)), (10, (0, 0, 10)), (12, (3, 10, 10)), (10, (0.5, 0, 10))],
)
def test_coverage_of_the_two_way_interval(cells, spread):
    rng = np.random.default_rng(cells)
    inside = 0
    for _ in range(400):
        found = crossed(against_zero(table(rng, cells, 60, *spread, effect=1)), resamples=200)
        inside += found["low"] <= 1 <= found["high"]
    assert inside / 400 >= 0.92


def test_percentiles_would_not_cover_with_few_cells():
    rng = np.random.default_rng(0)
    cells, questions = (rng.multinomial(n, [1 / n] * n, 400) for n in (5, 300))
    inside = 0
    for _ in range(400):
        drawn = table(rng, 5, 300, 3.9, 5, 18.8)
        low, high = np.quantile(((cells @ drawn) * questions).sum(axis=1) / 1500, [0.025, 0.975])
        inside += low <= 0 <= high
    assert 0.86 < inside / 400 < 0.92


def test_each_interval_speaks_of_what_it_varies():
    rng = np.random.default_rng(1)
    by_seed = crossed(against_zero(table(rng, 6, 200, seed=5, residual=1)))
    assert by_seed["questions"]["high"] - by_seed["questions"]["low"] < 0.5
    assert by_seed["seeds"]["high"] - by_seed["seeds"]["low"] > 4
    by_question = crossed(against_zero(table(rng, 6, 50, question=5, residual=0.1)))
    assert by_question["seeds"]["high"] - by_question["seeds"]["low"] < 0.2
    assert by_question["questions"]["high"] - by_question["questions"]["low"] > 2
    for found in (by_seed, by_question):
        for part in ("seeds", "questions"):
            assert found["high"] - found["low"] >= found[part]["high"] - found[part]["low"] - 1e-9


def test_the_parts_equal_scipys():
    differences = table(np.random.default_rng(2), 7, 40, 1, 1, 3, effect=1)
    found = crossed(against_zero(differences))
    by_cell = differences.mean(axis=1)
    trusted = stats.ttest_1samp(by_cell, 0)
    assert over_cells(by_cell)["p"] == pytest.approx(trusted.pvalue)
    ends = trusted.confidence_interval()
    assert (found["seeds"]["low"], found["seeds"]["high"]) == pytest.approx((ends.low, ends.high))
    assert found["by_cell"] == pytest.approx(by_cell)
    assert found["difference"] == pytest.approx(by_cell.mean())
    boot = bootstrap_difference(differences.mean(axis=0), np.zeros(40))
    assert found["questions"]["low"] == pytest.approx(boot["low"], abs=0.05)
    assert found["questions"]["high"] == pytest.approx(boot["high"], abs=0.05)


def test_a_ratio_is_pooled_in_each_cell():
    rng = np.random.default_rng(3)
    said = rng.integers(0, 9, (2, 5, 80)).astype(float)
    right = np.stack([rng.binomial(said[0].astype(int), 0.8), rng.binomial(said[1].astype(int), 0.7)]).astype(float)
    found = crossed(Paired(100 * right[0], 100 * right[1], said[0], said[1]))
    by_cell = [100 * (right[0, c].sum() / said[0, c].sum() - right[1, c].sum() / said[1, c].sum()) for c in range(5)]
    assert found["by_cell"] == pytest.approx(by_cell)


def test_a_ratio_of_a_constant_denominator_is_a_mean():
    a, b = np.random.default_rng(4).normal(size=(2, 4, 50))
    four = np.full_like(a, 4)
    found, trusted = crossed(Paired(4 * a, 4 * b, four, four)), crossed(Paired(a, b))
    for name in ("difference", "low", "high", "p"):
        assert found[name] == pytest.approx(trusted[name])
    for name in ("seed", "question", "residual"):
        assert found["variance"][name] == pytest.approx(trusted["variance"][name])


def test_coverage_of_a_pooled_ratio():
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        skill = 0.7 + 0.05 * rng.normal(size=(8, 1)) + 0.1 * rng.uniform(-1, 1, size=(1, 60))
        said = rng.integers(1, 9, (2, 8, 60))
        right = rng.binomial(said, np.clip(np.stack([skill, np.full_like(skill, 0.7)]), 0, 1))
        found = crossed(Paired(right[0], right[1], said[0], said[1]), resamples=200)
        inside += found["low"] <= 0 <= found["high"]
    assert inside / 300 >= 0.92


def test_variance_components_are_recovered():
    rng = np.random.default_rng(6)
    found = [variance_components(table(rng, 8, 100, 2, 3, 5)) for _ in range(200)]
    for name, truth in (("seed", 4), ("question", 9), ("residual", 25)):
        assert np.mean([row[name] for row in found]) == pytest.approx(truth, rel=0.1)


def test_variance_components_of_a_full_table_are_those_of_the_analysis_of_variance():
    values = table(np.random.default_rng(7), 5, 20, 2, 2, 1)
    cells, questions = values.shape
    by_cell, by_question = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - by_cell - by_question + values.mean()) ** 2).sum() / ((cells - 1) * (questions - 1))
    found = variance_components(values)
    assert found["residual"] == pytest.approx(rest)
    assert found["seed"] == pytest.approx(by_cell.var(ddof=1) - rest / questions)
    assert found["question"] == pytest.approx(by_question.var(ddof=1) - rest / cells)


def test_variance_components_with_missing_values_are_unbiased():
    rng = np.random.default_rng(8)
    found = []
    for _ in range(200):
        values = table(rng, 8, 100, 2, 3, 5)
        values[rng.random(values.shape) < 0.4] = np.nan
        found.append(variance_components(values))
    for name, truth in (("seed", 4), ("question", 9), ("residual", 25)):
        assert np.mean([row[name] for row in found]) == pytest.approx(truth, rel=0.1)


def test_a_negative_variance_is_set_to_zero():
    alternating = np.array([[1.0, -1.0] * 10, [-1.0, 1.0] * 10])  # cells are more alike than chance allows
    found = variance_components(alternating)
    assert found["seed"] == found["question"] == 0 < found["residual"]
    assert variance_components(np.ones((3, 4))) == {"seed": 0, "question": 0, "residual": 0}


def test_a_question_without_a_value_is_left_out_of_both_arms_of_its_cell():
    a = np.array([[1.0, 2.0, np.nan, 4.0], [1.0, 1.0, 1.0, 1.0]])
    b = np.array([[0.0, np.nan, 9.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = crossed(Paired(a, b))
    assert found["by_cell"] == [2.0, 1.0] and found["missing"] == 2
    assert (found["cells"], found["questions_n"]) == (2, 4)


def test_a_cell_without_any_value_is_left_out_and_counted():
    a = np.array([[np.nan] * 3, [1.0, 2.0, 3.0], [2.0, 3.0, 5.0]])
    found = crossed(Paired(a, np.zeros((3, 3))), groups=["x", "x", "y"])
    assert found["by_cell"][0] is None and found["cells"] == 2 and found["missing"] == 3
    assert found["by_group"] == {"x": 2.0, "y": 10 / 3}
    nothing = crossed(Paired(a[:1], np.zeros((1, 3))))
    assert nothing["difference"] is None and nothing["low"] is None and nothing["cells"] == 0


def test_one_cell_says_nothing_of_other_trainings():
    a = np.random.default_rng(9).normal(1, 1, (1, 100))
    found = crossed(against_zero(a))
    assert found["seeds"] is found["variance"] is found["p"] is None
    assert (found["low"], found["high"]) == (found["questions"]["low"], found["questions"]["high"])
    assert found["low"] < a.mean() < found["high"]


def test_groups_have_their_own_means():
    a = np.repeat([[1.0], [2.0], [6.0], [8.0]], 10, axis=1)
    found = crossed(against_zero(a), groups=[0, 0, 1, 1])["by_group"]
    assert found == {0: 1.5, 1: 7.0}


def test_over_cells_by_hand():
    found = over_cells(np.array([1.0, 2.0, 3.0]))
    assert found["difference"] == 2 and found["high"] == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    assert over_cells(np.array([1.0])) == {"difference": 1.0, "low": None, "high": None, "p": None}


def test_an_arm_does_not_differ_from_itself():
    a = np.random.default_rng(10).normal(size=(3, 20))
    found = crossed(Paired(a, a))
    assert found["difference"] == found["low"] == found["high"] == 0 and found["p"] == 1


def test_the_seed_decides():
    differences = against_zero(table(np.random.default_rng(11), 4, 30, 1, 1, 1))
    assert crossed(differences) == crossed(differences)
    assert crossed(differences)["low"] != crossed(differences, seed=1)["low"]


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"one shape \(cells, questions\)"):
        Paired(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="denominators of both arms"):
        Paired(np.zeros((2, 3)), np.zeros((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="got 1 for 2 cells"):
        crossed(Paired(np.zeros((2, 3)), np.zeros((2, 3))), groups=["a"])
